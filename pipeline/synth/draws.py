"""Random numbers for drawing, one after the other, from the project's order-free ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vclimb.pipeline.clips.dice import bits

_BLOCK = 64


class Draws:
    """A sequence of draws that depends on the given numbers alone: no draw made elsewhere moves it.

    Args:
        chain: what is drawn for: the seed, then what tells this use from others.
    """

    def __init__(self, *chain: int) -> None:
        self._chain = chain
        self._n_taken = 0
        self._block: list[int] = []

    def below(self, limit: int) -> int:
        """A number from 0 to `limit - 1`."""
        if not self._block:
            self._block = self._take(_BLOCK).tolist()
        return self._block.pop() % limit

    def among(self, *ranges: range) -> int:
        """A number that lies in one of the ranges, which don't overlap."""
        place = self.below(sum(map(len, ranges)))
        for numbers in ranges:
            if place < len(numbers):
                return numbers[place]
            place -= len(numbers)
        raise AssertionError("unreachable: the place lies in one of the ranges")

    def array(self, limit: int, shape: tuple[int, int]) -> npt.NDArray[np.int32]:
        """Numbers from 0 to `limit - 1`, as int32 of the shape given."""
        words = self._take(shape[0] * shape[1])
        return (words % np.uint64(limit)).astype(np.int32).reshape(shape)

    def _take(self, count: int) -> npt.NDArray[np.uint64]:
        words = bits(*self._chain, self._n_taken + np.arange(count, dtype=np.int64))
        self._n_taken += count
        return words
