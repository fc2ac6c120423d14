"""SHA-256 of files."""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path

from vclimb.pipeline.system.open_files import open_regular


def file_sha256(path: Path | str) -> str:
    """SHA-256 of a file, as hex digits. The file is always read."""
    with open(open_regular(path), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached_sha256(path: Path | str) -> str:
    """SHA-256 of a file, as hex digits. The file is read again only when its size or its time of change differ."""
    status = os.stat(path)
    return _cached(str(path), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=1024)
def _cached(path: str, _size: int, _mtime_ns: int) -> str:
    return file_sha256(path)
