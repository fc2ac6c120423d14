"""Sequences of random numbers, each fixed by its seed and purpose."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from vclimb.pipeline.clips.dice import bits

_BLOCK = 64


class RandomNumbers:
    """A sequence of random numbers that depends on its key alone, and on no other sequence.

    Args:
        key: Seed, and numbers that tell this sequence from others of the seed.
    """

    def __init__(self, *key: int) -> None:
        self._key = key
        self._n_taken = 0
        self._block: list[int] = []

    def below(self, limit: int) -> int:
        if not self._block:
            self._block = self._take(_BLOCK).tolist()
        return self._block.pop() % limit

    def among(self, *ranges: range) -> int:
        """Draw a number from the union of ranges that don't overlap."""
        numbers = [*itertools.chain(*ranges)]
        return numbers[self.below(len(numbers))]

    def array(self, limit: int, shape: tuple[int, int]) -> npt.NDArray[np.int32]:
        """Draw numbers from 0 to `limit - 1` as an int32 array."""
        words = self._take(shape[0] * shape[1])
        return (words % np.uint64(limit)).astype(np.int32).reshape(shape)

    def _take(self, count: int) -> npt.NDArray[np.uint64]:
        words = bits(*self._key, self._n_taken + np.arange(count, dtype=np.int64))
        self._n_taken += count
        return words
