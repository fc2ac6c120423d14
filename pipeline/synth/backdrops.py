"""Backdrops: families of textures, each a whole picture that the camera pans over."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vclimb.pipeline.synth.random_numbers import RandomNumbers
from vclimb.pipeline.synth.shapes import Ints, triangle_wave


def _rows_and_columns(height: int, width: int) -> tuple[Ints, Ints]:
    return np.arange(height, dtype=np.int32)[:, None], np.arange(width, dtype=np.int32)[None, :]


def _clouds(rng: RandomNumbers, height: int, width: int) -> Ints:
    """Random brightness on a coarse grid, interpolated smoothly."""
    pitch = 24
    grid = rng.array(256, (height // pitch + 2, width // pitch + 2))
    y, x = _rows_and_columns(height, width)
    row, column, below, right = y // pitch, x // pitch, y % pitch, x % pitch
    upper: Ints = grid[row, column] * (pitch - right) + grid[row, column + 1] * right
    lower: Ints = grid[row + 1, column] * (pitch - right) + grid[row + 1, column + 1] * right
    total: Ints = upper * (pitch - below) + lower * below
    return total // pitch**2


def _plaid(rng: RandomNumbers, height: int, width: int) -> Ints:
    """A soft wave across and a soft wave down."""
    y, x = _rows_and_columns(height, width)
    across, down = rng.among(range(18, 40)), rng.among(range(18, 40))
    x, y = x + rng.below(256), y + rng.below(256)
    return triangle_wave(x * 127 // across, 127) + triangle_wave(y * 127 // down, 127)


def _blocks(rng: RandomNumbers, height: int, width: int) -> Ints:
    """Tiles of random brightness."""
    pitch = rng.among(range(14, 30))
    grid = rng.array(256, (height // pitch + 1, width // pitch + 1))
    return np.repeat(np.repeat(grid, pitch, axis=0), pitch, axis=1)[:height, :width]


def _cells(rng: RandomNumbers, height: int, width: int) -> Ints:
    """Voronoi cells of random brightness."""
    y, x = _rows_and_columns(height, width)
    nearest = np.full((height, width), np.iinfo(np.int32).max, np.int32)
    brightness = np.zeros((height, width), np.int32)
    for _ in range(40):
        distance = (y - rng.below(height)) ** 2 + (x - rng.below(width)) ** 2
        brightness[distance < nearest] = rng.below(256)
        nearest = np.minimum(distance, nearest)
    return brightness


def _ripples(rng: RandomNumbers, height: int, width: int) -> Ints:
    """Bent, slanting waves."""
    y, x = _rows_and_columns(height, width)
    bend = triangle_wave(y + rng.below(256), rng.among(range(30, 60)))
    slant = x * rng.among(range(2, 5)) + y * rng.among(range(-3, 4)) + bend + rng.below(256)
    return triangle_wave(slant * 2, 255)


BACKDROPS: dict[str, Callable[[RandomNumbers, int, int], Ints]] = {
    "clouds": _clouds,
    "plaid": _plaid,
    "blocks": _blocks,
    "cells": _cells,
    "ripples": _ripples,
}
"""name -> (rng, height, width) -> int32 (height, width), 0 to 255: share of the second colour."""
