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
from vclimb.memory.store.chunks import ZSTD_LEVEL, encode_chunk
from vclimb.memory.store.class_nodes import is_exemplar_array
from vclimb.memory.store.exemplar import Exemplar
from vclimb.memory.store.exemplar_table import ExemplarTable
from vclimb.memory.store.index_nodes import FRAMES, MAX_EXEMPLAR_BYTES, MAX_LABEL, TABLE, TABLE_CHUNK_ROWS, Node
from vclimb.memory.store.new_array import write_array
from vclimb.memory.store.stored_array import DTYPES, ArrayShape
from vclimb.memory.store.stored_class import FEATURES
from vclimb.pipeline.errors import SettingsError

_SHARED_BYTES = 2048


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
        self._check_arrays(what)

    def _check_arrays(self, what: str) -> None:
        """Refuse numbers that can't be stored with the exemplars, or not in one array."""
        shapes = _shapes(self.exemplars[0])
        for exemplar in self.exemplars:
            if _shapes(exemplar) != shapes:
                raise SettingsError(
                    f"{what} keeps {_shapes(exemplar)} with the exemplar of {exemplar.key!r} and {shapes} with its "
                    "first one; all must keep arrays of the same names, types and shapes"
                )
            if bool(exemplar.clip.units) != bool(self.exemplars[0].clip.units):
                raise SettingsError(f"{what} has exemplars with and without frames; a class is stored in one way")
        for name, (dtype, shape) in shapes.items():
            if not is_exemplar_array(name) or dtype not in DTYPES or not shape or min(shape) < 1:
                raise SettingsError(
                    f"{what} can't keep {name!r} of {dtype} and shape {shape} with an exemplar; allowed: features or "
                    f"logits (also features_x), {', '.join(DTYPES)}, and one axis or more, none empty"
                )
        if not self.exemplars[0].clip.units and FEATURES not in shapes:
            raise SettingsError(f"{what} has exemplars with neither frames nor features; leave it out")

    def write(self, store: AtomicStore, root: zarr.Group, folder: str, table: ExemplarTable) -> dict[str, Node]:
        """Write the class as a new group of the memory, and return its nodes, as JSON, by their places."""
        codec = self.exemplars[0].clip.codec
        attributes = {"label": self.label, "class_name": self.name, "encoding": self.encoding, "codec": codec}
        group = root.create_group(folder, attributes=attributes)
        nodes: dict[str, Any] = {folder: group.metadata.to_dict()}
        if self.exemplars[0].clip.units:
            row_bytes = max(1, *(exemplar.payload_bytes for exemplar in self.exemplars))  # zarr has no empty chunks
            payloads = (b"".join(exemplar.clip.units).ljust(row_bytes, b"\0") for exemplar in self.exemplars)
            nodes[f"{folder}/{FRAMES}"] = _write_rows(store, group, FRAMES, row_bytes, len(self.exemplars), 1, payloads)
        for name in sorted(self.exemplars[0].arrays):
            array = np.stack([exemplar.arrays[name] for exemplar in self.exemplars])
            chunk = exemplar_chunk_rows(name, array[0].nbytes, len(array))
            nodes[f"{folder}/{name}"] = write_array(store, group, name, array, chunk)
        rows = table.rows.view(np.uint8).reshape(len(table), -1)
        chunk_rows = min(len(table), TABLE_CHUNK_ROWS)
        pieces = (rows[start : start + chunk_rows].tobytes() for start in range(0, len(rows), chunk_rows))
        options = {"attributes": {"fields": table.fields}}
        nodes[f"{folder}/{TABLE}"] = _write_rows(
            store, group, TABLE, rows.shape[1], len(rows), chunk_rows, pieces, **options
        )
        return cast("dict[str, Node]", json.loads(json.dumps(nodes)))


def exemplar_chunk_rows(name: str, row_bytes: int, n_rows: int) -> int:
    """Choose the rows of a chunk of an array that a class keeps with its exemplars.

    A feature has a file of its own, as frames have, so that dropping an exemplar frees all of its bytes. Smaller rows
    share files of 2 KB at most, for an array of files that hold less takes more room on disk than its bytes.
    """
    return 1 if name == FEATURES else max(1, min(n_rows, TABLE_CHUNK_ROWS, _SHARED_BYTES // row_bytes))


def _shapes(exemplar: Exemplar) -> dict[str, ArrayShape]:
    return {name: (array.dtype.name, array.shape) for name, array in exemplar.arrays.items()}


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
