"""The tables of a data set: rows to parquet and back, and every value checked on the way back."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from io import BufferedIOBase
from typing import Any, NoReturn, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from vclimb.pipeline.dataset import row_checks
from vclimb.pipeline.dataset.arrow_memory import release_memory
from vclimb.pipeline.dataset.column_checks import are_sound_instances, are_sound_videos, fit_header, fit_videos
from vclimb.pipeline.dataset.columns import StoredInstances, StoredVideos
from vclimb.pipeline.dataset.header import Header
from vclimb.pipeline.dataset.packing import single_array
from vclimb.pipeline.dataset.rows import (
    INSTANCE_SCHEMA,
    VIDEO_SCHEMA,
    FailedVideo,
    StoredInstance,
    StoredVideo,
    rate_text,
    table_of,
)
from vclimb.pipeline.system.validation import first_problem

_VIDEOS = TypeAdapter(list[StoredVideo])
_INSTANCES = TypeAdapter(list[StoredInstance])
_ERROR = TypeAdapter(FailedVideo)
Row = TypeVar("Row")

# Limits on what a small file may claim to hold: a row becomes about 1 kB of memory. Tables of 50,000 made-up videos
# have 0.4 rows and 10 bytes for each byte of the file.
_MOST_ROWS_PER_BYTE = 8
_MOST_BYTES_PER_BYTE = 200
_ALWAYS_ALLOWED_BYTES = 2**24
_ROWS_AT_ONCE, _BUFFER_BYTES, _BYTES_BETWEEN_RELEASES = 2**14, 2**16, 2**26


def videos_table(videos: Sequence[StoredVideo]) -> pa.Table:
    """The table of videos."""
    place = VIDEO_SCHEMA.get_field_index("fps")
    others = table_of(videos, VIDEO_SCHEMA.remove(place), fps_fraction=rate_text)
    rates = single_array(others["fps_fraction"].chunks).dictionary_encode()
    floats = np.array([float(Fraction(rate)) for rate in rates.dictionary.to_pylist()], np.float64)
    return others.add_column(place, VIDEO_SCHEMA.field(place), pa.array(floats[rates.indices.to_numpy()]))


def instances_table(instances: Sequence[StoredInstance]) -> pa.Table:
    """The table of instances."""
    return table_of(instances, INSTANCE_SCHEMA)


def parquet_of(table: pa.Table) -> bytes:
    """The bytes of a table in a file."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def read_videos(parquet: BufferedIOBase, n_rows: int) -> StoredVideos:
    """The rows of a table of videos. Raises a ValueError that says what is wrong with the table."""
    table = _Table(parquet, VIDEO_SCHEMA, n_rows)
    try:
        videos = StoredVideos.pack(table.pieces)
    except _UnreadableError:
        raise
    except ValueError:
        _refuse_videos(table)
    if not are_sound_videos(videos, table.column("fps")):
        _refuse_videos(table)
    return videos


def _refuse_videos(table: _Table) -> NoReturn:
    """Raise a ValueError that names the row that is wrong."""
    rows = table.rows()
    for number, (row, video) in enumerate(zip(rows, _checked(_VIDEOS, rows), strict=True)):
        if row["fps"] != video.fps:
            raise ValueError(f"row {number}: fps is {row['fps']}, and fps_fraction {row['fps_fraction']}")
    raise AssertionError("the columns are refused, and no row is")


def check_videos(videos: StoredVideos, header: Header) -> None:
    """Compare the videos of a data set with its shards. Raises a ValueError that names a video that doesn't fit."""
    if not fit_header(videos, header):
        row_checks.check_videos([*videos], header)
        raise AssertionError("the columns are refused, and no row is")


def read_instances(
    parquet: BufferedIOBase, n_rows: int, videos: StoredVideos, *, known_only: bool = False
) -> StoredInstances:
    """The rows of a table of instances, compared with the videos of the data set.

    Args:
        known_only: Whether to leave out the instances of other videos.

    Raises:
        ValueError: Something is wrong with the table; says what.
    """
    table = _Table(parquet, INSTANCE_SCHEMA, n_rows)
    try:
        instances = StoredInstances.pack(table.pieces, videos, known_only=known_only)
    except KeyError:
        _refuse_instances(table, videos, known_only)
    if not are_sound_instances(instances) or not fit_videos(instances):
        _refuse_instances(table, videos, known_only)
    return instances


