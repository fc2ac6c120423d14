"""Rendering of a clip: textured objects move, turn and change colour before a moving backdrop, with noise.

All arithmetic is in integers, so that the same seed gives the same pixels on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vclimb.pipeline.synth.backdrops import BACKDROPS
from vclimb.pipeline.synth.random_numbers import RandomNumbers
from vclimb.pipeline.synth.scenes import BACKDROP, CLASSES, MOTION, Clip, Look, Scene, Style
from vclimb.pipeline.synth.shapes import (
    SHAPES,
    SINE_BITS,
    TEXTURES,
    TURN,
    UNIT,
    Mask,
    colour_of,
    cosine,
    sine,
    triangle_wave,
)

Frames = npt.NDArray[np.uint8]
"""(T, H, W, 3) RGB."""
_Canvas = npt.NDArray[np.int16]
"""(3, H, W) RGB, wide enough for sums. Planes, because numpy is slow along a last axis of three."""

_MARGIN = 48  # pixels by which backdrop and noise exceed the frame, to pan over
_NOISE = 8  # levels of brightness, around 0
_SUB = 64  # positions are in 64ths of a pixel
_WAY = 1000  # positions along a path are in thousandths
_DRIFTS = range(150, 500)  # changes of an object's hue, in 1536ths of the colour circle a second


def render_clip(clip: Clip) -> Frames:
    """Render the frames of a clip, (T, H, W, 3) uint8 RGB: a pure function of the clip."""
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
            _paint(canvas, shape, texture, look, mover, milliseconds)
        top, left = rng.below(_MARGIN), rng.below(_MARGIN)
        canvas += noise[top : top + height, left : left + width]
        frame[...] = np.clip(canvas, 0, 255).transpose(1, 2, 0)
    return frames


def _draw_backdrop(scene: Scene, rng: RandomNumbers) -> _Canvas:
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

    def place_at(self, milliseconds: int, width: int, height: int) -> tuple[int, int]:
        """Position across and down, within the width and height of the allowed area."""
        x, y = _places(self.starts, self.speeds, milliseconds)
        if not self.style.orbits:
            return triangle_wave(x, _WAY) * width // _WAY, triangle_wave(y, _WAY) * height // _WAY
        x, y = ((1 << SINE_BITS) + sine(way * TURN // (2 * _WAY)) for way in (x, y))
        return x * width >> SINE_BITS + 1, y * height >> SINE_BITS + 1


def _places(starts: tuple[int, int], speeds: tuple[int, int], milliseconds: int) -> tuple[int, int]:
    return starts[0] + speeds[0] * milliseconds // 1000, starts[1] + speeds[1] * milliseconds // 1000


def _paint(canvas: _Canvas, shape: str, texture: str, look: Look, mover: _Mover, milliseconds: int) -> None:
    """Paint an object at a moment onto the canvas, with four samples a pixel for soft edges."""
    _, height, width = canvas.shape
    radius = look.radius * min(height, width) * _SUB // 1000
    x, y = mover.place_at(milliseconds, width * _SUB - 2 * radius, height * _SUB - 2 * radius)
    x, y = x + radius, y + radius
    left, right = (x - radius) // _SUB, min((x + radius) // _SUB + 1, width)
    top, bottom = (y - radius) // _SUB, min((y + radius) // _SUB + 1, height)
    across = np.arange(2 * left, 2 * right, dtype=np.int32)[None, :] * (_SUB // 2) + _SUB // 4 - x
    down = np.arange(2 * top, 2 * bottom, dtype=np.int32)[:, None] * (_SUB // 2) + _SUB // 4 - y
    angle = mover.angle + mover.spin * milliseconds // 1000
    # Two more bits than the sines have; a patch's products still fit 32 bits.
    cos, sin = (value * (UNIT << 2) // radius for value in (cosine(angle), sine(angle)))
    u = (cos * across + sin * down) >> SINE_BITS + 2
    v = (cos * down - sin * across) >> SINE_BITS + 2
    inside = SHAPES[shape](u, v)
    second = TEXTURES[texture](u, v, look.cell * UNIT // 1000) & inside
    n_inside, n_second = _count_samples(inside), _count_samples(second)
    tones = zip(_places(mover.hues, mover.drifts, milliseconds), look.tones, strict=True)
    colours = np.array([colour_of(mover.style.hue(hue), *tone) for hue, tone in tones], np.int16)[..., None, None]
    patch = canvas[:, top:bottom, left:right]
    patch *= 4 - n_inside
    patch += colours[0] * (n_inside - n_second)
    patch += colours[1] * n_second
    patch >>= 2


def _count_samples(mask: Mask) -> npt.NDArray[np.int16]:
    """Count the set samples of each pixel, 0 to 4: int16 (H, W)."""
    samples = mask.astype(np.int16)
    return samples[::2, ::2] + samples[1::2, ::2] + samples[::2, 1::2] + samples[1::2, 1::2]
