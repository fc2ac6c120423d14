"""The tables of a data set: rows to parquet and back, and every value checked on the way back."""

from __future__ import annotations

import io
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from vclimb.pipeline.codecs.encoded import MAX_PIXELS
from vclimb.pipeline.dataset.header import Header, StoredShard
from vclimb.pipeline.dataset.rows import INSTANCE_SCHEMA, VIDEO_SCHEMA, FailedVideo, StoredInstance, StoredVideo
from vclimb.pipeline.dataset.shard import ShardFiles
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


def videos_parquet(videos: Sequence[StoredVideo]) -> bytes:
    """The table of videos."""
    return _to_parquet(videos, VIDEO_SCHEMA, fps_fraction=lambda video: str(video.fps_fraction))


def instances_parquet(instances: Sequence[StoredInstance]) -> bytes:
    """The table of instances."""
    return _to_parquet(instances, INSTANCE_SCHEMA)


def _to_parquet(rows: Sequence[Row], schema: pa.Schema, **values: Callable[[Row], object]) -> bytes:
    """A table of rows: each column holds the attribute of its name, unless a function is given for it."""
    # Column by column, since rows as dicts would take as much memory again as the rows.
    columns = [
        pa.array(map(values.get(field.name, operator.attrgetter(field.name)), rows), field.type, size=len(rows))
        for field in schema
    ]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(columns, schema=schema), buffer, compression="zstd")
    return buffer.getvalue()


def read_videos(parquet: bytes, n_rows: int) -> list[StoredVideo]:
    """The rows of a table of videos. Raises a ValueError that says what is wrong with the table."""
    rows = _rows(parquet, VIDEO_SCHEMA, n_rows)
    videos = _checked(_VIDEOS, rows)
    for number, (row, video) in enumerate(zip(rows, videos, strict=True)):
        if row["fps"] != video.fps:
            raise ValueError(f"row {number}: fps is {row['fps']}, and fps_fraction {row['fps_fraction']}")
    return videos


def read_instances(parquet: bytes, n_rows: int) -> list[StoredInstance]:
    """The rows of a table of instances. Raises a ValueError that says what is wrong with the table."""
    return _checked(_INSTANCES, _rows(parquet, INSTANCE_SCHEMA, n_rows))


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


def _rows(parquet: bytes, schema: pa.Schema, n_rows: int) -> list[dict[str, Any]]:
    try:
        file = pq.ParquetFile(pa.BufferReader(parquet), pre_buffer=False)
        if not file.schema_arrow.equals(schema):
            raise ValueError(f"its columns are not {', '.join(f'{field.name}: {field.type}' for field in schema)}")
        metadata = file.metadata
        if metadata.num_rows != n_rows:
            raise ValueError(f"it has {metadata.num_rows} rows, not {n_rows}")
        columns = [
            (group, column) for group in range(metadata.num_row_groups) for column in range(metadata.num_columns)
        ]
        n_bytes = sum(metadata.row_group(g).column(c).total_uncompressed_size for g, c in columns)
        if n_rows > _MOST_ROWS_PER_BYTE * len(parquet) or n_bytes > _most_bytes(parquet):
            raise ValueError(f"it claims to hold {n_rows} rows of {n_bytes} bytes in a file of {len(parquet)} bytes")
        # Without arrow's threads: a thread that touches a Python object while this process forks or exits makes the
        # child hang or the process abort.
        table = file.read(use_threads=False)
        table.validate(full=True)
        rows: list[dict[str, Any]] = table.to_pylist()
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise ValueError(" ".join(str(error).split())[:200] or type(error).__name__) from None
    return rows


def _most_bytes(parquet: bytes) -> int:
    return _MOST_BYTES_PER_BYTE * len(parquet) + _ALWAYS_ALLOWED_BYTES


def check_videos(videos: list[StoredVideo], header: Header) -> None:
    """Compare the videos of a data set with its shards. Raises a ValueError that names a video that doesn't fit."""
    seen: set[str] = set()
    shards = iter(header.shards)
    for shard, members in _by_shard(videos):
        stored = next(shards, None)
        if stored is None or stored.number != shard:
            raise ValueError(f"its videos are not in the order of the shards, at shard {shard}")
        check_members(members, stored, header.settings.codec)
        seen.update(video.key for video in members)
    if next(shards, None) is not None:
        raise ValueError("it has no videos of a shard that is listed")
    if len(seen) != len(videos):
        raise ValueError("two videos have the same key")


def _by_shard(videos: list[StoredVideo]) -> Iterator[tuple[int, list[StoredVideo]]]:
    start = 0
    for stop in range(1, len(videos) + 1):
        if stop == len(videos) or videos[stop].shard != videos[start].shard:
            yield videos[start].shard, videos[start:stop]
            start = stop


def check_members(videos: list[StoredVideo], shard: StoredShard | ShardFiles, codec: str) -> None:
    """Compare the videos of a shard with it and one another. Raises a ValueError that names one that doesn't fit."""
    first_frame, end = 0, 0
    for video in videos:
        if video.codec != codec:
            raise ValueError(f"video {video.key!r} has codec {video.codec!r:.20}, and the data set {codec!r}")
        if video.width * video.height > MAX_PIXELS:
            raise ValueError(f"video {video.key!r} has {video.width}x{video.height} pixels; most: {MAX_PIXELS}")
        if video.first_frame != first_frame or video.offset < end or video.offset + video.bytes > shard.tar_bytes:
            raise ValueError(f"video {video.key!r} does not lie behind the video before it, within {shard.tar}")
        first_frame, end = first_frame + video.n_frames, video.offset + video.bytes
    if (len(videos), first_frame) != (shard.n_videos, shard.n_frames):
        raise ValueError(
            f"it lists {len(videos)} videos of {first_frame} frames in {shard.tar}, "
            f"which holds {shard.n_videos} of {shard.n_frames}"
        )


def check_instances(instances: list[StoredInstance], videos: list[StoredVideo]) -> None:
    """Compare the instances of a data set with its videos. Raises a ValueError that names an instance."""
    by_key = {video.key: (place, video) for place, video in enumerate(videos)}
    labels: dict[str, dict[str, None]] = {video.key: {} for video in videos}
    before = 0
    for instance in instances:
        if instance.key not in by_key:
            raise ValueError(f"an instance is of video {instance.key!r}, which is not there")
        place, video = by_key[instance.key]
        if not instance.start_frame < instance.end_frame <= video.n_frames:
            raise ValueError(
                f"an instance of video {instance.key!r} has the frames from {instance.start_frame} to "
                f"{instance.end_frame} of {video.n_frames}"
            )
        if place < before:
            raise ValueError(f"the instances of video {instance.key!r} are not in the order of the videos")
        before = place
        labels[instance.key][instance.label] = None
    for video in videos:
        if video.labels != tuple(labels[video.key]):
            raise ValueError(f"the classes of video {video.key!r} are not those of its instances")
