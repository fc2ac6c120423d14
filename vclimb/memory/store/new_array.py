"""Arrays to keep in a memory beside the exemplars, and their zarr nodes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec
from zarr.core.metadata import ArrayV3Metadata

from vclimb.memory.store.array_nodes import folder_of, is_array_name
from vclimb.memory.store.atomic_store import AtomicStore
from vclimb.memory.store.errors import ArrayDamagedError
from vclimb.memory.store.index_file import writing_settings
from vclimb.memory.store.index_nodes import INDEX, Node
from vclimb.memory.store.memory_index import entry_bytes, node_bytes
from vclimb.memory.store.reader import MemoryStore
from vclimb.memory.store.stored_array import (
    CHECKSUM_BYTES,
    DTYPES,
    AnyArray,
    ArrayShape,
    chunk_bytes,
    chunk_rows_of,
    encode_array,
)
from vclimb.pipeline.errors import SettingsError


def check_array(name: str, dtype: str, shape: Sequence[int]) -> None:
    """Refuse an array that a memory can't keep, by a SettingsError."""
    if not is_array_name(name):
        raise SettingsError(
            f"array {name!r} can't be kept; its name is a part (statistics, parameters or logits), a slash and a name "
            "of small letters, digits and _, such as statistics/importance"
        )
    if dtype not in DTYPES:
        raise SettingsError(f"array {name!r} of {dtype} can't be kept; allowed: {', '.join(DTYPES)}")
    if not shape or min(shape) < 1:
        raise SettingsError(f"array {name!r} of shape {tuple(shape)} can't be kept; leave an empty one out")


def replace_arrays(
    store: AtomicStore,
    root: zarr.Group,
    memory: MemoryStore,
    nodes: dict[str, Node],
    arrays: Mapping[str, AnyArray],
) -> None:
    """Let arrays be all that a memory keeps beside the exemplars, in the changes to be published.

    Args:
        nodes: Nodes of the memory beside the exemplars, by place; brought in line with the changes.
    """
    stored, generation = memory.arrays, memory.generation + 1
    kept = {name for name, array in arrays.items() if _is_stored(memory, name, array)}
    parts = {name.partition("/")[0] for name in arrays}
    for name in stored.keys() - kept:
        place = stored[name].place
        del root[place], nodes[place]
    for name in sorted(arrays.keys() - kept):
        nodes[folder_of(name, generation)] = _write(store, root, name, arrays[name], generation)
    for part in {place for place in nodes if "/" not in place} - parts:
        del root[part], nodes[part]
    nodes |= {part: _plain(cast("zarr.Group", root[part]).metadata.to_dict()) for part in parts}


def _is_stored(memory: MemoryStore, name: str, array: AnyArray) -> bool:
    """Tell whether a memory holds an array already, with the same values to the bit."""
    stored = memory.arrays.get(name)
    if stored is None or (stored.dtype, stored.shape) != (array.dtype.name, array.shape):
        return False
    try:
        return memory.array(name).tobytes() == np.ascontiguousarray(array).tobytes()
    except ArrayDamagedError:
        return False


def _write(store: AtomicStore, root: zarr.Group, name: str, array: AnyArray, generation: int) -> Node:
    """Write an array as a new node of the memory, and return the node, as JSON."""
    part, _, folder = folder_of(name, generation).partition("/")
    return write_array(store, root.require_group(part), folder, array, chunk_rows_of(array.dtype.name, array.shape))


def write_array(store: AtomicStore, group: zarr.Group, name: str, array: AnyArray, chunk_rows: int) -> Node:
    """Write an array of plain numbers as a new node of a group, and return the node, as JSON."""
    node, metadata = _create(group, name, array.dtype.name, array.shape, chunk_rows)
    place = f"{group.path}/{name}"
    for number, data in enumerate(encode_array(array, chunk_rows)):
        store.write(f"{place}/{metadata.encode_chunk_key((number, *(0,) * (array.ndim - 1)))}", data)
    return node


def array_bytes(arrays: Mapping[str, ArrayShape]) -> dict[str, int]:
    """Count the bytes on disk that arrays take in a memory: of each part, and what they add to the `index`.

    What the memory takes is the same, but for digits of its generation.
    """
    counts: dict[str, int] = {}
    n_index = 0
    with writing_settings():
        root = zarr.create_group(zarr.storage.MemoryStore())
        for name, (dtype, shape) in arrays.items():
            check_array(name, dtype, shape)
            part, _, short = name.partition("/")
            if part not in counts:
                group = _plain(root.require_group(part).metadata.to_dict())
                counts[part] = len(node_bytes(group))
                n_index += entry_bytes(part, group)
            rows = chunk_rows_of(dtype, shape)
            node, _ = _create(cast("zarr.Group", root[part]), f"{short}-g1", dtype, shape, rows)
            n_chunks = -(-shape[0] // rows)
            counts[part] += n_chunks * (chunk_bytes(dtype, shape, rows) + CHECKSUM_BYTES)
            counts[part] += len(node_bytes(node))
            n_index += entry_bytes(folder_of(name, 1), node)
    return {**counts, INDEX: n_index} if counts else {}


def _create(
    group: zarr.Group, folder: str, dtype: str, shape: Sequence[int], chunk_rows: int
) -> tuple[Node, ArrayV3Metadata]:
    array = group.create_array(
        folder,
        shape=tuple(shape),
        chunks=(chunk_rows, *shape[1:]),
        dtype=dtype,
        fill_value=0,
        compressors=(Crc32cCodec(),),
        chunk_key_encoding={"name": "default", "separator": "."},
    )
    metadata = cast("ArrayV3Metadata", array.metadata)
    return _plain(metadata.to_dict()), metadata


def _plain(metadata: Mapping[str, Any]) -> Node:
    return cast("Node", json.loads(json.dumps(metadata)))
