"""The frame indices of a data set's shards: where each frame lies, and whether its bytes are those that were stored."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from vclimb.pipeline.dataset.check import FrameIndex
from vclimb.pipeline.dataset.storage import LocalStorage, Storage
from vclimb.pipeline.errors import DatasetError


class FrameIndices:
    """Frame indices by shard number, loaded as they are used; small enough to send to worker processes.

    Args:
        storage: of the data set.
        stems: shard number -> file name without a suffix.
    """

    def __init__(self, storage: Storage, stems: Mapping[int, str]) -> None:
        self.storage = storage
        self._stems = dict(stems)
        self._tables: dict[int, FrameIndex] = {}

    def stem(self, shard: int) -> str:
        """File name of a shard, without a suffix.

        Raises:
            DatasetError: there is no such shard.
        """
        if shard not in self._stems:
            raise DatasetError(f"{self.storage} has no shard {shard}; it has {sorted(self._stems)}")
        return self._stems[shard]

    def table(self, shard: int) -> FrameIndex:
        """(frames of the shard, 3) int64: byte offset in the shard's tar, size and CRC-32 of each frame.

        Raises:
            DatasetError: it is missing or damaged.
        """
        if (known := self._tables.get(shard)) is not None:
            return known
        name = f"{self.stem(shard)}.frames.npy"
        try:
            table: FrameIndex
            if isinstance(self.storage, LocalStorage):
                table = np.load(self.storage.folder / name, mmap_mode="r")
            else:
                table = np.load(io.BytesIO(self.storage.read(name)))
        except (OSError, ValueError, EOFError) as error:
            raise DatasetError(f"the frame index {name} can't be read: {error}") from None
        if table.dtype != np.int64 or table.shape[1:] != (3,):
            raise DatasetError(f"the frame index {name} holds {table.dtype} {table.shape}, not int64 (n, 3)")
        self._tables[shard] = table
        return table

    def read(self, shard: int, rows: npt.NDArray[np.int64]) -> tuple[list[bytes], FrameIndex]:
        """The bytes of some frames of a shard, and their rows of the index."""
        index = self.table(shard)[rows]
        ranges = [(offset, size) for offset, size, _ in index.tolist()]
        return self.storage.read_ranges(f"{self.stem(shard)}.tar", ranges), index

    def __getstate__(self) -> dict[str, Any]:
        return {"storage": self.storage, "_stems": self._stems, "_tables": {}}
