"""How a memory lies on disk: a zarr v3 hierarchy whose every byte is known before it is written.

    memory.zarr/
      zarr.json             root group: format version, generation, and the metadata of all nodes ("consolidated")
      classes/
        c0007g3/            class of label id 7, written in generation 3
          zarr.json         attributes: label id, class name, encoding, codec
          payload/c.0.0 ..  uint8 (n, longest), a chunk and so a file for each exemplar, in the order of rank
          facts/c.0.0       int64 (n, columns), frame numbers and the like
          key/c.0.0         uint8 (n, longest), UTF-8

Replacing the root's `zarr.json` is what changes the memory, all of it at once: a class or an exemplar that it doesn't
name isn't there. A folder's name is never used again for other contents, so that whoever still reads an older
generation finds what was there then, or nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vclimb.memory.store.chunk_codec import BYTES_OF_INT64, BYTES_OF_UINT8, COMPRESS_AND_CHECK, crc32c
from vclimb.memory.store.class_table import columns
from vclimb.pipeline.errors import DatasetError

FORMAT = "vclimb memory"
FORMAT_VERSION = 1
NODE_FILE = "zarr.json"
CLASSES = "classes"
PAYLOAD, FACTS, KEY = "payload", "facts", "key"
ARRAYS = (PAYLOAD, FACTS, KEY)
ONLY_CHUNK = "c.0.0"
CLASS_FOLDER = re.compile(r"c(\d{4,})g(\d+)")

_CHECKSUM = re.compile(rb'"checksum":"([0-9a-f]{8})"')
_NO_CHECKSUM = b'"checksum":"00000000"'

Node = dict[str, Any]


@dataclass(frozen=True)
class StoredClass:
    """A class of a memory: all that its metadata says.

    Attributes:
        label: label id.
        name: of the class.
        encoding: how its exemplars were encoded, such as `jpeg:75@128`.
        codec: of the bytes, such as `jpeg`.
        generation: in which it was written.
        n_exemplars: that it holds; their ranks are 0 up to this.
        n_written: that it held at first. The table of facts and the keys still have a row for each.
        row_bytes: bytes of the largest exemplar; all are padded to it, which compression undoes.
        n_frames: the most frames that one exemplar has.
        n_units: the most units likewise.
        key_bytes: of the longest key.
    """

    label: int
    name: str
    encoding: str
    codec: str
    generation: int
    n_exemplars: int
    n_written: int
    row_bytes: int
    n_frames: int
    n_units: int
    key_bytes: int

    @property
    def folder(self) -> str:
        """Its place within the memory."""
        return f"{CLASSES}/c{self.label:04d}g{self.generation}"

    @property
    def n_columns(self) -> int:
        """Of the table of facts."""
        return columns(self.n_frames, self.n_units)["unit_bytes"][1]

    def chunk(self, rank: int) -> str:
        """The file, within the memory, of an exemplar's encoded frames."""
        return f"{self.folder}/{PAYLOAD}/c.{rank}.0"

    def nodes(self) -> dict[str, Node]:
        """The metadata of its group and its arrays, by their places within the memory."""
        n, written = self.n_exemplars, self.n_written
        attributes = {"label": self.label, "class_name": self.name, "encoding": self.encoding, "codec": self.codec}
        facts = {"columns": columns(self.n_frames, self.n_units)}
        return {
            self.folder: group_node(attributes),
            f"{self.folder}/{PAYLOAD}": _array_node("uint8", (n, self.row_bytes), 1, {}),
            f"{self.folder}/{FACTS}": _array_node("int64", (n, self.n_columns), written, facts),
            f"{self.folder}/{KEY}": _array_node("uint8", (n, self.key_bytes), written, {}),
        }

    def metadata_bytes(self) -> int:
        """Bytes of its metadata on disk: in files of its own, and as part of the root's."""
        return sum(len(node_bytes(node)) for node in self.nodes().values()) + len(_entries(self.nodes()))

    @classmethod
    def from_nodes(cls, folder: str, nodes: Mapping[str, Node]) -> StoredClass:
        """The class of a folder `classes/...` from the metadata of all nodes."""
        match = CLASS_FOLDER.fullmatch(folder.removeprefix(f"{CLASSES}/"))
        if match is None:
            raise ValueError(f"{folder} is no place of a class")
        attributes = nodes[folder]["attributes"]
        payload, facts, key = (nodes[f"{folder}/{array}"] for array in ARRAYS)
        of = facts["attributes"]["columns"]
        return cls(
            label=attributes["label"],
            name=attributes["class_name"],
            encoding=attributes["encoding"],
            codec=attributes["codec"],
            generation=int(match[2]),
            n_exemplars=payload["shape"][0],
            n_written=facts["chunk_grid"]["configuration"]["chunk_shape"][0],
            row_bytes=payload["shape"][1],
            n_frames=of["frames"][1] - of["frames"][0],
            n_units=of["unit_bytes"][1] - of["unit_bytes"][0],
            key_bytes=key["shape"][1],
        )


