"""Shapes and textures of objects, and the integer geometry and colours to draw them.

Shapes and textures are functions of *local coordinates* (u, v), which turn with the object; its radius is `UNIT`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]
Whole = TypeVar("Whole", int, Ints)
Colour = tuple[int, int, int]
"""RGB, 0 to 255 each."""

UNIT = 1024
TURN = 1024  # angles are in 1024ths of a turn
HUES = 1536  # hues are in 1536ths of the colour circle, from red to green to blue
SINE_BITS = 14
# No sine lies near a half before it is rounded, so that every machine's maths library gives the same table.
_SINES = tuple(round(math.sin(2 * math.pi * angle / TURN) * (1 << SINE_BITS)) for angle in range(TURN))
# Distances by their squares, in units of UNIT / 128, out to beyond the corners of the square around an object.
_ROOTS = np.array([math.isqrt(square) for square in range(3 * 128 * 128)], np.int32)


def sine(angle: int) -> int:
    """Sine of an angle in 1024ths of a turn, times 2**14."""
    return _SINES[angle % TURN]


def cosine(angle: int) -> int:
    """Cosine of an angle in 1024ths of a turn, times 2**14."""
    return _SINES[(angle + TURN // 4) % TURN]


def triangle_wave(position: Whole, length: int) -> Whole:
    """Reflect a position into [0, length], as a ball between two walls."""
    return length - abs(position % (2 * length) - length)


def colour_of(hue: int, saturation: int, value: int) -> Colour:
    """Convert a hue (0 to 1535), saturation and value (0 to 255) to RGB."""

    def channel(channel_hue: int) -> int:
        distance = HUES // 2 - abs((hue - channel_hue) % HUES - HUES // 2)
        share = min(max(HUES // 3 - distance, 0), HUES // 6)  # full within a sixth of the circle, then falling
        return value * (255 * HUES // 6 - saturation * (HUES // 6 - share)) // (255 * HUES // 6)

    return channel(0), channel(HUES // 3), channel(HUES * 2 // 3)


def _half_planes(u: Ints, v: Ints, n_lines: int, distance: int, n_outside: int = 0) -> Mask:
    """Points outside at most `n_outside` of `n_lines` lines, evenly spaced around the centre at a distance."""
    outside = np.zeros(u.shape, np.uint8)
    for line in range(n_lines):
        angle = TURN * line // n_lines
        outside += (cosine(angle) * u + sine(angle) * v) >> SINE_BITS > distance
    return outside <= n_outside


# All shapes have about the same extent, and none exceeds the radius.
SHAPES: dict[str, Callable[[Ints, Ints], Mask]] = {
    "disc": lambda u, v: u * u + v * v <= 780 * 780,
    "cross": lambda u, v: (np.minimum(abs(u), abs(v)) <= 300) & (np.maximum(abs(u), abs(v)) <= 950),
    "triangle": lambda u, v: _half_planes(u, v, 3, UNIT // 2),
    # The tips of a five-pointed star lie beyond exactly one of the five lines that make it.
    "star": lambda u, v: _half_planes(u, v, 5, UNIT * 309 // 1000, n_outside=1),
}
"""name -> (u, v) -> mask of the points inside the object."""


def _dots(u: Ints, v: Ints, cell: int) -> Mask:
    pitch = cell * 3 // 2
    x, y = u % pitch - pitch // 2, v % pitch - pitch // 2
    return x * x + y * y < (pitch * 2 // 5) ** 2


# Each of the two colours covers about half.
TEXTURES: dict[str, Callable[[Ints, Ints, int], Mask]] = {
    "striped": lambda u, v, cell: (u // cell) & 1 == 1,
    "checked": lambda u, v, cell: ((u // cell) ^ (v // cell)) & 1 == 1,
    "dotted": _dots,
    "ringed": lambda u, v, cell: (_ROOTS[(u * u + v * v) >> 6] * 8 // cell) & 1 == 1,
}
"""name -> (u, v, size of a cell in local coordinates) -> mask of the points with the second colour."""
