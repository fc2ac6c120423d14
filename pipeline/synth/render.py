"""Rendering of a clip: textured objects move before a backdrop, with noise.

All arithmetic is in integers, so that the same seed gives the same pixels on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vclimb.pipeline.synth.backdrops import BACKDROPS
from vclimb.pipeline.synth.painting import SUB, Canvas, Pose, paint
from vclimb.pipeline.synth.random_numbers import RandomNumbers
from vclimb.pipeline.synth.scenes import BACKDROP, CLASSES, MOTION, Clip, Look, Scene, Style
from vclimb.pipeline.synth.shapes import SINE_BITS, TURN, colour_of, sine, triangle_wave
from vclimb.pipeline.synth.trajectories import OBJECTS, Trajectory

Frames = npt.NDArray[np.uint8]
"""(T, H, W, 3) RGB."""

_MARGIN = 48  # pixels by which backdrop and noise exceed the frame, to pan over
_NOISE = 8  # levels of brightness, around 0
_WAY = 1000  # positions along a path are in thousandths
_DRIFTS = range(150, 500)  # changes of an object's hue, in 1536ths of the colour circle a second


def render_clip(clip: Clip) -> Frames:
    """Render the frames of a clip, (T, H, W, 3) uint8 RGB: a pure function of the clip."""
    return _render_appearance(clip) if clip.trajectory is None else _render_trajectory(clip, clip.trajectory)


def _render_appearance(clip: Clip) -> Frames:
    """Render objects of the class' shape and texture, which move, turn and change colour before a moving backdrop."""
    scene, rng = clip.scene(), clip.rng(MOTION, clip.index, clip.class_number)
    height, width = scene.height, scene.width
    texture, shape = CLASSES[clip.class_number]
    backdrop = _draw_backdrop(scene, clip.rng(BACKDROP, clip.index))
    pan = _Pan.draw(rng, clip.style)
    movers = [_Mover.draw(rng, clip.style) for _ in scene.looks]
    noise = (rng.array(_NOISE, backdrop.shape[1:]) - _NOISE // 2).astype(np.int16)
    frames = np.empty((clip.n_frames(), height, width, 3), np.uint8)
    for number, frame in enumerate(frames):
        milliseconds = number * 1000 // scene.rate
        top, left = pan.at(milliseconds)
        canvas = backdrop[:, top : top + height, left : left + width].copy()
        for look, mover in zip(scene.looks, movers, strict=True):
            paint(canvas, shape, texture, look.cell, mover.pose(look, milliseconds, width, height))
        top, left = rng.below(_MARGIN), rng.below(_MARGIN)
        canvas += noise[top : top + height, left : left + width]
        frame[...] = np.clip(canvas, 0, 255).transpose(1, 2, 0)
    return frames


def _render_trajectory(clip: Clip, trajectory: Trajectory) -> Frames:
    """Render the scene's states, the same for every class, in the order of the trajectory."""
    scene, n_frames = clip.scene(), clip.n_frames()
    rng, height, width = clip.rng(MOTION, clip.index), scene.height, scene.width
    backdrop = _draw_backdrop(scene, clip.rng(BACKDROP, clip.index))
    noise = (rng.array(_NOISE, backdrop.shape[1:]) - _NOISE // 2).astype(np.int16)
    columns = (1, 2) if rng.below(2) else (2, 1)  # in thirds of the width
    faller = [
        _Faller.draw(rng, clip.style, look, scene, column) for look, column in zip(scene.looks, columns, strict=True)
    ]
    n_first = n_frames // 2
    states = np.empty((n_frames, height, width, 3), np.uint8)
    for number, frame in enumerate(states):
        canvas = backdrop[:, :height, :width].copy()
        turns = ((number, n_first), (0, 1)) if number < n_first else ((0, 1), (number - n_first, n_frames - n_first))
        for (texture, shape), look, mover, turn in zip(OBJECTS, scene.looks, faller, turns, strict=True):
            paint(canvas, shape, texture, look.cell, mover.pose(*turn))
        top, left = rng.below(_MARGIN), rng.below(_MARGIN)
        canvas += noise[top : top + height, left : left + width]
        frame[...] = np.clip(canvas, 0, 255).transpose(1, 2, 0)
    return states[trajectory.states(n_frames)]


def _draw_backdrop(scene: Scene, rng: RandomNumbers) -> Canvas:
    """Draw the backdrop, with its margin at the bottom and on the right."""
    share = BACKDROPS[scene.backdrop](rng, scene.height + _MARGIN, scene.width + _MARGIN)
    first, second = (np.array(colour, np.int32)[:, None, None] for colour in scene.backdrop_colours)
    return ((first * (255 - share) + second * share) // 255).astype(np.int16)


@dataclass(frozen=True)
class _Pan:
    """Motion of the backdrop, down and across, in pixels and pixels a second."""

    starts: tuple[int, int]
    speeds: tuple[int, int]

    @classmethod
    def draw(cls, rng: RandomNumbers, style: Style) -> _Pan:
        return cls((rng.below(_MARGIN), rng.below(_MARGIN)), (rng.among(style.pans), rng.among(style.pans)))

    def at(self, milliseconds: int) -> tuple[int, int]:
        """Top and left of the frame on the backdrop."""
        down, across = _places(self.starts, self.speeds, milliseconds)
        return triangle_wave(down, _MARGIN), triangle_wave(across, _MARGIN)


@dataclass(frozen=True)
class _Mover:
    """Motion, rotation and change of colour of one object: start values, and changes a second."""

    style: Style
    starts: tuple[int, int]
    speeds: tuple[int, int]
    angle: int  # In 1024ths of a turn.
    spin: int
    hues: tuple[int, int]  # Positions among the hues of the split.
    drifts: tuple[int, int]

    @classmethod
    def draw(cls, rng: RandomNumbers, style: Style) -> _Mover:
        return cls(
            style,
            starts=(rng.below(2 * _WAY), rng.below(2 * _WAY)),
            speeds=(rng.among(style.speeds), rng.among(style.speeds)),
            angle=rng.below(TURN),
            spin=rng.among(style.spins) * (1 if rng.below(2) else -1),
            hues=(rng.below(style.n_hues), rng.below(style.n_hues)),
            drifts=(rng.among(_DRIFTS), rng.among(_DRIFTS)),
        )

    def pose(self, look: Look, milliseconds: int, width: int, height: int) -> Pose:
        """Place and turn of the object at a moment, wholly within a frame of some width and height."""
        radius = look.radius * min(height, width) * SUB // 1000
        x, y = self._place_at(milliseconds, width * SUB - 2 * radius, height * SUB - 2 * radius)
        tones = zip(_places(self.hues, self.drifts, milliseconds), look.tones, strict=True)
        first, second = (colour_of(self.style.hue(hue), *tone) for hue, tone in tones)
        angle = self.angle + self.spin * milliseconds // 1000
        return Pose(x + radius, y + radius, radius, angle, (first, second))

    def _place_at(self, milliseconds: int, width: int, height: int) -> tuple[int, int]:
        """Position across and down, within the width and height of the allowed area."""
        x, y = _places(self.starts, self.speeds, milliseconds)
        if not self.style.orbits:
            return triangle_wave(x, _WAY) * width // _WAY, triangle_wave(y, _WAY) * height // _WAY
        x, y = ((1 << SINE_BITS) + sine(way * TURN // (2 * _WAY)) for way in (x, y))
        return x * width >> SINE_BITS + 1, y * height >> SINE_BITS + 1


@dataclass(frozen=True)
class _Faller:
    """Fall of an object that turns once, leaves the frame at the bottom and comes back from the top to its start."""

    start: Pose
    height: int  # Length of the path in 64ths of a pixel: the frame's height and the object's.

    @classmethod
    def draw(cls, rng: RandomNumbers, style: Style, look: Look, scene: Scene, column: int) -> _Faller:
        # Half as large as where appearance tells the class, so that two objects have room beside each other.
        radius = look.radius * min(scene.height, scene.width) * SUB // 2000
        height = scene.height * SUB + 2 * radius
        first, second = (colour_of(style.hue(rng.below(style.n_hues)), *tone) for tone in look.tones)
        return cls(
            Pose(scene.width * SUB * column // 3, rng.below(height), radius, rng.below(TURN), (first, second)), height
        )

    def pose(self, state: int, n_states: int) -> Pose:
        y = (self.start.y + self.height * state // n_states) % self.height - self.start.radius
        return replace(self.start, y=y, angle=self.start.angle + TURN * state // n_states)


def _places(starts: tuple[int, int], speeds: tuple[int, int], milliseconds: int) -> tuple[int, int]:
    return starts[0] + speeds[0] * milliseconds // 1000, starts[1] + speeds[1] * milliseconds // 1000