def _refuse_instances(table: _Table, videos: StoredVideos, known_only: bool) -> NoReturn:
    """Raise a ValueError that names the row that is wrong."""
    rows, keys = _checked(_INSTANCES, table.rows()), {*videos.keys.to_pylist()}
    row_checks.check_instances([row for row in rows if not known_only or row.key in keys], [*videos])
    raise AssertionError("the columns are refused, and no row is")


def read_errors(lines: bytes, n_rows: int) -> list[FailedVideo]:
    """The rows of `errors.jsonl`. Raises a ValueError that says what is wrong with it."""
    rows = []
    for number, line in enumerate(lines.split(b"\n"), 1):
        try:
            if line:
                rows.append(_ERROR.validate_json(line, strict=True))
        except ValidationError as error:
            raise ValueError(f"line {number}: {first_problem(error)}") from None
    if len(rows) != n_rows:
        raise ValueError(f"it has {len(rows)} rows, not {n_rows}")
    return rows


def _checked(rows_type: TypeAdapter[list[Row]], rows: list[dict[str, Any]]) -> list[Row]:
    try:
        return rows_type.validate_python(rows)
    except ValidationError as error:
        raise ValueError(f"row {first_problem(error)}") from None


class _UnreadableError(ValueError):
    """A file is not such a table; says why."""


class _Table:
    """A parquet file whose columns are read one by one, since all at once take several times the memory.

    Raises a ValueError where the file has other columns, another number of rows, or claims to hold far more than fits.
    """

    def __init__(self, parquet: BufferedIOBase, schema: pa.Schema, n_rows: int) -> None:
        self._schema = schema
        self._n_read_bytes = 0  # since memory was released
        with _explained():
            n_file_bytes = parquet.seek(0, os.SEEK_END)
            self._file = pq.ParquetFile(parquet, buffer_size=_BUFFER_BYTES, pre_buffer=False)
            if not self._file.schema_arrow.equals(schema):
                raise _UnreadableError(
                    f"its columns are not {', '.join(f'{field.name}: {field.type}' for field in schema)}"
                )
            metadata = self._file.metadata
            if metadata.num_rows != n_rows:
                raise _UnreadableError(f"it has {metadata.num_rows} rows, not {n_rows}")
            groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
            n_bytes = sum(
                group.column(column).total_uncompressed_size
                for group in groups
                for column in range(metadata.num_columns)
            )
            most_bytes = _MOST_BYTES_PER_BYTE * n_file_bytes + _ALWAYS_ALLOWED_BYTES
            if n_rows > _MOST_ROWS_PER_BYTE * n_file_bytes or n_bytes > most_bytes:
                raise _UnreadableError(
                    f"it claims to hold {n_rows} rows of {n_bytes} bytes in a file of {n_file_bytes} bytes"
                )

    def pieces(self, name: str) -> Iterator[pa.Array]:
        """Read one column, a piece after another."""
        if self._n_read_bytes > _BYTES_BETWEEN_RELEASES:
            release_memory()
            self._n_read_bytes = 0
        with _explained():
            # Without arrow's threads: a thread that touches a Python object while this process forks or exits makes
            # the child hang or the process abort.
            for batch in self._file.iter_batches(_ROWS_AT_ONCE, columns=[name], use_threads=False):
                batch.validate(full=True)
                self._n_read_bytes += batch.nbytes
                yield batch.column(0)
        if not self._file.metadata.num_rows:
            yield pa.array([], self._schema.field(name).type)

    def column(self, name: str) -> pa.ChunkedArray:
        """Read one column."""
        return pa.chunked_array([*self.pieces(name)])

    def rows(self) -> list[dict[str, Any]]:
        """Read all rows."""
        table = pa.table({name: self.column(name) for name in self._schema.names})
        rows: list[dict[str, Any]] = table.to_pylist()
        return rows


@contextmanager
def _explained() -> Iterator[None]:
    """Turn the errors of arrow, and the memory that a damaged file asks for, into one sentence."""
    try:
        yield
    except _UnreadableError:
        raise
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise _UnreadableError(" ".join(str(error).split())[:200] or type(error).__name__) from None
