"""Memory for batches that are handed out: used again once nobody holds the batch that lies in it.

The system's allocator would do, if it weren't for what programs keep of every batch (its plan, its keys): small pieces,
which it puts into the hole that a freed batch has left. The next batch doesn't fit there any more, and the process
grows by a batch with every batch.
"""

from __future__ import annotations

import mmap
import weakref

import numpy as np
import numpy.typing as npt


class BatchMemory:
    """Pieces of one size. There are as many as batches that are held at a time.

    Args:
        n_bytes: of each.
    """

    def __init__(self, n_bytes: int) -> None:
        self._n_bytes = max(1, n_bytes)
        self._free: list[mmap.mmap] = []

    def take(self) -> npt.NDArray[np.uint8]:
        """(n_bytes,) uint8 of any content. It is free again when the array and all views of it are gone."""
        piece = self._free.pop() if self._free else mmap.mmap(-1, self._n_bytes)
        array = np.frombuffer(piece, np.uint8)
        weakref.finalize(array, self._free.append, piece).atexit = False
        return array
