"""Writing files so that they survive a crash of the process or the system, and a power cut."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# A disk does several syncs at once in little more than the time of one.
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
    """Wait until all of some files and folders are on the disk."""
    listed = [*paths]
    with ThreadPoolExecutor(_SYNCS_AT_ONCE) as pool:  # a task for each thread: one for each file would cost as much
        for _ in pool.map(_sync_each, (listed[first::_SYNCS_AT_ONCE] for first in range(_SYNCS_AT_ONCE))):
            pass


def _sync_each(paths: Sequence[Path | str]) -> None:
    for path in paths:
        sync(path)


def draft_of(path: Path) -> Path:
    """Path beside a file where its new content is written before it takes the file's place."""
    return path.with_name(_DRAFT.format(path.name))


def _write(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write a file, but not where a symbolic link leads."""
    with open(path, "wb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o666)) as file:
        file.writelines([data] if isinstance(data, bytes) else data)


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and wait until its bytes are on the disk."""
    _write(path, data)
    sync(path)


def move_synced(draft: Path, path: Path) -> None:
    """Sync a finished file and rename it to its final path, in place of an earlier file if there is one."""
    sync(draft)
    os.replace(draft, path)
    sync(path.parent)


def replace_file(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write a file from its bytes, or from parts of them, or replace one.

    Readers and crashes meet the old or the new bytes, whole.
    """
    draft = draft_of(path)
    try:
        _write(draft, data)
        move_synced(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def replace_in_order(files: Mapping[Path, bytes]) -> None:
    """Replace files of one folder, one after another. The drafts of all are on the disk before the first is replaced.

    A full disk therefore leaves the old files. Where the process is killed in between, the files that are still to be
    replaced have their drafts beside them.
    """
    folder = next(iter(files)).parent
    try:
        for path, data in files.items():
            write_synced(draft_of(path), data)
        sync(folder)
    except BaseException:
        for path in files:
            draft_of(path).unlink(missing_ok=True)
        raise
    for path in files:
        os.replace(draft_of(path), path)
        sync(folder)


def replace_files(files: Mapping[Path, bytes]) -> None:
    """Replace many files, each for itself."""
    with ThreadPoolExecutor(_SYNCS_AT_ONCE) as pool:
        for _ in pool.map(replace_file, files.keys(), files.values()):
            pass
