"""Bringing a memory's files in line with its index: what the last update left to do, or what a kill left undone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from vclimb.memory.store.layout import (
    ARRAYS,
    CLASS_FOLDER,
    CLASSES,
    NODE_FILE,
    ONLY_CHUNK,
    PAYLOAD,
    Node,
    StoredClass,
    group_node,
    node_bytes,
)
from vclimb.pipeline.errors import TargetError
from vclimb.pipeline.system.durable import draft_of, replace_file, replace_files


def refuse_foreign_files(path: Path) -> None:
    """A memory holds nothing but its own, or its bytes on disk would not be its bytes.

    Raises:
        TargetError: there is something that no memory holds.
    """
    allowed = {NODE_FILE, draft_of(path / NODE_FILE).name}
    foreign = [name for name in os.listdir(path) if name not in allowed | {CLASSES}]
    if (path / CLASSES).is_dir():
        names = os.listdir(path / CLASSES)
        foreign += [f"{CLASSES}/{name}" for name in names if name not in allowed and not CLASS_FOLDER.fullmatch(name)]
    if foreign:
        raise TargetError(
            f"{path} holds what is no part of a memory ({foreign[0]!r} and {len(foreign) - 1} more); move it elsewhere"
        )
    if (path / CLASSES).exists() and not (path / NODE_FILE).exists():
        raise TargetError(
            f"{path} has classes but no {NODE_FILE}, which lists them; put that back, or remove all of it"
        )


def tidy(path: Path, classes: Iterable[StoredClass]) -> None:
    """Remove every file that isn't of one of these classes, and let each node's own metadata say what the root's says.

    A reader that doesn't know consolidated metadata sees the memory change here, class by class. Files of exemplars
    that are missing stay so: that is damage, and `MemoryStore.verify` names it.
    """
    by_name = {Path(stored.folder).name: stored for stored in classes}
    _remove([draft_of(path / NODE_FILE)])
    (path / CLASSES).mkdir(exist_ok=True)
    nodes = {CLASSES: group_node({})}
    for stored in by_name.values():
        nodes |= stored.nodes()
    try:
        # The shapes come first, so that no array names a chunk that is gone.
        replace_files(_wrong_nodes(path, nodes))
    except OSError:
        # The disk may be full. What was dropped makes room then, for one file at a time at least.
        _remove_strays(path, by_name)
        for file, data in _wrong_nodes(path, nodes).items():
            replace_file(file, data)
    _remove_strays(path, by_name)


def _wrong_nodes(path: Path, nodes: Mapping[str, Node]) -> dict[Path, bytes]:
    """The `zarr.json` files that don't say what they should, with what they should."""
    wrong = {}
    for place, node in nodes.items():
        file, expected = path / place / NODE_FILE, node_bytes(node)
        if file.parent.is_dir() and (not file.is_file() or file.read_bytes() != expected):
            wrong[file] = expected
    return wrong


def _remove_strays(path: Path, by_name: Mapping[str, StoredClass]) -> None:
    for name in os.listdir(path / CLASSES):
        folder = path / CLASSES / name
        if name in by_name:
            for place, names in _expected_names(folder, by_name[name]).items():
                if place.is_dir():
                    _remove(place / name for name in os.listdir(place) if name not in names)
        elif name != NODE_FILE:
            _remove([folder / NODE_FILE, folder])


def _expected_names(folder: Path, stored: StoredClass) -> dict[Path, set[str]]:
    """What each folder of a class may hold."""
    chunks = {f"c.{rank}.0" for rank in range(stored.n_exemplars)}
    expected = {folder: {NODE_FILE, *ARRAYS}}
    for array in ARRAYS:
        expected[folder / array] = {NODE_FILE, *(chunks if array == PAYLOAD else {ONLY_CHUNK})}
    return expected


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
