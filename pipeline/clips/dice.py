"""Random numbers as pure functions of their key: no state, no order, the same on every machine.

Each number is SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014) of a
key of integers, so that sampling a clip needs (seed, epoch, item) and nothing else.
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
    """Purpose of a random number, as part of its key: no two purposes share their numbers."""

    ORDER = 1
    FRAMES = 2
    CROP_SCALE = 3
    CROP_PLACE = 4
    FLIP = 5
    REPLACEMENT = 6
    OWN_DRAWS = 7
    COLOURS = 8
    SHARD_ORDER = 9
    REPLAY_ORDER = 10


def _mix(value: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    value = (value ^ (value >> np.uint64(30))) * _MIX_1
    value = (value ^ (value >> np.uint64(27))) * _MIX_2
    return value ^ (value >> np.uint64(31))


def bits(*key: Integers) -> npt.NDArray[np.uint64]:
    """Draw 64 random bits for each key; arrays in the key broadcast."""
    state = np.zeros((), np.uint64)
    with np.errstate(over="ignore"):  # the algorithm computes modulo 2**64
        for part in key:
            word = np.asarray(part & _MASK if isinstance(part, int) else part).astype(np.uint64)
            state = _mix((state ^ word) + _GAMMA)
    return state


def uniform(*key: Integers) -> npt.NDArray[np.float64]:
    """Draw numbers in [0, 1), one for each key; arrays in the key broadcast."""
    return (bits(*key) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def below(n: Integers, *key: Integers) -> npt.NDArray[np.int64]:
    """Draw integers in [0, n), one for each key; arrays broadcast."""
    return np.floor(uniform(*key) * n).astype(np.int64)


def key_number(key: str, purpose: str) -> int:
    """Hash a key to 64 bits, to draw from. Two purposes, of at most 16 ASCII characters, never share their draws."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, person=purpose.encode("ascii"))
    return int.from_bytes(digest.digest(), "big")
