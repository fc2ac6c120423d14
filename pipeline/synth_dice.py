"""Random numbers that are the same on every machine and with every numpy.

numpy promises that for the raw words of a seeded PCG64, but not for what its `Generator` makes of them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MAX_SEED = 2**32 - 1


class Dice:
    """Draws that depend on the given numbers alone, so that no draw elsewhere moves them.

    Args:
        numbers: what is drawn for: the seed, then what tells this use from others; each 0 to 2**32 - 1.
            Give the same count of them everywhere: trailing zeros don't count.
    """

    def __init__(self, *numbers: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(numbers))

    def below(self, limit: int) -> int:
        """A number from 0 to `limit - 1`."""
        return int(self._bits.random_raw()) % limit

    def among(self, *ranges: range) -> int:
        """A number that lies in one of the ranges."""
        place = self.below(sum(map(len, ranges)))
        for numbers in ranges:
            if place < len(numbers):
                return numbers[place]
            place -= len(numbers)
        raise AssertionError("unreachable: the place lies in one of the ranges")

    def array(self, limit: int, shape: tuple[int, int]) -> npt.NDArray[np.int32]:
        """Numbers from 0 to `limit - 1`, as int32 of the shape given."""
        words = np.asarray(self._bits.random_raw(shape[0] * shape[1]), np.uint64)
        return (words % np.uint64(limit)).astype(np.int32).reshape(shape)
