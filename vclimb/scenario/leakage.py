"""How many evaluation clips show something that training has seen: another clip of the same recording.

Clips of one recording share scene, people and light, so that recognising the recording is enough. A split that
parts recordings overstates accuracy and, since a memory may hold the very recording, replay.
"""

from __future__ import annotations

from dataclasses import dataclass

from vclimb.scenario.scenario import Scenario


@dataclass(frozen=True)
class LeakageShare:
    """Evaluation clips whose source is in training data.

    Attributes:
        clips: that there are.
        leaked: that share their group (or, where none is known, their video) with a training clip of any task.
    """

    clips: int
    leaked: int

    @property
    def share(self) -> float | None:
        """From 0 to 1; None without clips."""
        return self.leaked / self.clips if self.clips else None


@dataclass(frozen=True)
class Leakage:
    """Leakage of a scenario's split.

    Attributes:
        split: that is evaluated, `val` or `test`.
        overall: over all tasks.
        tasks: of each task.
        unknown: clips of train and this split whose group isn't known; of those, only their own video is looked for.
    """

    split: str
    overall: LeakageShare
    tasks: tuple[LeakageShare, ...]
    unknown: int


def leakage(scenario: Scenario, split: str) -> Leakage:
    """Leakage from the training data of all tasks to an evaluation split.

    UCF101's official split parts recordings: 98.8 % of the benchmark's test clips have their source in train.
    """
    seen = {instance.source for instance in scenario.instances("train")}
    tasks = tuple(
        LeakageShare(len(clips), sum(clip.source in seen for clip in clips))
        for clips in (task.split(split) for task in scenario)
    )
    return Leakage(
        split,
        LeakageShare(sum(task.clips for task in tasks), sum(task.leaked for task in tasks)),
        tasks,
        sum(clip.group is None for name in ("train", split) for clip in scenario.instances(name)),
    )
