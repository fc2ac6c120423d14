"""Files that are read whole, within a limit: others may have written them."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def read_small(path: Path | str, max_bytes: int) -> bytes:
    """Read a regular file of at most `max_bytes`.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it can't be read, is larger, or is no regular file, such as a pipe, from which reading might never end.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        kind = errno.EISDIR if path.is_dir() else errno.EINVAL
        raise OSError(kind, os.strerror(kind) if path.is_dir() else "not a regular file", str(path))
    with path.open("rb") as file:
        # Python allocates as many bytes as are asked for, so no more are asked for than there are.
        size = os.fstat(file.fileno()).st_size
        data = file.read(min(size, max_bytes) + 1)
        if size < len(data) <= max_bytes:  # the file has grown meanwhile
            data += file.read(max_bytes + 1 - len(data))
    if len(data) > max_bytes:
        raise OSError(errno.EFBIG, f"larger than {max_bytes / 2**20:g} MiB", str(path))
    return data
