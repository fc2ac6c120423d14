"""A class to add to a memory, and its zarr group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from vclimb.memory.store.exemplar import Exemplar
from vclimb.memory.store.exemplar_table import ExemplarTable
from vclimb.memory.store.memory_index import FRAMES, TABLE, Node
from vclimb.memory.store.stored_class import ZSTD_LEVEL
from vclimb.pipeline.errors import SettingsError

# Readers of zarr can't hold more in one chunk.
MAX_EXEMPLAR_BYTES = 2**31 - 1
# Rows of a chunk of the table. Dropping exemplars frees whole chunks.
TABLE_CHUNK_ROWS = 32
_BYTES_AT_ONCE = 64 * 2**20


@dataclass(frozen=True)
class NewClass:
    """A class to add to a memory.

    Attributes:
        label: Label id.
        name: Name of the class; any characters.
        encoding: How the exemplars were encoded, such as `jpeg:75@128`.
        exemplars: Exemplars by rank, the most important first. All of one codec.

    Raises:
        SettingsError: there are no exemplars, or they can't be stored together.
    """

    label: int
    name: str
    encoding: str
    exemplars: Sequence[Exemplar]

    def __post_init__(self) -> None:
        what = f"class {self.name!r} (label id {self.label})"
        if self.label < 0:
            raise SettingsError(f"{what} can't be stored: a label id is 0 or more")
        if not self.exemplars:
            raise SettingsError(f"{what} has no exemplars to store; leave it out")
        codecs = sorted({exemplar.clip.codec for exemplar in self.exemplars})
        if len(codecs) > 1:
            raise SettingsError(f"{what} has exemplars of the codecs {', '.join(codecs)}; a class is stored in one")
        if (largest := max(exemplar.payload_bytes for exemplar in self.exemplars)) > MAX_EXEMPLAR_BYTES:
            raise SettingsError(
                f"{what} has an exemplar of {largest} bytes; allowed: {MAX_EXEMPLAR_BYTES}. Keep fewer frames of it"
            )

    def write(self, root: zarr.Group, folder: str, table: ExemplarTable) -> dict[str, Node]:
        """Write the class as a new group of the memory.

        Args:
            root: Root group of the memory.
            folder: Place of the new group.
            table: Table of the class's exemplars.

        Returns:
            the metadata of the group and its arrays, by their places.
        """
        codec = self.exemplars[0].clip.codec
        attributes = {"label": self.label, "class_name": self.name, "encoding": self.encoding, "codec": codec}
        group = root.create_group(folder, attributes=attributes)
        n = len(self.exemplars)
        row_bytes = max(1, *(exemplar.payload_bytes for exemplar in self.exemplars))  # zarr has no empty chunks
        frames = _create_rows(group, FRAMES, (n, row_bytes), 1)
        step = max(1, _BYTES_AT_ONCE // row_bytes)
        for start in range(0, n, step):
            payloads = [b"".join(exemplar.clip.units) for exemplar in self.exemplars[start : start + step]]
            padded = b"".join(payload.ljust(row_bytes, b"\0") for payload in payloads)
            frames[start : start + step] = np.frombuffer(padded, np.uint8).reshape(-1, row_bytes)
        rows = table.rows.view(np.uint8).reshape(n, -1)
        chunk_rows = min(n, TABLE_CHUNK_ROWS)
        numbers = _create_rows(group, TABLE, rows.shape, chunk_rows, attributes={"fields": table.fields})
        numbers[:] = rows
        nodes = {folder: group.metadata, f"{folder}/{FRAMES}": frames.metadata, f"{folder}/{TABLE}": numbers.metadata}
        return cast("dict[str, Node]", nodes)


def _create_rows(
    group: zarr.Group, name: str, shape: tuple[int, ...], chunk_rows: int, **options: Any
) -> zarr.Array[Any]:
    return group.create_array(
        name,
        shape=shape,
        chunks=(chunk_rows, shape[1]),
        dtype="uint8",
        fill_value=0,
        compressors=(ZstdCodec(level=ZSTD_LEVEL), Crc32cCodec()),
        # With "/", the default, each exemplar would have a folder to itself.
        chunk_key_encoding={"name": "default", "separator": "."},
        # A missing chunk is damage, so that one of zeros is written too.
        config={"write_empty_chunks": True},
        **options,
    )
