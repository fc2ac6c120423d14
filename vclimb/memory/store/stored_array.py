"""Arrays of plain numbers in a memory, as the index describes them.

They lie beside the exemplars (statistics, parameters or logits), or in a class, with a row for each exemplar (features
or logits). Chunks are not compressed, so that an array takes the same bytes whatever its values are.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

import google_crc32c
import numpy as np
import numpy.typing as npt

from vclimb.memory.store.chunks import ChunkDamagedError, read_chunk_file

DTYPES = ("float16", "float32", "float64", "int8", "uint8", "int16", "int32", "int64")
"""Types of numbers that an array may have."""

AnyArray = npt.NDArray[np.generic]
ArrayShape = tuple[str, tuple[int, ...]]
"""Type and shape of an array."""

CHECKSUM_BYTES = 4
_CHUNK_BYTES = 2**26  # at most, where a row is not longer


@dataclass(frozen=True)
class StoredArray:
    """An array of a memory, chunked along its first axis.

    Attributes:
        name: Part and name of the array, such as `statistics/importance`.
        place: Place of the array within the memory.
        dtype: Type of its numbers, one of `DTYPES`.
        shape: Shape, one axis or more.
        chunk_rows: Rows of a chunk; the last chunk may hold rows beyond the last row.
        files: Files of the chunks, within the memory.
    """

    name: str
    place: str
    dtype: str
    shape: tuple[int, ...]
    chunk_rows: int
    files: tuple[str, ...]

    def read(self, path: Path) -> AnyArray:
        """Read the array from the memory at a path.

        Raises:
            FileNotFoundError: a file is missing.
            ChunkDamagedError: a file can't be read, its checksum doesn't fit, or it is of another size.
        """
        return self.rows_of(b"".join(self.read_chunk(path, file) for file in self.files))[: self.shape[0]]

    def rows_of(self, data: bytes) -> AnyArray:
        """Read the rows that some chunks hold, which may be more than the array has."""
        return np.frombuffer(data, _little_endian(self.dtype)).reshape(-1, *self.shape[1:]).astype(self.dtype)

    def read_chunk(self, path: Path, file: str) -> bytes:
        """Read the numbers of a chunk; errors are those of `read`."""
        n_bytes = chunk_bytes(self.dtype, self.shape, self.chunk_rows)
        data = read_chunk_file(path, file, n_bytes + CHECKSUM_BYTES)
        numbers, checksum = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
        if len(numbers) != n_bytes:
            raise ChunkDamagedError(f"it holds {len(data)} bytes, not {n_bytes + CHECKSUM_BYTES}")
        if google_crc32c.value(numbers) != int.from_bytes(checksum, "little"):
            raise ChunkDamagedError("its bytes don't fit their checksum")
        return numbers


def encode_array(array: AnyArray, chunk_rows: int) -> list[bytes]:
    """Encode the chunks of an array by zarr's codecs bytes and crc32c; the last one is filled up with zeros."""
    array = np.ascontiguousarray(array, _little_endian(array.dtype.name))
    chunks = []
    for start in range(0, len(array), chunk_rows):
        rows = array[start : start + chunk_rows].tobytes()
        data = rows.ljust(chunk_bytes(array.dtype.name, array.shape, chunk_rows), b"\0")
        chunks.append(data + google_crc32c.value(data).to_bytes(CHECKSUM_BYTES, "little"))
    return chunks


def chunk_rows_of(dtype: str, shape: tuple[int, ...]) -> int:
    """Choose the rows of a chunk: as few chunks as their size allows, and as equal as can be."""
    n_chunks = -(-chunk_bytes(dtype, shape, shape[0]) // _CHUNK_BYTES)
    return -(-shape[0] // min(n_chunks, shape[0]))


def chunk_bytes(dtype: str, shape: tuple[int, ...], chunk_rows: int) -> int:
    """Count the bytes of a chunk without its checksum."""
    return chunk_rows * prod(shape[1:]) * np.dtype(dtype).itemsize


def _little_endian(dtype: str) -> np.dtype[np.generic]:
    return np.dtype(dtype).newbyteorder("<")
