"""Finding whether any of many names repeats."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np


def are_distinct(names: Collection[str]) -> bool:
    """Whether no two names are the same. Their hashes are compared first, since a set of a million names is slow."""
    hashes = np.sort(np.fromiter(map(hash, names), np.int64, len(names)))
    return not (hashes[1:] == hashes[:-1]).any() or len(set(names)) == len(names)
