"""The members of a shard's tar, by their headers alone.

A shard is plain USTAR: regular files with a header of 512 bytes each. `tarfile.open` takes far more, which only a tar
from elsewhere holds: compressed archives, which may expand to any size, and headers that claim more than is there.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vclimb.pipeline.system.open_files import OpenFile

_BLOCK = tarfile.BLOCKSIZE


class TarMember(NamedTuple):
    name: str  # Name of the member.
    offset: int  # Byte offset of the content.
    size: int  # Size of the content.


def tar_members(path: Path) -> Iterator[TarMember]:
    """Yield the members of a plain tar in order, without reading their contents.

    Raises:
        ValueError: What follows the last member is not a plain tar; says what and where.
        OSError: The file can't be read.
    """
    file = OpenFile(path)
    place = 0
    while True:
        header = os.pread(file.descriptor, _BLOCK, place)
        if len(header) == _BLOCK and not any(header):
            return
        try:
            info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise ValueError(f"no plain tar at byte {place}: {error}") from None
        if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            raise ValueError(f"the member at byte {place} is not a regular file")
        offset = place + _BLOCK
        if not 0 <= info.size <= file.n_bytes - offset:
            raise ValueError(f"the member at byte {place} claims {info.size} bytes, and {file.n_bytes - offset} follow")
        yield TarMember(info.name, offset, info.size)
        place = offset + -(-info.size // _BLOCK) * _BLOCK
