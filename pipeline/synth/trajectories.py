"""Classes that only motion tells apart: trajectories of two objects that move one after the other.

Each motion takes its object along a closed path and visits every state of the path once. So all trajectories of a scene
consist of the same frames, and only the order of the frames differs. No reader of single frames can do better than
guessing, and neither can one that reads all frames without their order. Mirrored clips keep their class, because all
motions are up and down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

OBJECTS = (("striped", "disc"), ("checked", "cross"))
"""Texture and shape of the two objects, the same in every class."""

_PATHS: dict[str, Callable[[int], list[int]]] = {
    "falls": lambda n_states: [*range(n_states)],
    "rises": lambda n_states: [0, *range(n_states - 1, 0, -1)],
    # There over the even states, and back over the odd ones.
    "swings": lambda n_states: [*range(0, n_states, 2), *reversed(range(1, n_states, 2))],
}
"""Name of a motion -> number of states -> order in which the motion visits them, each once and state 0 first."""


@dataclass(frozen=True)
class Trajectory:
    """Motions of the two objects, and their order.

    Attributes:
        motions: Motion of each object.
        first: Number of the object that moves first; the other one moves when the first is back at its start.
    """

    motions: tuple[str, str]
    first: int

    @property
    def name(self) -> str:
        """Name of the class: `disc_falls_cross_rises`."""
        return "_".join(f"{OBJECTS[number][1]}_{self.motions[number]}" for number in (self.first, 1 - self.first))

    def states(self, n_frames: int) -> list[int]:
        """List the state that each frame shows, a permutation of 0 to `n_frames` - 1.

        In the first half of the states, object 0 moves and object 1 rests; in the others it is the other way round.
        """
        n_first = n_frames // 2
        paths = (
            _PATHS[self.motions[0]](n_first),
            [n_first + state for state in _PATHS[self.motions[1]](n_frames - n_first)],
        )
        return paths[self.first] + paths[1 - self.first]


TRAJECTORIES = tuple(
    Trajectory((first_motion, [*_PATHS][(number + shift) % len(_PATHS)]), first)
    for shift in (1, 2, 0)  # two different motions before two equal ones
    for number, first_motion in enumerate(_PATHS)
    for first in (0, 1)
)
TRAJECTORY_NAMES = tuple(trajectory.name for trajectory in TRAJECTORIES)
