"""The index of a memory: the metadata of its root group, which says what the memory holds.

    memory.zarr/
      zarr.json             the index: format version, generation, checksum, and the metadata of all nodes
      statistics/, parameters/, logits/   parts beside the exemplars, where a method keeps any
        importance-g3/      array `statistics/importance`, written in generation 3; chunks are not compressed
      exemplars/            the part that is always there
        c0007g3/            class of label id 7, written in generation 3
          zarr.json         attributes: label id, class name, encoding, codec
          frames/c.0.0 ..   uint8 (n, longest), one chunk and so one file for each exemplar, in the order of rank
          features/, logits/   numbers (n, ...) of each exemplar, beside its frames; features also in their place
          table/c.0.0 ..    uint8 (n, row), a structured row for each exemplar

Replacing the index changes the memory, all of it at once. A folder's name is never used again for other contents, so
that a reader of an older generation finds what was there then, or nothing. This module loads no zarr, which takes a
decoding worker a third of a second.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c

from vclimb.memory.store.array_nodes import stored_arrays
from vclimb.memory.store.class_nodes import stored_classes
from vclimb.memory.store.errors import MemoryStoreError
from vclimb.memory.store.index_nodes import Node, check_index, parse_json, refused
from vclimb.memory.store.regular_file import IrregularFileError, read_regular
from vclimb.memory.store.stored_array import StoredArray
from vclimb.memory.store.stored_class import INDEX_FILE, StoredClass

FORMAT = "vclimb memory"
FORMAT_VERSION = 3
_MAX_INDEX_BYTES = 2**28


@dataclass(frozen=True)
class MemoryIndex:
    """The index of a memory, checked.

    Attributes:
        generation: Number of the update that made this generation.
        nodes: Place within the memory -> metadata, of all nodes but the root.
        classes: Label id -> class.
        arrays: Part and name, such as `statistics/importance` -> array beside the exemplars.
    """

    generation: int
    nodes: Mapping[str, Node]
    classes: dict[int, StoredClass]
    arrays: dict[str, StoredArray]


def read_index(path: Path) -> MemoryIndex:
    """Read a memory's index and check all of it.

    Raises:
        MemoryStoreError: there is no memory, or its index is damaged, says what it can't, or is of another format
            version.
    """
    where = path / INDEX_FILE
    try:
        document = parse_json(read_regular(str(where), _MAX_INDEX_BYTES))
        attributes = document["attributes"]
        format_name, version = attributes.get("format"), attributes.get("format_version")
    except (FileNotFoundError, NotADirectoryError):
        reason = "is not a folder" if path.is_file() else "is not a memory" if path.exists() else "doesn't exist"
        raise MemoryStoreError(f"{path} {reason}; give the path of a `memory.zarr`") from None
    except IrregularFileError as error:
        raise refused(str(where), f"it is damaged: {error}") from None
    except OSError as error:
        raise MemoryStoreError(f"can't read {where}: {error.strerror}") from None
    except MemoryStoreError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError):
        raise refused(str(where), "it is damaged: it doesn't read as the metadata of a zarr group") from None
    if format_name != FORMAT:
        raise MemoryStoreError(
            f"{where} is a zarr group, but not a memory: its format is {_brief(format_name)}, not {FORMAT!r}"
        )
    if version != FORMAT_VERSION:
        raise MemoryStoreError(
            f"{where}: format version {_brief(version)} is not known; this vclimb reads {FORMAT_VERSION}"
        )
    if attributes.get("checksum") != checksum(document):
        raise refused(str(where), "it is damaged, or was changed by another program: it doesn't fit its checksum")
    index = check_index(document, str(where))
    nodes, generation = index.consolidated_metadata.metadata, index.attributes.generation
    classes = stored_classes(nodes, generation, str(where))
    return MemoryIndex(generation, nodes, classes, stored_arrays(nodes, generation, str(where)))


def checksum(document: Mapping[str, Any]) -> str:
    """Compute the CRC-32C of an index, but for the checksum in it."""
    attributes = {name: value for name, value in document["attributes"].items() if name != "checksum"}
    return f"{google_crc32c.value(json.dumps({**document, 'attributes': attributes}, sort_keys=True).encode()):08x}"


def files_of(place: str, node: Node) -> list[str]:
    """List the files of a node: its metadata and, of an array, its chunks."""
    return [f"{place}/{INDEX_FILE}", *(_chunk_files(place, node) if node["node_type"] == "array" else ())]


def node_bytes(node: Node) -> bytes:
    """Encode the metadata of a node as its `zarr.json` holds it."""
    return json.dumps({name: value for name, value in node.items() if name != "consolidated_metadata"}).encode()


def entry_bytes(place: str, node: Node) -> int:
    """Count the bytes that the metadata of a node adds to the index."""
    if node["node_type"] == "group":
        node = {**node, "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": {}}}
    return len(json.dumps({place: node}))  # the braces count as the comma and the space before the entry


def _chunk_files(place: str, node: Node) -> list[str]:
    separator = node["chunk_key_encoding"]["configuration"]["separator"]
    sides = zip(node["shape"], node["chunk_grid"]["configuration"]["chunk_shape"], strict=True)
    numbers = itertools.product(*(range(-(-length // side)) for length, side in sides))
    return [f"{place}/{separator.join(['c', *map(str, chunk)])}" for chunk in numbers]


def _brief(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:80] + "..."
