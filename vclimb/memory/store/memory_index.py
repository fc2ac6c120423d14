"""The index of a memory: the metadata of its root group, which says what the memory holds.

    memory.zarr/
      zarr.json             the index: format version, generation, checksum, and the metadata of all nodes
      exemplars/            a part of the memory; other parts lie beside it
        c0007g3/            class of label id 7, written in generation 3
          zarr.json         attributes: label id, class name, encoding, codec
          frames/c.0.0 ..   uint8 (n, longest), one chunk and so one file for each exemplar, in the order of rank
          table/c.0.0 ..    uint8 (n, row), a structured row for each exemplar

Replacing the index changes the memory, all of it at once. A folder's name is never used again for other contents, so
that a reader of an older generation finds what was there then, or nothing. This module loads no zarr, which takes a
decoding worker a third of a second.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import google_crc32c

from vclimb.memory.store.stored_class import INDEX_FILE, ChunkedRows, StoredClass
from vclimb.pipeline.errors import DatasetError

FORMAT = "vclimb memory"
FORMAT_VERSION = 2
EXEMPLARS = "exemplars"
PARTS = (EXEMPLARS, "statistics", "parameters", "logits")
"""Groups that a memory may have. Exemplars are the part that is always there."""

FRAMES, TABLE = "frames", "table"
CLASS_FOLDER = re.compile(r"c\d{4,}g\d+")
CODECS = ("bytes", "zstd", "crc32c")

Node = Mapping[str, Any]
"""Metadata of a zarr group or array, as its `zarr.json` holds it."""


def read_index(path: Path) -> tuple[int, dict[str, Node]]:
    """Read a memory's index.

    Returns:
        the generation, and the metadata of all nodes but the root, by their places within the memory.

    Raises:
        DatasetError: there is no memory, or its index is damaged or of another format version.
    """
    where = path / INDEX_FILE
    try:
        document = json.loads(where.read_bytes())
        attributes = document["attributes"]
        format_name, version = attributes.get("format"), attributes.get("format_version")
    except (FileNotFoundError, NotADirectoryError):
        reason = "is not a folder" if path.is_file() else "is not a memory" if path.exists() else "doesn't exist"
        raise DatasetError(f"{path} {reason}; give the path of a `memory.zarr`") from None
    except OSError as error:
        raise DatasetError(f"can't read {where}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise DatasetError(f"{where} is damaged: it doesn't read as the metadata of a zarr group") from None
    if format_name != FORMAT:
        raise DatasetError(f"{where} is a zarr group, but not a memory: its format is {format_name!r}, not {FORMAT!r}")
    if version != FORMAT_VERSION:
        raise DatasetError(f"{where}: format version {version!r} is not known; this vclimb reads {FORMAT_VERSION}")
    if attributes.get("checksum") != checksum(document):
        raise DatasetError(f"{where} is damaged, or was changed by another program: it doesn't fit its checksum")
    return attributes["generation"], document["consolidated_metadata"]["metadata"]


def checksum(document: Mapping[str, Any]) -> str:
    """Compute the CRC-32C of an index, but for the checksum in it."""
    attributes = {name: value for name, value in document["attributes"].items() if name != "checksum"}
    return f"{google_crc32c.value(json.dumps({**document, 'attributes': attributes}, sort_keys=True).encode()):08x}"


def classes_of(nodes: Mapping[str, Node], path: Path) -> dict[int, StoredClass]:
    """Collect the classes of a memory, by label id, from the metadata of its nodes."""
    classes = {}
    for folder, node in nodes.items():
        if folder.startswith(f"{EXEMPLARS}/") and node["node_type"] == "group":
            attributes = node["attributes"]
            frames, table = (_rows(f"{folder}/{name}", nodes[f"{folder}/{name}"], path) for name in (FRAMES, TABLE))
            classes[attributes["label"]] = StoredClass(
                label=attributes["label"],
                name=attributes["class_name"],
                encoding=attributes["encoding"],
                codec=attributes["codec"],
                folder=folder,
                frames=frames,
                table=table,
                row_fields=nodes[f"{folder}/{TABLE}"]["attributes"]["fields"],
            )
    return classes


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


def _rows(place: str, node: Node, path: Path) -> ChunkedRows:
    codecs = tuple(codec["name"] for codec in node["codecs"])
    if codecs != CODECS:
        raise DatasetError(f"{path}/{place} has the codecs {codecs}; allowed: {CODECS}")
    (n_rows, row_bytes), (chunk_rows, _) = node["shape"], node["chunk_grid"]["configuration"]["chunk_shape"]
    return ChunkedRows(n_rows, row_bytes, chunk_rows, tuple(_chunk_files(place, node)))
