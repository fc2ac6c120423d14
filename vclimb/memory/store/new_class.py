"""A class to add to a memory, and its zarr group."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.core.metadata import ArrayV3Metadata

from vclimb.memory.store.atomic_store import AtomicStore
from vclimb.memory.store.exemplar import Exemplar
from vclimb.memory.store.exemplar_table import ExemplarTable
from vclimb.memory.store.index_nodes import FRAMES, MAX_EXEMPLAR_BYTES, MAX_LABEL, TABLE, TABLE_CHUNK_ROWS, Node
from vclimb.memory.store.stored_class import ZSTD_LEVEL, encode_chunk
from vclimb.pipeline.errors import SettingsError


@dataclass(frozen=True)
class NewClass:
    """A class to add to a memory.

    Attributes:
        name: Name; any characters.
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
        if not 0 <= self.label <= MAX_LABEL:
            raise SettingsError(f"{what} can't be stored: a label id is 0 or more, up to {MAX_LABEL}")
        if not self.exemplars:
            raise SettingsError(f"{what} has no exemplars to store; leave it out")
        codecs = sorted({exemplar.clip.codec for exemplar in self.exemplars})
        if len(codecs) > 1:
            raise SettingsError(f"{what} has exemplars of the codecs {', '.join(codecs)}; a class is stored in one")
        if (largest := max(exemplar.payload_bytes for exemplar in self.exemplars)) > MAX_EXEMPLAR_BYTES:
            raise SettingsError(
                f"{what} has an exemplar of {largest} bytes; allowed: {MAX_EXEMPLAR_BYTES}. Keep fewer frames of it"
            )

    def write(self, store: AtomicStore, root: zarr.Group, folder: str, table: ExemplarTable) -> dict[str, Node]:
        """Write the class as a new group of the memory, and return its nodes, as JSON, by their places."""
        codec = self.exemplars[0].clip.codec
        attributes = {"label": self.label, "class_name": self.name, "encoding": self.encoding, "codec": codec}
        group = root.create_group(folder, attributes=attributes)
        row_bytes = max(1, *(exemplar.payload_bytes for exemplar in self.exemplars))  # zarr has no empty chunks
        payloads = (b"".join(exemplar.clip.units).ljust(row_bytes, b"\0") for exemplar in self.exemplars)
        frames = _write_rows(store, group, FRAMES, row_bytes, len(self.exemplars), 1, payloads)
        rows = table.rows.view(np.uint8).reshape(len(table), -1)
        chunk_rows = min(len(table), TABLE_CHUNK_ROWS)
        pieces = (rows[start : start + chunk_rows].tobytes() for start in range(0, len(rows), chunk_rows))
        options = {"attributes": {"fields": table.fields}}
        numbers = _write_rows(store, group, TABLE, rows.shape[1], len(rows), chunk_rows, pieces, **options)
        nodes = {folder: group.metadata.to_dict(), f"{folder}/{FRAMES}": frames, f"{folder}/{TABLE}": numbers}
        return cast("dict[str, Node]", json.loads(json.dumps(nodes)))


def _write_rows(
    store: AtomicStore,
    group: zarr.Group,
    name: str,
    row_bytes: int,
    n_rows: int,
    chunk_rows: int,
    chunks: Iterator[bytes],
    **options: Any,
) -> Node:
    """Make an array of rows, and write its chunks, of which the last is filled up with zeros."""
    array = group.create_array(
        name,
        shape=(n_rows, row_bytes),
        chunks=(chunk_rows, row_bytes),
        dtype="uint8",
        fill_value=0,
        compressors=(ZstdCodec(level=ZSTD_LEVEL), Crc32cCodec()),
        # With "/", the default, each exemplar would have a folder to itself.
        chunk_key_encoding={"name": "default", "separator": "."},
        **options,
    )
    metadata = cast("ArrayV3Metadata", array.metadata)
    for number, chunk in enumerate(chunks):
        data = encode_chunk(chunk.ljust(chunk_rows * row_bytes, b"\0"))
        store.write(f"{array.path}/{metadata.encode_chunk_key((number, 0))}", data)
    return metadata.to_dict()
