"""Memories with right checksums and hostile contents, as somebody else may send them."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest

import vclimb
from vclimb.memory.sheet import memory_sheet
from vclimb.memory.store.chunks import encode_chunk
from vclimb.memory.store.memory_index import checksum
from vclimb.memory.store.reader import MemoryStore
from vclimb.memory.store.writer import MemoryWriter

VALUES: list[Any] = [
    *(None, True, -1, 0, 1, 3, 255, 2**31, 2**63, 10**40, 1.5, 1e300, "", ".", "/", "x" * 20_000, "../../x", "\0", "é"),
    *([], {}, [[]], [1], [0, 0], [2**40, 2**40], [1, 1, 1], {"a": {}}, "gzip", "blosc", "float64", "<i8", "|S9"),
]


def places_of(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """List the places of all values within a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield (*place, name)
        yield from places_of(inner, (*place, name))


def changed(document: Any, dice: random.Random) -> tuple[str, Any]:
    """Replace, remove, rename or double one value within a JSON value. Returns what was done, and the result."""
    document = copy.deepcopy(document)
    place = dice.choice([*places_of(document)])
    parent = document
    for name in place[:-1]:
        parent = parent[name]
    kind, value = dice.choice(["replace"] * 6 + ["remove", "rename", "double"]), dice.choice(VALUES)
    if kind == "remove":
        del parent[place[-1]]
    elif kind == "rename" and isinstance(parent, dict):
        parent[str(value)[:200]] = parent.pop(place[-1])
    elif kind == "double" and isinstance(parent, list):
        parent.insert(0, parent[place[-1]])
    else:
        parent[place[-1]] = value
    return f"{kind} {place} {str(value)[:40]}", document


def write_index(path: Path, document: Any) -> None:
    """Write an index with the checksum that fits it, as far as it has a place for one."""
    if isinstance(document.get("attributes"), dict) and "checksum" in document["attributes"]:
        document["attributes"]["checksum"] = checksum(document)
    (path / "zarr.json").write_text(json.dumps(document))


def index_of(path: Path) -> Any:
    return json.loads((path / "zarr.json").read_bytes())


def rewrite_index(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the metadata of a memory's nodes, and fit the checksum to it."""
    document = index_of(path)
    change(document["consolidated_metadata"]["metadata"])
    write_index(path, document)


def rewrite_table(path: Path, label: int, change: Callable[[Any], None]) -> None:
    """Change the rows of a class's table, of one chunk, as a structured array."""
    stored = MemoryStore.open(path).classes[label]
    fields = [(name, kind, *map(tuple, shape)) for name, kind, *shape in stored.row_fields]
    rows = np.frombuffer(bytearray(stored.table.read_chunk(path, 0)), np.dtype(fields))
    change(rows)
    (path / stored.table.files[0]).write_bytes(encode_chunk(rows.tobytes()))


def with_checksum(packed: bytes) -> bytes:
    return packed + google_crc32c.value(packed).to_bytes(4, "little")


def use(path: Path) -> list[str]:
    """Use a memory in every way. Returns the errors that explain themselves; others are raised."""
    errors = []
    for work in (_read, _write):
        try:
            work(path)
        except vclimb.VclimbError as error:
            errors.append(str(error))
    assert not any("\n" in error or len(error) > 2000 for error in errors), errors
    return errors


def _read(path: Path) -> None:
    memory = vclimb.Memory.open(path)
    json.dumps(memory.to_json())
    damaged = {(one.label, one.rank) for one in memory.store.verify()}
    for label, stored in memory.store.classes.items():
        for rank in range(stored.n_exemplars):
            if (label, rank) in damaged:
                with pytest.raises(vclimb.FrameDamagedError):
                    memory.store.exemplar(label, rank)
            else:
                assert memory.store.exemplar(label, rank).payload_bytes <= stored.frames.row_bytes
    assert memory_sheet(memory.store, memory.usage, 3).n_classes <= 3


def _write(path: Path) -> None:
    with MemoryWriter.open(path) as writer:
        for label in writer.labels:
            writer.costs(label)
        writer.commit(dict.fromkeys(writer.labels, 1))
