"""What the index of a memory may say of its nodes: types, ranges and cross-references, checked before anything is used.

Each group and array of the index is read as one of these models; `stored_classes` compares them with one another.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from vclimb.memory.store.errors import MemoryStoreError
from vclimb.memory.store.stored_class import ZSTD_LEVEL, ChunkedRows, StoredClass

EXEMPLARS = "exemplars"
PARTS = (EXEMPLARS, "statistics", "parameters", "logits")
"""Groups that a memory may have. Exemplars are the part that is always there."""
INDEX = "index"
"""Name, among the bytes of parts, of those that belong to no part: of the metadata of the root group."""

FRAMES, TABLE = "frames", "table"
CLASS_FOLDER = re.compile(r"c(\d{4,10})g(\d{1,16})", re.ASCII)

MAX_LABEL = 2**31 - 1
MAX_GENERATION = 10**15
MAX_EXEMPLARS = 2**20  # of all classes
MAX_EXEMPLAR_BYTES = 2**31 - 1  # readers of zarr can't hold more in one chunk
TABLE_CHUNK_ROWS = 32  # dropping exemplars frees whole chunks of the table
MAX_CHUNKS = 2**22  # of all arrays
_MAX_FRAMES = 2**20  # of an exemplar

_REMEDY = "restore the memory from a copy, or remove it and make it anew"
_PLACE = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*", re.ASCII)
_ROW_CODECS: list[dict[str, Any]] = [
    {"name": "bytes"},
    {"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}},
    {"name": "crc32c"},
]
_NUMBERS = [[name, "<i4"] for name in ("start_frame", "end_frame", "width", "height")]

Node = Mapping[str, Any]
"""Metadata of a zarr group or array, as its `zarr.json` holds it."""

Length = Annotated[int, Field(ge=1, le=2**62)]
_OBJECT = TypeAdapter(dict[str, Any])
ModelT = TypeVar("ModelT", bound=BaseModel)


class _Stored(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class _Consolidated(_Stored):
    kind: Literal["inline"]
    must_understand: Literal[False]
    metadata: Annotated[dict[str, Any], Field(max_length=0)]


class GroupNode(_Stored):
    """A group of the hierarchy."""

    node_type: Literal["group"]
    zarr_format: Literal[3]
    attributes: dict[str, Any]
    consolidated_metadata: _Consolidated | None = None


class _ClassAttributes(_Stored):
    label: Annotated[int, Field(ge=0, le=MAX_LABEL)]
    class_name: Annotated[str, Field(max_length=10_000)]
    encoding: Annotated[str, Field(max_length=1_000)]
    codec: Annotated[str, Field(min_length=1, max_length=100)]


class _ClassNode(GroupNode):
    attributes: _ClassAttributes  # type: ignore[assignment]


class _ChunkShape(_Stored):
    chunk_shape: Annotated[list[Length], Field(min_length=1, max_length=32)]


class _ChunkGrid(_Stored):
    name: Literal["regular"]
    configuration: _ChunkShape


class _Separator(_Stored):
    separator: Literal[".", "/"]


class _ChunkKeys(_Stored):
    name: Literal["default"]
    configuration: _Separator


class ArrayNode(_Stored):
    """An array of any part. Only what names its files is checked."""

    model_config = ConfigDict(extra="ignore")

    node_type: Literal["array"]
    shape: Annotated[list[Annotated[int, Field(ge=0, le=2**62)]], Field(min_length=1, max_length=32)]
    chunk_grid: _ChunkGrid
    chunk_key_encoding: _ChunkKeys

    @property
    def grid(self) -> list[int]:
        """Number of chunks along each axis."""
        sides = zip(self.shape, self.chunk_grid.configuration.chunk_shape, strict=True)
        return [-(-length // side) for length, side in sides]


class _Fields(_Stored):
    fields: list[list[Any]]


class _RowsNode(ArrayNode):
    """An array of uint8 rows that is chunked by rows."""

    model_config = ConfigDict(extra="forbid")

    zarr_format: Literal[3]
    data_type: Literal["uint8"]
    fill_value: Literal[0]
    codecs: list[dict[str, Any]]
    storage_transformers: Annotated[list[Any], Field(max_length=0)] = []
    attributes: Any
    shape: Annotated[list[Length], Field(min_length=2, max_length=2)]


class _FramesNode(_RowsNode):
    attributes: Annotated[dict[str, Any], Field(max_length=0)]


class _TableNode(_RowsNode):
    attributes: _Fields


class _IndexAttributes(_Stored):
    format: str
    format_version: int
    generation: Annotated[int, Field(ge=0, le=MAX_GENERATION)]
    checksum: str


class _Nodes(_Stored):
    kind: Literal["inline"]
    must_understand: Literal[False]
    metadata: dict[str, dict[str, Any]]


class Index(_Stored):
    """The metadata of the root group."""

    node_type: Literal["group"]
    zarr_format: Literal[3]
    attributes: _IndexAttributes
    consolidated_metadata: _Nodes


def parse_json(data: bytes) -> dict[str, Any]:
    """Parse a JSON object; other text, or one that is nested too deeply, is a ValueError."""
    return _OBJECT.validate_json(data)


def check_index(document: Any, where: str) -> Index:
    """Read the index itself; `stored_classes` reads its nodes. Errors are MemoryStoreErrors."""
    return parsed(Index, document, where, "")


def refused(where: str, what: str) -> MemoryStoreError:
    """Make the error of an index that can't be used."""
    return MemoryStoreError(f"{where}: {what}; {_REMEDY}")


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
        if not _PLACE.fullmatch(place) or place.split("/")[0] not in PARTS or not is_in_group:
            raise refused(where, f"{place[:200]!r} is no place in a memory")
        if parent == EXEMPLARS:
            stored = stored_class(place, nodes, generation, where)
            if stored.label in classes or stored.name in {other.name for other in classes.values()}:
                raise refused(where, f"{place}: label id {stored.label} or class {stored.name!r} is there twice")
            classes[stored.label] = stored
            n_chunks += len(stored.frames.files)
        elif place.startswith(f"{EXEMPLARS}/") and not (
            CLASS_FOLDER.fullmatch(parent.rpartition("/")[2]) and name in (FRAMES, TABLE)
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
    places = f"{folder}/{FRAMES}", f"{folder}/{TABLE}"
    if missing := [place for place in places if place not in nodes]:
        raise refused(where, f"{missing[0]} is missing")
    frames = parsed(_FramesNode, nodes[places[0]], where, places[0])
    table = parsed(_TableNode, nodes[places[1]], where, places[1])
    for place, rows, most_rows in ((places[0], frames, 1), (places[1], table, TABLE_CHUNK_ROWS)):
        chunk, (n_rows, row_bytes) = rows.chunk_grid.configuration.chunk_shape, rows.shape
        if json.dumps(rows.codecs) != json.dumps(_ROW_CODECS):  # 1 and true are equal
            raise refused(where, f"{place} has the codecs {str(rows.codecs)[:300]}; allowed: {_ROW_CODECS}")
        if len(chunk) != 2 or chunk[1] != row_bytes or chunk[0] > most_rows or row_bytes > MAX_EXEMPLAR_BYTES:
            raise refused(where, f"{place}: chunk_shape is {chunk} for rows of {row_bytes} bytes")
        if n_rows > MAX_EXEMPLARS:
            raise refused(where, f"{place}: shape has {n_rows} rows; allowed: {MAX_EXEMPLARS}")
        if rows.chunk_key_encoding.configuration.separator != ".":
            raise refused(where, f"{place}: chunk_key_encoding.separator must be '.'")
    if frames.shape[0] != table.shape[0]:
        raise refused(where, f"{folder}: {FRAMES} has {frames.shape[0]} rows, and {TABLE} {table.shape[0]}")
    fields = table.attributes.fields
    if _row_bytes(fields) != table.shape[1]:
        raise refused(
            where, f"{places[1]}: attributes.fields {str(fields)[:300]} are no rows of {table.shape[1]} bytes"
        )
    return StoredClass(
        label=attributes.label,
        name=attributes.class_name,
        encoding=attributes.encoding,
        codec=attributes.codec,
        folder=folder,
        frames=_rows(places[0], frames),
        table=_rows(places[1], table),
        row_fields=fields,
    )


def _rows(place: str, node: _RowsNode) -> ChunkedRows:
    (n_rows, row_bytes), chunk_rows = node.shape, node.chunk_grid.configuration.chunk_shape[0]
    files = tuple(f"{place}/c.{number}.0" for number in range(node.grid[0]))
    return ChunkedRows(n_rows, row_bytes, chunk_rows, files)


def _row_bytes(fields: list[list[Any]]) -> int | None:
    """Count the bytes of a row of the table; None where the fields are not those of an exemplar."""
    match fields:
        case [["key", str(key)], *numbers, ["frames", "<i4", [int(n_frames)]], ["unit_bytes", "<i4", [int(n_units)]]]:
            size = re.fullmatch(r"\|S([1-9]\d{0,4})", key, re.ASCII)
            if bool in (type(n_frames), type(n_units)):
                return None
            if size and numbers == _NUMBERS and 1 <= n_units <= n_frames <= _MAX_FRAMES:
                return int(size[1]) + 4 * (len(_NUMBERS) + n_frames + n_units)
    return None


def parsed(kind: type[ModelT], node: Any, where: str, place: str) -> ModelT:
    """Read a node as a model; the error names the field and the value."""
    try:
        return kind.model_validate(node)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))[:200]
        value = repr(first["input"])
        shown = value if len(value) <= 80 else value[:80] + "..."
        reason = first["msg"].replace("Input should", "must")
        raise refused(where, f"{place and place + ': '}{field or 'the index'} {reason}, not {shown}") from None
