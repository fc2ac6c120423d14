"""Bringing a memory's files in line with its index: what the last update left to do, or what a kill left undone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from vclimb.memory.store.atomic_store import NODE_FILE, folders_of
from vclimb.memory.store.class_nodes import CLASS_FOLDER
from vclimb.memory.store.index_nodes import EXEMPLARS, GROUPS, Node
from vclimb.memory.store.memory_index import files_of, node_bytes
from vclimb.pipeline.errors import TargetError
from vclimb.pipeline.system.durable import draft_of, replace_file, replace_files


def refuse_foreign_files(path: Path) -> None:
    """Refuse a folder that holds anything besides a memory: the memory's bytes on disk would not be its own.

    Raises:
        TargetError: there is a foreign file or folder, a link, or there are classes without an index.
    """
    if link := _first_link(path):
        raise TargetError(
            f"{link} is a link, and a memory is never written or tidied through links; put the files there themselves"
        )
    metadata = {NODE_FILE, draft_of(path / NODE_FILE).name}
    foreign = [name for name in os.listdir(path) if name not in metadata and name not in GROUPS]
    names = os.listdir(path / EXEMPLARS) if (path / EXEMPLARS).is_dir() else []
    classes = [name for name in names if CLASS_FOLDER.fullmatch(name)]
    foreign += [f"{EXEMPLARS}/{name}" for name in names if name not in metadata and name not in classes]
    if foreign:
        raise TargetError(
            f"{path} holds what is no part of a memory ({foreign[0]!r} and {len(foreign) - 1} more); move it elsewhere"
        )
    if classes and not (path / NODE_FILE).exists():
        raise TargetError(
            f"{path} has classes but no {NODE_FILE}, which lists them; put that back, or remove all of it"
        )


def _first_link(path: Path | str) -> str | None:
    """Find a link below a folder, which may itself be one."""
    with os.scandir(path) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_symlink():
                return entry.path
            if entry.is_dir(follow_symlinks=False) and (link := _first_link(entry.path)):
                return link
    return None


def tidy(path: Path, nodes: Mapping[str, Node]) -> None:
    """Remove every file that the index doesn't name, and let each node's own metadata say what the index says.

    A reader that doesn't know consolidated metadata sees the memory change here, node by node. Files of exemplars
    that are missing stay so: that is damage, which `MemoryStore.verify` names. The nodes are those of `read_index`.
    """
    try:
        # The shapes come first, so that no array names a chunk that is gone.
        replace_files(_outdated_metadata(path, nodes))
    except OSError:
        # The disk may be full. What was dropped makes room then, for one file at a time at least.
        _remove_unnamed(path, nodes)
        for file, data in _outdated_metadata(path, nodes).items():
            replace_file(file, data)
    _remove_unnamed(path, nodes)


def _outdated_metadata(path: Path, nodes: Mapping[str, Node]) -> dict[Path, bytes]:
    """Find the `zarr.json` files that don't say what the index says, and what they should say."""
    outdated = {}
    for place, node in nodes.items():
        file, expected = path / place / NODE_FILE, node_bytes(node)
        if file.parent.is_dir() and (not file.is_file() or file.read_bytes() != expected):
            outdated[file] = expected
    return outdated


def _remove_unnamed(path: Path, nodes: Mapping[str, Node]) -> None:
    files = {NODE_FILE, *(file for place, node in nodes.items() for file in files_of(place, node))}
    folders = folders_of(files)
    for folder in sorted(folders):
        # The metadata goes first: a reader that lists folders finds a group whole or not at all.
        for name in sorted(os.listdir(path / folder) if (path / folder).is_dir() else (), key=lambda n: n != NODE_FILE):
            place = f"{folder}/{name}" if folder else name
            if place not in files and place not in folders:
                _remove(path / place)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        (path / NODE_FILE).unlink(missing_ok=True)
        shutil.rmtree(path)
    else:
        path.unlink()
