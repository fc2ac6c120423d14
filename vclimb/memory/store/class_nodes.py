"""What the index of a memory may say of its classes of exemplars, checked before anything is used."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from vclimb.memory.store.array_nodes import checked_array
from vclimb.memory.store.chunks import ZSTD_LEVEL, ChunkedRows
from vclimb.memory.store.index_nodes import (
    EXEMPLARS,
    FRAMES,
    GROUPS,
    MAX_CHUNKS,
    MAX_EXEMPLAR_BYTES,
    MAX_EXEMPLARS,
    MAX_LABEL,
    TABLE,
    TABLE_CHUNK_ROWS,
    ArrayNode,
    GroupNode,
    Length,
    Node,
    Stored,
    parsed,
    refused,
)
from vclimb.memory.store.stored_array import StoredArray
from vclimb.memory.store.stored_class import FEATURES, StoredClass

CLASS_FOLDER = re.compile(r"c(\d{4,10})g(\d{1,16})", re.ASCII)
_PLACE = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*", re.ASCII)
_EXEMPLAR_ARRAY = re.compile(r"(?:features|logits)(?:_[a-z0-9]{1,50})?", re.ASCII)
_MAX_FRAMES = 2**20  # of an exemplar
_ROW_CODECS: list[dict[str, Any]] = [
    {"name": "bytes"},
    {"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}},
    {"name": "crc32c"},
]
_NUMBERS = [[name, "<i4"] for name in ("start_frame", "end_frame", "width", "height")]


class _ClassAttributes(Stored):
    label: Annotated[int, Field(ge=0, le=MAX_LABEL)]
    class_name: Annotated[str, Field(max_length=10_000)]
    encoding: Annotated[str, Field(max_length=1_000)]
    codec: Annotated[str, Field(min_length=1, max_length=100)]


class _ClassNode(GroupNode):
    attributes: _ClassAttributes  # type: ignore[assignment]


class _Fields(Stored):
    fields: list[list[Any]]


class _RowsNode(ArrayNode):
    """An array of uint8 rows that is chunked by rows."""

    model_config = ConfigDict(extra="forbid")

    zarr_format: Literal[3]
    data_type: Literal["uint8"]
    fill_value: Literal[0]
    codecs: list[dict[str, Any]]
    storage_transformers: Annotated[list[Any], Field(max_length=0, default_factory=list)]
    attributes: Any
    shape: Annotated[list[Length], Field(min_length=2, max_length=2)]


class _FramesNode(_RowsNode):
    attributes: Annotated[dict[str, Any], Field(max_length=0)]


class _TableNode(_RowsNode):
    attributes: _Fields


def is_exemplar_array(name: str) -> bool:
    """Tell whether a class may keep an array of this name with its exemplars: `features`, `logits`, or `features_x`.

    The bytes of an array count as those of the part that its name begins with.
    """
    return _EXEMPLAR_ARRAY.fullmatch(name) is not None


def stored_classes(nodes: Mapping[str, Node], generation: int, where: str) -> dict[int, StoredClass]:
    """Collect the classes of a memory, by label id, from the metadata of its nodes, and check the places of all nodes.

    Args:
        generation: Generation of the memory that the nodes are part of.
        where: File of the index, for errors.

    Raises:
        MemoryStoreError: a node says what it can't, or doesn't fit the others.
    """
    classes: dict[int, StoredClass] = {}
    n_chunks = 0
    if nodes.get(EXEMPLARS, {}).get("node_type") != "group":
        raise refused(where, f"group {EXEMPLARS!r} is missing")
    for place in nodes:
        parent, _, name = place.rpartition("/")
        is_in_group = not parent or nodes.get(parent, {}).get("node_type") == "group"
        if not _PLACE.fullmatch(place) or place.split("/")[0] not in GROUPS or not is_in_group:
            raise refused(where, f"{place[:200]!r} is no place in a memory")
        if parent == EXEMPLARS:
            stored = stored_class(place, nodes, generation, where)
            if stored.label in classes or stored.name in {other.name for other in classes.values()}:
                raise refused(where, f"{place}: label id {stored.label} or class {stored.name!r} is there twice")
            classes[stored.label] = stored
            n_chunks += len(stored.frames.files) + sum(len(array.files) for array in stored.arrays.values())
        elif place.startswith(f"{EXEMPLARS}/") and not (
            CLASS_FOLDER.fullmatch(parent.rpartition("/")[2]) and (name in (FRAMES, TABLE) or is_exemplar_array(name))
        ):
            raise refused(where, f"{place!r} is no place of a class")
        if n_chunks > MAX_CHUNKS:
            raise refused(where, f"{place}: the arrays have more than {MAX_CHUNKS} chunks")
    if sum(stored.n_exemplars for stored in classes.values()) > MAX_EXEMPLARS:
        raise refused(where, f"the classes have more than {MAX_EXEMPLARS} exemplars")
    return classes


def stored_class(folder: str, nodes: Mapping[str, Node], generation: int, where: str) -> StoredClass:
    """Read a class from the metadata of its nodes; see `stored_classes`."""
    numbers = CLASS_FOLDER.fullmatch(folder.rpartition("/")[2])
    attributes = parsed(_ClassNode, nodes[folder], where, folder).attributes
    if numbers is None or int(numbers[1]) != attributes.label or int(numbers[2]) > generation:
        raise refused(
            where, f"{folder}: attributes.label is {attributes.label} and the generation {generation}; its name differs"
        )
    table_place, frames_place = f"{folder}/{TABLE}", f"{folder}/{FRAMES}"
    if table_place not in nodes:
        raise refused(where, f"{table_place} is missing")
    frames = ChunkedRows(0, 0, 1, ())
    if frames_place in nodes:
        frames = _rows(frames_place, parsed(_FramesNode, nodes[frames_place], where, frames_place), 1, where)
    table_node = parsed(_TableNode, nodes[table_place], where, table_place)
    table = _rows(table_place, table_node, TABLE_CHUNK_ROWS, where)
    arrays = _class_arrays(folder, nodes, table.n_rows, where)
    if frames.files and frames.n_rows != table.n_rows:
        raise refused(where, f"{folder}: {FRAMES} has {frames.n_rows} rows, and {TABLE} {table.n_rows}")
    if not frames.files and FEATURES not in arrays:
        raise refused(where, f"{frames_place} is missing, and so is {FEATURES}")
    fields = table_node.attributes.fields
    if _row_bytes(fields, bool(frames.files)) != table.row_bytes:
        raise refused(
            where, f"{table_place}: attributes.fields {str(fields)[:300]} are no rows of {table.row_bytes} bytes"
        )
    return StoredClass(
        label=attributes.label,
        name=attributes.class_name,
        encoding=attributes.encoding,
        codec=attributes.codec,
        folder=folder,
        frames=frames,
        table=table,
        row_fields=fields,
        arrays=arrays,
    )


def _class_arrays(folder: str, nodes: Mapping[str, Node], n_rows: int, where: str) -> dict[str, StoredArray]:
    """Collect the arrays that a class keeps with its exemplars, by name."""
    arrays = {}
    for place in nodes:
        parent, _, name = place.rpartition("/")
        if parent != folder or not is_exemplar_array(name):
            continue
        array = arrays[name] = checked_array(name, place, nodes[place], where)
        most_rows = 1 if name == FEATURES else TABLE_CHUNK_ROWS
        if len(array.shape) < 2 or array.shape[0] != n_rows or array.chunk_rows > most_rows:
            raise refused(
                where,
                f"{place}: shape is {array.shape} in chunks of {array.chunk_rows} rows; allowed: two axes or more, "
                f"{n_rows} rows as in {TABLE}, and chunks of up to {most_rows}",
            )
    return arrays


def _rows(place: str, node: _RowsNode, most_rows: int, where: str) -> ChunkedRows:
    """Check an array of rows of bytes, in chunks of up to `most_rows`."""
    chunk, (n_rows, row_bytes) = node.chunk_grid.configuration.chunk_shape, node.shape
    if json.dumps(node.codecs) != json.dumps(_ROW_CODECS):  # 1 and true are equal
        raise refused(where, f"{place} has the codecs {str(node.codecs)[:300]}; allowed: {_ROW_CODECS}")
    if len(chunk) != 2 or chunk[1] != row_bytes or chunk[0] > most_rows or row_bytes > MAX_EXEMPLAR_BYTES:
        raise refused(where, f"{place}: chunk_shape is {chunk} for rows of {row_bytes} bytes")
    if n_rows > MAX_EXEMPLARS:
        raise refused(where, f"{place}: shape has {n_rows} rows; allowed: {MAX_EXEMPLARS}")
    if node.chunk_key_encoding.configuration.separator != ".":
        raise refused(where, f"{place}: chunk_key_encoding.separator must be '.'")
    files = tuple(f"{place}/c.{number}.0" for number in range(node.grid[0]))
    return ChunkedRows(n_rows, row_bytes, chunk[0], files)


def _row_bytes(fields: list[list[Any]], has_frames: bool) -> int | None:
    """Count the bytes of a row of the table; None where the fields are not those of an exemplar."""
    match fields:
        case [["key", str(key)], *numbers, ["frames", "<i4", [int(n_frames)]], ["unit_bytes", "<i4", [int(n_units)]]]:
            size = re.fullmatch(r"\|S([1-9]\d{0,4})", key, re.ASCII)
            if bool in (type(n_frames), type(n_units)):
                return None
            fits = 1 <= n_units <= n_frames <= _MAX_FRAMES if has_frames else n_units == n_frames == 0
            if size and numbers == _NUMBERS and fits:
                return int(size[1]) + 4 * (len(_NUMBERS) + n_frames + n_units)
    return None
