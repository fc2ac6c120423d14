"""Bytes on disk of a class for each number of exemplars that it may keep, known before anything is dropped."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

from vclimb.memory.store.memory_index import Node, entry_bytes, node_bytes
from vclimb.memory.store.stored_class import StoredClass


@dataclass(frozen=True)
class ClassSizes:
    """Bytes on disk of the parts of a class.

    Attributes:
        metadata: Bytes of the metadata of the class's group and arrays, in their own files and in the index.
        frames: Bytes of each exemplar's frames, by rank.
        table: Bytes of each chunk of the table.
        table_chunk_rows: Exemplars in a chunk of the table.
    """

    metadata: int
    frames: Sequence[int]
    table: Sequence[int]
    table_chunk_rows: int

    @classmethod
    def measure(cls, path: Path, stored: StoredClass, nodes: Mapping[str, Node]) -> ClassSizes:
        """Measure a class of the memory at a path. A missing file counts nothing.

        Args:
            nodes: Metadata of the class's group and arrays, by their places within the memory, and of others.
        """
        places = [place for place in nodes if f"{place}/".startswith(f"{stored.folder}/")]
        metadata = sum(len(node_bytes(nodes[place])) + entry_bytes(place, nodes[place]) for place in places)
        frames, table = ([file_bytes(path / file) for file in rows.files] for rows in (stored.frames, stored.table))
        return cls(metadata, frames, table, stored.table.chunk_rows)

    @cached_property
    def totals(self) -> list[int]:
        """Bytes of the class if its first 0, 1, ... exemplars are kept; a class without exemplars is dropped."""
        frames, table = [*accumulate(self.frames, initial=0)], [*accumulate(self.table, initial=0)]
        n = len(self.frames)
        totals = [0]
        for kept in range(1, n + 1):
            # The metadata has the number of exemplars in four places: in two arrays, each also in the index.
            fewer_digits = 4 * (len(str(n)) - len(str(kept)))
            totals.append(self.metadata - fewer_digits + frames[kept] + table[-(-kept // self.table_chunk_rows)])
        return totals


def file_bytes(file: Path | str) -> int:
    """Measure a file; a missing one has no bytes."""
    try:
        return os.stat(file).st_size
    except FileNotFoundError:
        return 0
