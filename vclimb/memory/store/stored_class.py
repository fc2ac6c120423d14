"""A class in a memory, as the index describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vclimb.memory.store.chunks import ChunkedRows
from vclimb.memory.store.stored_array import StoredArray

INDEX_FILE = "zarr.json"
"""File that says what a memory holds; a folder that has it is a memory."""

MEMORY_NAME = "memory.zarr"
"""Name of a run's memory in the folder of the run."""

FEATURES, LOGITS = "features", "logits"
"""Names of arrays that a class keeps with its exemplars."""

NO_CODEC = "none"
"""Codec of exemplars without frames."""


@dataclass(frozen=True)
class StoredClass:
    """A class of a memory.

    Attributes:
        encoding: How its exemplars were encoded, such as `jpeg:75@128`.
        codec: Codec of the encoded frames, such as `jpeg`.
        folder: Folder of the class, within the memory.
        frames: The exemplars' encoded frames, one row and one chunk for each exemplar, padded with zeros; without rows
            and files where the exemplars have no frames.
        table: What is known of the exemplars, one row for each.
        row_fields: Fields of a row of the table, as `np.dtype` takes them.
        arrays: Name, such as `features` -> array (n, ...) with a row for each exemplar.
    """

    label: int
    name: str
    encoding: str
    codec: str
    folder: str
    frames: ChunkedRows
    table: ChunkedRows
    row_fields: list[list[str | list[int]]]
    arrays: Mapping[str, StoredArray]

    @property
    def n_exemplars(self) -> int:
        """Number of exemplars; their ranks are 0 up to this number."""
        return self.table.n_rows

    @property
    def places(self) -> list[str]:
        """Places of the class's arrays of all kinds, within the memory."""
        frames = [f"{self.folder}/frames"] if self.frames.files else []
        return [*frames, f"{self.folder}/table", *(array.place for array in self.arrays.values())]

    @property
    def chunks(self) -> list[tuple[int, tuple[str, ...]]]:
        """Rows of a chunk and files of each of these arrays, in the same order."""
        frames = [(self.frames.chunk_rows, self.frames.files)] if self.frames.files else []
        arrays = [(array.chunk_rows, array.files) for array in self.arrays.values()]
        return [*frames, (self.table.chunk_rows, self.table.files), *arrays]

    def own_files(self, rank: int) -> list[str]:
        """List the files that hold nothing but an exemplar's frames, or the numbers kept with it: frames come first."""
        frames = [self.frames.files[rank]] if self.frames.files else []
        return [*frames, *(array.files[rank] for array in self.arrays.values() if array.chunk_rows == 1)]
