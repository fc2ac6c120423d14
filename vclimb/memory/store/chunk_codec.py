"""The codecs that all chunks of a memory go through: zarr v3's `bytes`, `zstd` and `crc32c`.

Zarr's own machinery for them costs more than reading a small file does, so chunks are encoded and decoded here; that
zarr reads them alike is tested.
"""

from __future__ import annotations

from typing import Any

import google_crc32c
import numcodecs

from vclimb.pipeline.errors import VclimbError

# Level 1 is for the padding and the numbers; encoded frames don't get smaller.
_ZSTD_LEVEL = 1
_CHECKSUM_BYTES = 4

# The codecs as the metadata of an array names them; `bytes` needs an `endian` where an item has several.
BYTES_OF_UINT8: dict[str, Any] = {"name": "bytes"}
BYTES_OF_INT64: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "little"}}
COMPRESS_AND_CHECK: list[dict[str, Any]] = [
    {"name": "zstd", "configuration": {"level": _ZSTD_LEVEL, "checksum": False}},
    {"name": "crc32c"},
]


class ChunkDamagedError(VclimbError, ValueError):
    """A chunk's bytes are not the ones that were written."""


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli) of some bytes."""
    checksum: int = google_crc32c.value(data)
    return checksum


def encode_chunk(data: bytes) -> bytes:
    """The file of a chunk."""
    packed: bytes = numcodecs.Zstd(level=_ZSTD_LEVEL).encode(data)
    return packed + crc32c(packed).to_bytes(_CHECKSUM_BYTES, "little")


def decode_chunk(file: bytes, n_bytes: int) -> bytes:
    """The bytes of a chunk from those of its file.

    Args:
        file: all of it.
        n_bytes: that a chunk of this array has.

    Raises:
        ChunkDamagedError: the checksum doesn't fit, or it is of another size.
    """
    packed, checksum = file[:-_CHECKSUM_BYTES], file[-_CHECKSUM_BYTES:]
    if len(file) <= _CHECKSUM_BYTES or crc32c(packed) != int.from_bytes(checksum, "little"):
        raise ChunkDamagedError("its bytes don't fit their checksum")
    try:
        data: bytes = numcodecs.Zstd().decode(packed)
    except (RuntimeError, ValueError) as error:
        raise ChunkDamagedError(f"it doesn't decompress: {error}") from None
    if len(data) != n_bytes:
        raise ChunkDamagedError(f"it holds {len(data)} bytes, not {n_bytes}")
    return data