def group_node(attributes: Mapping[str, Any]) -> Node:
    return {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}


def node_bytes(node: Node) -> bytes:
    """The `zarr.json` of a node."""
    return json.dumps(node, separators=(",", ":")).encode()


def root_bytes(generation: int, classes: Iterable[StoredClass]) -> bytes:
    """The root's `zarr.json`: the memory's contents in one file, which its checksum covers."""
    nodes = {CLASSES: group_node({})}
    for stored in sorted(classes, key=lambda stored: stored.label):
        nodes |= stored.nodes()
    attributes = {"format": FORMAT, "format_version": FORMAT_VERSION, "generation": generation, "checksum": "0" * 8}
    inline = {"kind": "inline", "must_understand": False, "metadata": nodes}
    unchecked = node_bytes(group_node(attributes) | {"consolidated_metadata": inline})
    return unchecked.replace(_NO_CHECKSUM, _checksum_of(unchecked), 1)


def read_root(data: bytes, where: str) -> tuple[int, dict[int, StoredClass]]:
    """The generation and the classes, by label id, that a root's `zarr.json` names.

    Raises:
        DatasetError: it isn't a memory, is of another format version, or damaged.
    """
    try:
        node = json.loads(data)
        attributes = node["attributes"]
        found, version = attributes.get("format"), attributes.get("format_version")
    except (ValueError, TypeError, KeyError, AttributeError):
        raise DatasetError(f"{where} is damaged: it doesn't read as the metadata of a zarr group") from None
    if found != FORMAT:
        raise DatasetError(f"{where} is a zarr group, but not a memory: its format is {found!r}, not {FORMAT!r}")
    if version != FORMAT_VERSION:
        raise DatasetError(f"{where}: format version {version!r} is not known; this vclimb reads {FORMAT_VERSION}")
    match = _CHECKSUM.search(data)
    if match is None or match[0] != _checksum_of(_CHECKSUM.sub(_NO_CHECKSUM, data, count=1)):
        raise DatasetError(f"{where} is damaged, or was changed by another program: it doesn't fit its checksum")
    nodes = node["consolidated_metadata"]["metadata"]
    folders = [name for name in nodes if name.count("/") == 1]
    classes = [StoredClass.from_nodes(folder, nodes) for folder in folders]
    return attributes["generation"], {stored.label: stored for stored in classes}


def empty_bytes(generation: int) -> int:
    """Bytes of all files of a memory without classes."""
    return len(root_bytes(generation, [])) + len(node_bytes(group_node({})))


def _array_node(data_type: str, shape: tuple[int, int], chunk_rows: int, attributes: Mapping[str, Any]) -> Node:
    to_bytes = BYTES_OF_INT64 if data_type == "int64" else BYTES_OF_UINT8
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [chunk_rows, shape[1]]}},
        # With "/", which is the default, each exemplar would have a folder to itself.
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": 0,
        "codecs": [to_bytes, *COMPRESS_AND_CHECK],
        "attributes": dict(attributes),
    }


def _entries(nodes: Mapping[str, Node]) -> bytes:
    """Nodes as further entries of the root's consolidated metadata."""
    return b"".join(b"," + json.dumps(name).encode() + b":" + node_bytes(node) for name, node in nodes.items())


def _checksum_of(unchecked: bytes) -> bytes:
    return b'"checksum":"%08x"' % crc32c(unchecked)
