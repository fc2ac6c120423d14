"""Files that are read whole or line by line, within a limit: others may have written them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path


def read_small(path: Path | str, max_bytes: int) -> bytes:
    """Read a regular file of at most `max_bytes`.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it can't be read, is larger, or is no regular file, such as a pipe, from which reading might never end.
    """
    path = _regular(path)
    with path.open("rb") as file:
        # Python allocates as many bytes as are asked for, so no more are asked for than there are.
        size = os.fstat(file.fileno()).st_size
        data = file.read(min(size, max_bytes) + 1)
        if size < len(data) <= max_bytes:  # the file has grown meanwhile
            data += file.read(max_bytes + 1 - len(data))
    if len(data) > max_bytes:
        raise OSError(errno.EFBIG, f"larger than {max_bytes / 2**20:g} MiB", str(path))
    return data


def lines_of(path: Path, max_bytes: int) -> Iterator[bytes]:
    """Read the lines of a regular file, each with its end and of at most `max_bytes`. Raises as `read_small` does."""
    with _regular(path).open("rb") as file:
        while line := file.readline(max_bytes + 1):
            if len(line) > max_bytes:
                raise OSError(errno.EFBIG, f"a line is larger than {max_bytes / 2**20:g} MiB", str(path))
            yield line


def _regular(path: Path | str) -> Path:
    """The path, unless it is there and isn't a regular file, which raises an OSError."""
    path = Path(path)
    if path.exists() and not path.is_file():
        kind = errno.EISDIR if path.is_dir() else errno.EINVAL
        raise OSError(kind, os.strerror(kind) if path.is_dir() else "not a regular file", str(path))
    return path
