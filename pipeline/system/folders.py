"""Folders to write to: errors of the disk explained, and locks that only one process holds.

The lock of a folder holds among the processes of this machine, since NFS locks no folders. The lock of a file holds
among all machines that see the file, where the file system has locks across machines.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vclimb.pipeline.errors import TargetBusyError, TargetError

# A process that only looks whether a lock is held has it for a moment, so a lock is tried several times.
_TRIES = 6
_BETWEEN_TRIES_SECONDS = 0.02


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


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, unless they are there. Raises a TargetError where that can't be done."""
    with writable(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:  # such as below /proc, where nothing can be made
            raise TargetError(f"can't make the folder {folder}: {error.strerror}; choose another folder") from None


def lock_folder(folder: Path) -> int:
    """Make a folder and lock it for this process, among those of this machine.

    The kernel ends the lock with the process, however that ends. Returns a handle for `unlock_folder`. Raises a
    TargetBusyError where another process holds the lock, and a TargetError where the folder can't be made or opened.
    """
    make_folder(folder)
    with writable(folder):
        handle = os.open(folder, os.O_RDONLY)
    if not _lock(handle):
        os.close(handle)
        raise TargetBusyError(f"another run is writing to {folder}; wait for it to end, or choose another folder")
    return handle


def unlock_folder(handle: int) -> None:
    """Release a lock. Processes forked meanwhile share the handle, so closing it would not be enough."""
    fcntl.flock(handle, fcntl.LOCK_UN)
    os.close(handle)


@contextmanager
def held_folder(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder within a block; see `lock_folder`."""
    handle = lock_folder(folder)
    try:
        yield
    finally:
        unlock_folder(handle)


@contextmanager
def held_file(path: Path, busy: str, *, shared: bool = False, waits: bool = False) -> Iterator[None]:
    """Hold the lock of a file within a block. The file is made if it isn't there, and stays.

    Args:
        path: Path of the file, in a folder that exists.
        busy: Message of the error if another process holds the lock.
        shared: Whether other processes may hold the lock in the same way.
        waits: Whether to wait for the lock.

    Raises:
        TargetBusyError: Another process holds the lock.
        TargetError: The file can't be made or opened.
    """
    with writable(path.parent):
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except IsADirectoryError:
            raise TargetError(f"{path} is a folder, and it must be a file; remove it") from None
    try:
        if not _lock(handle, shared=shared, waits=waits):
            raise TargetBusyError(busy)
        yield
    finally:
        unlock_folder(handle)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock of a file for itself. False where there is no file."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return not _try_lock(handle, fcntl.LOCK_SH)
    finally:
        os.close(handle)


def _lock(handle: int, *, shared: bool = False, waits: bool = False) -> bool:
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    if waits:
        fcntl.flock(handle, kind)
        return True
    for _ in range(_TRIES - 1):
        if _try_lock(handle, kind):
            return True
        time.sleep(_BETWEEN_TRIES_SECONDS)
    return _try_lock(handle, kind)


def _try_lock(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
