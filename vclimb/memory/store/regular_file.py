"""Reading a whole file that others may have made: only a regular file, and only up to a size."""

from __future__ import annotations

import errno
import os
import stat

from vclimb.memory.store.errors import MemoryStoreError

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe in the place of a file must not block


class IrregularFileError(ValueError):
    """There is no file of an allowed size at the path."""


def read_regular(path: str, limit: int) -> bytes:
    """Read a file of up to `limit` bytes.

    Raises:
        IrregularFileError: it is larger, or a folder, a pipe or the like.
        MemoryStoreError: this process has too many files open.
        OSError: it can't be read.
    """
    try:
        handle = os.open(path, _FLAGS)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise MemoryStoreError(
                f"can't open {path}: {error.strerror}; raise the limit of open files (`ulimit -n`) and try again"
            ) from None
        raise
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise IrregularFileError("it is not a regular file")
        if status.st_size > limit:
            raise IrregularFileError(f"it has {status.st_size} bytes; allowed: {limit}")
        data = os.read(handle, status.st_size)
        while len(data) < status.st_size and (more := os.read(handle, status.st_size - len(data))):
            data += more
        return data
    finally:
        os.close(handle)
