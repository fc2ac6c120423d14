"""Writing files so that they outlast the process, the system and the power."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Syncs that wait for the disk at a time: it does several at once for little more than the time of one.
_SYNCS_AT_ONCE = 8
_DRAFT = ".{}.new"


def sync(path: Path | str) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_all(paths: Iterable[Path | str]) -> None:
    """Sync many files or folders."""
    with ThreadPoolExecutor(_SYNCS_AT_ONCE) as pool:
        for _ in pool.map(sync, paths):
            pass


def draft_of(path: Path) -> Path:
    """Where a file is written before it takes its place."""
    return path.with_name(_DRAFT.format(path.name))


def replace_file(path: Path, data: bytes) -> None:
    """Put a file in the place of another, if there is one: whoever reads it meets the old or the new bytes."""
    draft = draft_of(path)
    try:
        draft.write_bytes(data)
        sync(draft)
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync(path.parent)


def replace_files(files: Mapping[Path, bytes]) -> None:
    """Replace many files, each for itself."""
    with ThreadPoolExecutor(_SYNCS_AT_ONCE) as pool:
        for _ in pool.map(replace_file, files.keys(), files.values()):
            pass
