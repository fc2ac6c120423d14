"""The index of a memory: the metadata of its root group, which says what the memory holds.

    memory.zarr/
      zarr.json             the index: format version, generation, checksum, and the metadata of all nodes
      exemplars/            a part of the memory; other parts lie beside it
        c0007g3/            class of label id 7, written in generation 3
          zarr.json         attributes: label id, class name, encoding, codec
          frames/c.0.0 ..   uint8 (n, longest), one chunk and so one file for each exemplar, in the order of rank
          table/c.0.0 ..    uint8 (n, row), a structured row for each exemplar

Replacing the index changes the memory, all of it at once. A folder's name is never used again for other contents, so
that a reader of an older generation finds what was there then, or nothing.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import google_crc32c
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.group import GroupMetadata
from zarr.core.metadata import ArrayV3Metadata
from zarr.errors import ZarrUserWarning
from zarr.storage import MemoryStore as KeptInMemory

from vclimb.memory.store.atomic_store import NODE_FILE, AtomicStore
from vclimb.memory.store.stored_class import ChunkedRows, StoredClass
from vclimb.pipeline.errors import DatasetError

FORMAT = "vclimb memory"
FORMAT_VERSION = 2
EXEMPLARS = "exemplars"
PARTS = (EXEMPLARS, "statistics", "parameters", "logits")
"""Groups that a memory may have. Exemplars are the part that is always there."""

FRAMES, TABLE = "frames", "table"
CLASS_FOLDER = re.compile(r"c\d{4,}g\d+")
CODECS = ("bytes", "zstd", "crc32c")

Node = GroupMetadata | ArrayV3Metadata


def class_folder(label: int, generation: int) -> str:
    """Place within the memory of a class that was written in a generation."""
    return f"{EXEMPLARS}/c{label:04d}g{generation}"


def create(store: AtomicStore) -> None:
    """Create an empty memory, without publishing it."""
    with writing_settings():
        root = zarr.create_group(store, attributes={"format": FORMAT, "format_version": FORMAT_VERSION})
        root.require_group(EXEMPLARS)  # a killed writer may have left it
        write_index(store, 0)


def write_index(store: AtomicStore, generation: int) -> None:
    """Gather the metadata of all nodes in the root group, without publishing it."""
    with writing_settings(), warnings.catch_warnings():
        # "Consolidated metadata is currently not part in the Zarr format 3 specification": readers that don't know it
        # find the same metadata in the nodes.
        warnings.simplefilter("ignore", ZarrUserWarning)
        root = zarr.consolidate_metadata(store)
        root.attrs.put({"format": FORMAT, "format_version": FORMAT_VERSION, "generation": generation})
        root.attrs["checksum"] = _checksum(root.metadata.to_dict())


def read_generation(data: bytes, where: str) -> int:
    """Read the generation from the bytes of an index, and check these.

    Args:
        data: All bytes of the root's `zarr.json`.
        where: Path of that file, for errors.

    Raises:
        DatasetError: it isn't the index of a memory, is of another format version, or damaged.
    """
    try:
        document = json.loads(data)
        attributes = document["attributes"]
        format_name, version = attributes.get("format"), attributes.get("format_version")
    except (ValueError, TypeError, KeyError, AttributeError):
        raise DatasetError(f"{where} is damaged: it doesn't read as the metadata of a zarr group") from None
    if format_name != FORMAT:
        raise DatasetError(f"{where} is a zarr group, but not a memory: its format is {format_name!r}, not {FORMAT!r}")
    if version != FORMAT_VERSION:
        raise DatasetError(f"{where}: format version {version!r} is not known; this vclimb reads {FORMAT_VERSION}")
    if attributes.get("checksum") != _checksum(document):
        raise DatasetError(f"{where} is damaged, or was changed by another program: it doesn't fit its checksum")
    generation: int = attributes["generation"]
    return generation


def read_nodes(data: bytes) -> dict[str, Node]:
    """Parse the metadata of all nodes but the root, by their places within the memory, from the bytes of an index."""
    kept = KeptInMemory({NODE_FILE: default_buffer_prototype().buffer.from_bytes(data)}, read_only=True)
    consolidated = zarr.open_group(kept, mode="r").metadata.consolidated_metadata
    assert consolidated is not None, "the index has it, as its checksum says"
    nodes = consolidated.flattened_metadata
    return {place: node for place, node in nodes.items() if isinstance(node, GroupMetadata | ArrayV3Metadata)}


def classes_of(nodes: Mapping[str, Node], path: Path) -> dict[int, StoredClass]:
    """Collect the classes of a memory, by label id, from the metadata of its nodes."""
    classes = {}
    for folder, node in nodes.items():
        if folder.startswith(f"{EXEMPLARS}/") and isinstance(node, GroupMetadata):
            attributes = node.attributes
            table = nodes[f"{folder}/{TABLE}"]
            stored = StoredClass(
                label=attributes["label"],
                name=attributes["class_name"],
                encoding=attributes["encoding"],
                codec=attributes["codec"],
                folder=folder,
                frames=_rows(nodes[f"{folder}/{FRAMES}"], f"{folder}/{FRAMES}", path),
                table=_rows(table, f"{folder}/{TABLE}", path),
                row_fields=table.attributes["fields"],
            )
            classes[stored.label] = stored
    return classes


def files_of(place: str, node: Node) -> list[str]:
    """List the files of a node: its metadata and, of an array, its chunks."""
    files = [f"{place}/{NODE_FILE}"]
    if isinstance(node, ArrayV3Metadata):
        counts = [-(-length // chunk) for length, chunk in zip(node.shape, node.chunks, strict=True)]
        files += [f"{place}/{node.encode_chunk_key(chunk)}" for chunk in product(*map(range, counts))]
    return files


def node_bytes(node: Node) -> bytes:
    """Encode the metadata of a node as its `zarr.json` holds it."""
    document = node.to_dict()
    document.pop("consolidated_metadata", None)
    return json.dumps(document).encode()


def entry_bytes(place: str, node: Node) -> int:
    """Count the bytes that the metadata of a node adds to the index."""
    entry = node.to_dict()
    if isinstance(node, GroupMetadata):
        entry["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": {}}
    return len(json.dumps({place: entry}))  # the braces count as the comma and the space before the entry


def writing_settings() -> Any:
    """Let zarr write metadata without indentation, for it counts against a budget in bytes: a context manager."""
    return zarr.config.set({"json_indent": None})


def _rows(node: Node, place: str, path: Path) -> ChunkedRows:
    """Find the files of an array's chunks by its metadata."""
    assert isinstance(node, ArrayV3Metadata)
    codecs = tuple(codec.to_dict()["name"] for codec in node.codecs)
    if codecs != CODECS:
        raise DatasetError(f"{path}/{place} has the codecs {codecs}; allowed: {CODECS}")
    (n_rows, row_bytes), (chunk_rows, _) = node.shape, node.chunks
    keys = [node.encode_chunk_key((number, 0)) for number in range(-(-n_rows // chunk_rows))]
    return ChunkedRows(n_rows, row_bytes, chunk_rows, tuple(f"{place}/{key}" for key in keys))


def _checksum(document: Mapping[str, Any]) -> str:
    """CRC-32C of an index, but for the checksum in it."""
    attributes = {name: value for name, value in document["attributes"].items() if name != "checksum"}
    return f"{google_crc32c.value(json.dumps({**document, 'attributes': attributes}, sort_keys=True).encode()):08x}"
