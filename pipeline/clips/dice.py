"""Random numbers as a pure function of what they are for: no state, no order, the same on every machine.

Each draw is SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014)
applied to a chain of integers, so that sampling a clip needs (seed, epoch, item) and nothing else.
"""

from __future__ import annotations

import enum
import hashlib

import numpy as np
import numpy.typing as npt

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_MASK = 2**64 - 1

Integers = int | npt.NDArray[np.int64]


class Purpose(enum.IntEnum):
    """What a draw is for: two purposes never share their numbers."""

    ORDER = 1
    FRAMES = 2
    CROP_SCALE = 3
    CROP_PLACE = 4
    FLIP = 5
    REPLACEMENT = 6


def _mix(value: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    value = (value ^ (value >> np.uint64(30))) * _MIX_1
    value = (value ^ (value >> np.uint64(27))) * _MIX_2
    return value ^ (value >> np.uint64(31))


def bits(*chain: Integers) -> npt.NDArray[np.uint64]:
    """64 random bits for each combination of the integers given; arrays broadcast."""
    state = np.zeros((), np.uint64)
    with np.errstate(over="ignore"):  # wrapping round is what the algorithm does
        for link in chain:
            word = np.asarray(link & _MASK if isinstance(link, int) else link).astype(np.uint64)
            state = _mix((state ^ word) + _GAMMA)
    return state


def uniform(*chain: Integers) -> npt.NDArray[np.float64]:
    """Numbers in [0, 1), one for each combination of the integers given; arrays broadcast."""
    return (bits(*chain) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def below(n: Integers, *chain: Integers) -> npt.NDArray[np.int64]:
    """Integers in [0, n)."""
    return np.floor(uniform(*chain) * n).astype(np.int64)


def key_number(key: str, purpose: str) -> int:
    """Hash a key to 64 bits, to draw from.

    Args:
        key: Any text.
        purpose: At most 16 ASCII characters; two purposes never share their draws.
    """
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, person=purpose.encode("ascii"))
    return int.from_bytes(digest.digest(), "big")
