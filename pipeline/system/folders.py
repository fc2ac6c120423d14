"""Folders to write to: errors of the disk explained, and a lock that only one process holds."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vclimb.pipeline.errors import TargetBusyError, TargetError

_BUSY = "another run is writing to"


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Turn the system's errors about a full, read-only or forbidden disk into a `TargetError`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = f"no space left on the disk of {folder}; free some and run the same command again"
        elif error.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENAMETOOLONG, errno.ELOOP):
            message = f"can't write to {folder}: {error.strerror}; choose another folder"
        elif error.errno == errno.EFBIG:
            message = f"the disk of {folder}, or a limit (ulimit -f), takes no file of this size; raise the limit"
        elif error.errno in (errno.ENOENT, errno.ESTALE) and not folder.exists():
            message = f"{folder} is gone: it was removed or moved while it was written to"
        elif error.errno in (errno.ENOTDIR, errno.EEXIST):
            message = f"{folder} can't be a folder: {error.strerror}; choose another folder"
        else:
            raise
        raise TargetError(message) from None


def lock_folder(folder: Path, busy: str = _BUSY) -> int:
    """Make a folder and lock it for this process. The kernel ends the lock with the process, however that ends.

    Returns a handle for `unlock_folder`. Raises a TargetBusyError that begins with `busy` where another process holds
    the lock, and a TargetError where the folder can't be made or opened.
    """
    with writable(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:  # such as below /proc, where nothing can be made
            raise TargetError(f"can't make the folder {folder}: {error.strerror}; choose another folder") from None
        handle = os.open(folder, os.O_RDONLY)
    if not _lock(handle):
        os.close(handle)
        raise TargetBusyError(f"{busy} {folder}; wait for it to end, or choose another folder")
    return handle


def unlock_folder(handle: int) -> None:
    """Release a lock. Processes forked meanwhile share the handle, so closing it would not be enough."""
    fcntl.flock(handle, fcntl.LOCK_UN)
    os.close(handle)


@contextmanager
def held_folder(folder: Path, busy: str = _BUSY) -> Iterator[None]:
    """Hold the lock of a folder within a block; see `lock_folder`."""
    handle = lock_folder(folder, busy)
    try:
        yield
    finally:
        unlock_folder(handle)


def is_locked(folder: Path) -> bool:
    """Whether a process holds the lock of a folder. False where there is no folder."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _lock(handle)
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
