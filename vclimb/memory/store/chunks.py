"""Chunks of a memory's arrays as files: rows of bytes, compressed, with a checksum.

Reading an exemplar through zarr-python takes six times as long as reading its file here, which a decoding worker does
for each clip; writing it takes three times as long. This module loads no zarr, which takes a worker a third of a
second.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numcodecs

from vclimb.memory.store.regular_file import IrregularFileError, read_regular
from vclimb.pipeline.errors import VclimbError

ZSTD_LEVEL = 1  # for padding and numbers: encoded frames don't get smaller
_CHECKSUM_BYTES = 4
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class ChunkDamagedError(VclimbError, ValueError):
    """A chunk's bytes are not the ones that were written."""


def read_chunk_file(path: Path, file: str, most_bytes: int) -> bytes:
    """Read the file of a chunk, of at most `most_bytes`, from the memory at a path.

    Raises:
        FileNotFoundError: the file is missing.
        ChunkDamagedError: it can't be read, is larger, or is no regular file.
    """
    try:
        return read_regular(f"{path}/{file}", most_bytes)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ChunkDamagedError(f"the file can't be read: {error.strerror}") from None
    except IrregularFileError as error:
        raise ChunkDamagedError(str(error)) from None


@dataclass(frozen=True)
class ChunkedRows:
    """A zarr array of uint8 rows that is chunked by rows.

    Attributes:
        chunk_rows: Rows of a chunk; the last chunk may hold rows beyond the last row.
        files: Files of the chunks, within the memory.
    """

    n_rows: int
    row_bytes: int
    chunk_rows: int
    files: tuple[str, ...]

    def read_chunk(self, path: Path, number: int) -> bytes:
        """Read a chunk's `chunk_rows * row_bytes` bytes from the memory at a path.

        Raises:
            FileNotFoundError: its file is missing.
            ChunkDamagedError: it can't be read, its checksum doesn't fit, or it is of another size.
        """
        n_bytes = self.chunk_rows * self.row_bytes
        data = read_chunk_file(path, self.files[number], _most_packed_bytes(n_bytes))
        packed, checksum = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
        if len(data) <= _CHECKSUM_BYTES or google_crc32c.value(packed) != int.from_bytes(checksum, "little"):
            raise ChunkDamagedError("its bytes don't fit their checksum")
        if (declared := _declared_bytes(packed)) != n_bytes:
            raise ChunkDamagedError(f"it holds {declared or 'an unknown number of'} bytes, not {n_bytes}")
        try:
            rows: bytes = numcodecs.Zstd().decode(packed)
        except (RuntimeError, ValueError) as error:
            raise ChunkDamagedError(f"it doesn't decompress: {error}") from None
        except MemoryError:
            raise ChunkDamagedError(f"its {n_bytes} bytes don't fit in this machine's memory") from None
        if len(rows) != n_bytes:
            raise ChunkDamagedError(f"it holds {len(rows)} bytes, not {n_bytes}")
        return rows


def _most_packed_bytes(n_bytes: int) -> int:
    """Limit what zstd makes of some bytes at worst (ZSTD_COMPRESSBOUND), with the checksum."""
    return n_bytes + n_bytes // 256 + 1024 + _CHECKSUM_BYTES


def _declared_bytes(packed: bytes) -> int | None:
    """Read from the header of a zstd frame how many bytes it expands to: RFC 8878, section 3.1.1.1.

    None where the header doesn't say, or there is none.
    """
    if packed[:4] != _ZSTD_MAGIC or len(packed) < 5:
        return None
    descriptor = packed[4]
    is_single = descriptor >> 5 & 1
    size_bytes = (is_single, 2, 4, 8)[descriptor >> 6]
    start = 5 + (1 - is_single) + (0, 1, 2, 4)[descriptor & 3]
    size = int.from_bytes(packed[start : start + size_bytes], "little") + (256 if size_bytes == 2 else 0)
    return size if size_bytes and len(packed) >= start + size_bytes else None


def encode_chunk(rows: bytes) -> bytes:
    """Encode the bytes of a chunk by zarr's codecs zstd and crc32c."""
    packed: bytes = numcodecs.Zstd(level=ZSTD_LEVEL).encode(rows)
    checksum: bytes = google_crc32c.value(packed).to_bytes(_CHECKSUM_BYTES, "little")
    return packed + checksum
