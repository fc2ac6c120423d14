"""Painting of textured shapes, in integers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vclimb.pipeline.synth.shapes import SHAPES, SINE_BITS, TEXTURES, UNIT, Colour, Mask, cosine, sine

Canvas = npt.NDArray[np.int16]
"""(3, H, W) RGB, wide enough for sums. Planes, because numpy is slow along a last axis of three."""

SUB = 64
"""Positions are in 64ths of a pixel."""


@dataclass(frozen=True)
class Pose:
    """Place, size, turn and colours of an object at a moment.

    Attributes:
        x: Position of the centre from the left, in 64ths of a pixel.
        y: Position of the centre from the top, in 64ths of a pixel.
        radius: Radius in 64ths of a pixel.
        angle: Angle in 1024ths of a turn.
        colours: The two colours of the texture.
    """

    x: int
    y: int
    radius: int
    angle: int
    colours: tuple[Colour, Colour]


def paint(canvas: Canvas, shape: str, texture: str, cell: int, pose: Pose) -> None:
    """Paint the visible part of an object onto the canvas, with four samples a pixel for soft edges.

    Args:
        cell: Size of a texture cell in thousandths of the radius.
    """
    _, height, width = canvas.shape
    x, y, radius = pose.x, pose.y, pose.radius
    left, right = max((x - radius) // SUB, 0), min((x + radius) // SUB + 1, width)
    top, bottom = max((y - radius) // SUB, 0), min((y + radius) // SUB + 1, height)
    if left >= right or top >= bottom:
        return
    across = np.arange(2 * left, 2 * right, dtype=np.int32)[None, :] * (SUB // 2) + SUB // 4 - x
    down = np.arange(2 * top, 2 * bottom, dtype=np.int32)[:, None] * (SUB // 2) + SUB // 4 - y
    # Two more bits than the sines have; a patch's products still fit 32 bits.
    cos, sin = (value * (UNIT << 2) // radius for value in (cosine(pose.angle), sine(pose.angle)))
    u = (cos * across + sin * down) >> SINE_BITS + 2
    v = (cos * down - sin * across) >> SINE_BITS + 2
    inside = SHAPES[shape](u, v)
    second = TEXTURES[texture](u, v, cell * UNIT // 1000) & inside
    n_inside, n_second = _count_samples(inside), _count_samples(second)
    colours = np.array(pose.colours, np.int16)[..., None, None]
    patch = canvas[:, top:bottom, left:right]
    patch *= 4 - n_inside
    patch += colours[0] * (n_inside - n_second)
    patch += colours[1] * n_second
    patch >>= 2


def _count_samples(mask: Mask) -> npt.NDArray[np.int16]:
    """Count the set samples of each pixel, 0 to 4: int16 (H, W)."""
    samples = mask.astype(np.int16)
    return samples[::2, ::2] + samples[1::2, ::2] + samples[::2, 1::2] + samples[1::2, 1::2]
