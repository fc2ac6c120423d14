"""What the index of a memory may say of the arrays beside the exemplars, checked before anything is used."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from vclimb.memory.store.index_nodes import (
    EXEMPLARS,
    MAX_CHUNKS,
    MAX_EXEMPLAR_BYTES,
    ArrayNode,
    GroupNode,
    Length,
    Node,
    parsed,
    refused,
)
from vclimb.memory.store.stored_array import StoredArray, chunk_bytes

ARRAY_CODECS: list[dict[str, Any]] = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
_BYTE_CODECS: list[dict[str, Any]] = [{"name": "bytes"}, {"name": "crc32c"}]  # one byte has no order
_FOLDER = re.compile(r"([a-z][a-z0-9_]{0,99})-g(\d{1,16})", re.ASCII)
_NAME = re.compile(r"(?:statistics|parameters|logits)/[a-z][a-z0-9_]{0,99}", re.ASCII)


class _PartNode(GroupNode):
    attributes: Annotated[dict[str, Any], Field(max_length=0)]


class _PartArrayNode(ArrayNode):
    model_config = ConfigDict(extra="forbid")

    zarr_format: Literal[3]
    shape: Annotated[list[Length], Field(min_length=1, max_length=32)]
    data_type: Literal["float16", "float32", "float64", "int8", "uint8", "int16", "int32", "int64"]
    fill_value: Literal[0] | Annotated[float, Field(ge=0, le=0)]
    codecs: list[dict[str, Any]]
    storage_transformers: Annotated[list[Any], Field(max_length=0, default_factory=list)]
    attributes: Annotated[dict[str, Any], Field(max_length=0)]


def is_array_name(name: str) -> bool:
    """Tell whether an array may have a name, such as `statistics/importance`."""
    return _NAME.fullmatch(name) is not None


def folder_of(name: str, generation: int) -> str:
    """Place of an array that is written in a generation. No place is used twice for different contents."""
    return f"{name}-g{generation}"


def stored_arrays(nodes: Mapping[str, Node], generation: int, where: str) -> dict[str, StoredArray]:
    """Collect the arrays beside the exemplars, by part and name, from the metadata of a memory's nodes.

    Args:
        generation: Generation of the memory that the nodes are part of.
        where: File of the index, for errors.

    Raises:
        MemoryStoreError: a node says what it can't, or doesn't fit the others.
    """
    arrays: dict[str, StoredArray] = {}
    for place, node in nodes.items():
        part, _, folder = place.partition("/")
        if not folder:  # the group of a part, that of the exemplars too
            parsed(_PartNode, node, where, place)
        if not folder or part == EXEMPLARS:
            continue
        array = stored_array(place, node, generation, where)
        if array.name in arrays:
            raise refused(where, f"{array.name} is there twice")
        arrays[array.name] = array
    return arrays


def stored_array(place: str, node: Node, generation: int, where: str) -> StoredArray:
    """Read an array from the metadata of its node; see `stored_arrays`."""
    part, _, folder = place.partition("/")
    numbers = _FOLDER.fullmatch(folder)
    if numbers is None or int(numbers[2]) > generation:
        raise refused(where, f"{place!r} is no place of an array in a memory of generation {generation}")
    array = checked_array(f"{part}/{numbers[1]}", place, node, where)
    if array.chunk_rows > array.shape[0]:
        raise refused(where, f"{place}: chunk_shape has {array.chunk_rows} rows for the shape {array.shape}")
    return array


def checked_array(name: str, place: str, node: Node, where: str) -> StoredArray:
    """Read an array of plain numbers from its metadata.

    Raises:
        MemoryStoreError: the metadata says what it can't.
    """
    array = parsed(_PartArrayNode, node, where, place)
    codecs = _BYTE_CODECS if array.data_type in ("int8", "uint8") else ARRAY_CODECS
    if json.dumps(array.codecs) != json.dumps(codecs):  # 1 and true are equal
        raise refused(where, f"{place} has the codecs {str(array.codecs)[:300]}; allowed: {codecs}")
    shape, chunk = tuple(array.shape), array.chunk_grid.configuration.chunk_shape
    if len(chunk) != len(shape) or chunk[1:] != array.shape[1:]:
        raise refused(where, f"{place}: chunk_shape is {chunk} for the shape {array.shape}")
    if -(-shape[0] // chunk[0]) > MAX_CHUNKS:
        raise refused(where, f"{place} has more than {MAX_CHUNKS} chunks")
    if chunk_bytes(array.data_type, shape, chunk[0]) > MAX_EXEMPLAR_BYTES:
        raise refused(where, f"{place}: chunk_shape {chunk} has more than {MAX_EXEMPLAR_BYTES} bytes")
    if array.chunk_key_encoding.configuration.separator != ".":
        raise refused(where, f"{place}: chunk_key_encoding.separator must be '.'")
    zeros = ".0" * (len(shape) - 1)
    files = tuple(f"{place}/c.{number}{zeros}" for number in range(array.grid[0]))
    return StoredArray(name, place, array.data_type, shape, chunk[0], files)
