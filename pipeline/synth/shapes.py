"""The shapes, textures and backdrops of the built-in data set, in integer arithmetic: the same pixels everywhere.

Objects are drawn in *local coordinates* (u, v), turned with the object: `UNIT` is its outer radius.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.synth.draws import Draws

Ints = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]
Whole = TypeVar("Whole", int, Ints)
Colour = tuple[int, int, int]

UNIT = 1024
TURN = 1024
"""Angles are counted in 1024ths of a turn, hues in 1536ths of the colour circle."""
HUES = 1536
SINE_BITS = 14
# No entry of the table lies near a half before rounding (tests look), so any libm gives the same integers.
_SINES = tuple(round(math.sin(2 * math.pi * k / TURN) * (1 << SINE_BITS)) for k in range(TURN))
# Distance from the centre by its square, in units of UNIT / 128, out to beyond the corners of an object's patch.
_ROOTS = np.array([math.isqrt(squared) for squared in range(3 * 128 * 128)], np.int32)


def sine(angle: int) -> int:
    """Sine of an angle in 1024ths of a turn, times 2**14."""
    return _SINES[angle % TURN]


def cosine(angle: int) -> int:
    """Cosine of an angle in 1024ths of a turn, times 2**14."""
    return _SINES[(angle + TURN // 4) % TURN]


def triangle_wave(position: Whole, length: int) -> Whole:
    """To and fro between 0 and `length`, as a ball between two walls."""
    return length - abs(position % (2 * length) - length)


def colour_of(hue: int, saturation: int, value: int) -> Colour:
    """RGB, 0 to 255 each, of a hue (0 to 1535), saturation and value (0 to 255)."""

    def channel(shift: int) -> int:
        distance = abs((hue + shift) % HUES - HUES // 2)  # 768 at the channel's own hue, 0 opposite
        share = min(max(distance - 256, 0), 256)
        return value * (255 * 256 - saturation * (256 - share)) // (255 * 256)

    return channel(0), channel(HUES * 2 // 3), channel(HUES // 3)


def _half_planes(u: Ints, v: Ints, n_sides: int, inradius: int, n_outside: int = 0) -> Mask:
    """Points outside at most so many of the lines that bound a regular polygon."""
    outside = np.zeros(u.shape, np.uint8)
    for side in range(n_sides):
        angle = TURN * side // n_sides
        outside += (cosine(angle) * u + sine(angle) * v) >> SINE_BITS > inradius
    return outside <= n_outside


# Sized so that all cover about the same area and fit in the radius.
SHAPES: dict[str, Callable[[Ints, Ints], Mask]] = {
    "disc": lambda u, v: u * u + v * v <= 780 * 780,
    "square": lambda u, v: np.maximum(abs(u), abs(v)) <= 690,
    "triangle": lambda u, v: _half_planes(u, v, 3, UNIT // 2),
    # The tips of a five-pointed star lie outside exactly one of the five lines that make it.
    "star": lambda u, v: _half_planes(u, v, 5, UNIT * 309 // 1000, n_outside=1),
}


def _dots(u: Ints, v: Ints, cell: int) -> Mask:
    pitch = cell * 3 // 2
    x, y = u % pitch - pitch // 2, v % pitch - pitch // 2
    return x * x + y * y < (pitch * 2 // 5) ** 2


# Each is two-coloured, about half and half, so that the mean colour says nothing.
TEXTURES: dict[str, Callable[[Ints, Ints, int], Mask]] = {
    "striped": lambda u, v, cell: (u // cell) & 1 == 1,
    "checked": lambda u, v, cell: ((u // cell) ^ (v // cell)) & 1 == 1,
    "dotted": _dots,
    "ringed": lambda u, v, cell: (_ROOTS[(u * u + v * v) >> 6] * 8 // cell) & 1 == 1,
}


def _clouds(draws: Draws, height: int, width: int) -> Ints:
    """Random values on a coarse grid, joined smoothly."""
    pitch = 24
    grid = draws.array(256, (height // pitch + 2, width // pitch + 2))
    y, x = np.arange(height, dtype=np.int32)[:, None], np.arange(width, dtype=np.int32)[None, :]
    row, column, fy, fx = y // pitch, x // pitch, y % pitch, x % pitch
    top = grid[row, column] * (pitch - fx) + grid[row, column + 1] * fx
    bottom = grid[row + 1, column] * (pitch - fx) + grid[row + 1, column + 1] * fx
    return (top * (pitch - fy) + bottom * fy) // (pitch * pitch)


def _plaid(draws: Draws, height: int, width: int) -> Ints:
    """Two soft waves, one across and one down."""
    y, x = np.arange(height, dtype=np.int32)[:, None], np.arange(width, dtype=np.int32)[None, :]
    across, down = draws.among(range(18, 40)), draws.among(range(18, 40))
    x, y = x + draws.below(256), y + draws.below(256)
    return triangle_wave(x * 127 // across, 127) + triangle_wave(y * 127 // down, 127)


def _blocks(draws: Draws, height: int, width: int) -> Ints:
    """Tiles of random brightness."""
    pitch = draws.among(range(14, 30))
    grid = draws.array(256, (height // pitch + 1, width // pitch + 1))
    return np.repeat(np.repeat(grid, pitch, axis=0), pitch, axis=1)[:height, :width]


def _cells(draws: Draws, height: int, width: int) -> Ints:
    """Ragged patches, each around a random point (a Voronoi diagram)."""
    y, x = np.arange(height, dtype=np.int32)[:, None], np.arange(width, dtype=np.int32)[None, :]
    nearest = np.full((height, width), np.iinfo(np.int32).max, np.int32)
    field = np.zeros((height, width), np.int32)
    for _ in range(40):
        distance = (y - draws.below(height)) ** 2 + (x - draws.below(width)) ** 2
        field = np.where(distance < nearest, draws.below(256), field)
        nearest = np.minimum(distance, nearest)
    return field


def _ripples(draws: Draws, height: int, width: int) -> Ints:
    """Slanting waves that bend."""
    y, x = np.arange(height, dtype=np.int32)[:, None], np.arange(width, dtype=np.int32)[None, :]
    bend = triangle_wave(y + draws.below(256), draws.among(range(30, 60)))
    slant = x * draws.among(range(2, 5)) + y * draws.among(range(-3, 4)) + bend + draws.below(256)
    return triangle_wave(slant * 2, 255)


BACKDROPS: dict[str, Callable[[Draws, int, int], Ints]] = {
    "clouds": _clouds,
    "plaid": _plaid,
    "blocks": _blocks,
    "cells": _cells,
    "ripples": _ripples,
}
"""name -> (draws, height, width) -> int32 (height, width), 0 to 255: how much of the second colour shows."""
