"""What the index of a memory may say of its nodes: types, ranges and cross-references, checked before anything is used.

Each group and array of the index is read as one of these models, here and in `class_nodes` and `array_nodes`, which
compare them with one another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from vclimb.memory.store.errors import MemoryStoreError

EXEMPLARS = "exemplars"
GROUPS = (EXEMPLARS, "statistics", "parameters", "logits")
"""Groups that a memory may have. Exemplars are always there."""
PARTS = (EXEMPLARS, "features", *GROUPS[1:])
"""Parts that the bytes of a memory are counted by."""
INDEX = "index"
"""Name, among the bytes of parts, of those that belong to no part: of the metadata of the root group."""

FRAMES, TABLE = "frames", "table"

MAX_LABEL = 2**31 - 1
MAX_GENERATION = 10**15
MAX_EXEMPLARS = 2**20  # of all classes
MAX_EXEMPLAR_BYTES = 2**31 - 1  # readers of zarr can't hold more in one chunk
TABLE_CHUNK_ROWS = 32  # dropping exemplars frees whole chunks of the table
MAX_CHUNKS = 2**22  # of all arrays

_REMEDY = "restore the memory from a copy, or remove it and make it anew"
Node = Mapping[str, Any]
"""Metadata of a zarr group or array, as its `zarr.json` holds it."""

Length = Annotated[int, Field(ge=1, le=2**62)]
_OBJECT = TypeAdapter(dict[str, Any])
ModelT = TypeVar("ModelT", bound=BaseModel)


class Stored(BaseModel):
    """Base of what an index says: exact types, and no fields beside those named."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class _Consolidated(Stored):
    kind: Literal["inline"]
    must_understand: Literal[False]
    metadata: Annotated[dict[str, Any], Field(max_length=0)]


class GroupNode(Stored):
    """A group of the hierarchy."""

    node_type: Literal["group"]
    zarr_format: Literal[3]
    attributes: dict[str, Any]
    consolidated_metadata: _Consolidated | None = None


class _ChunkShape(Stored):
    chunk_shape: Annotated[list[Length], Field(min_length=1, max_length=32)]


class _ChunkGrid(Stored):
    name: Literal["regular"]
    configuration: _ChunkShape


class _Separator(Stored):
    separator: Literal[".", "/"]


class _ChunkKeys(Stored):
    name: Literal["default"]
    configuration: _Separator


class ArrayNode(Stored):
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


class _IndexAttributes(Stored):
    format: str
    format_version: int
    generation: Annotated[int, Field(ge=0, le=MAX_GENERATION)]
    checksum: str


class _Nodes(Stored):
    kind: Literal["inline"]
    must_understand: Literal[False]
    metadata: dict[str, dict[str, Any]]


class Index(Stored):
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
