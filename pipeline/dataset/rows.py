"""Rows of a data set's catalog: stored videos, their labelled instances, and videos that failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import pyarrow as pa

from vclimb.pipeline.dataset.fields import Count, Key, PositiveRate, Seconds, Sha256, Side, Size, Split
from vclimb.pipeline.dataset.frame_times import FrameTimes

VIDEO_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("labels", pa.list_(pa.string())),
        ("group", pa.string()),
        ("source", pa.string()),
        ("source_sha256", pa.string()),
        ("source_bytes", pa.int64()),
        ("shard", pa.int32()),
        ("offset", pa.int64()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("codec", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("fps", pa.float64()),
        ("fps_fraction", pa.string()),
        ("n_frames", pa.int64()),
        ("frame_seconds", pa.list_(pa.float64())),
        ("first_frame", pa.int64()),
    ]
)
INSTANCE_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("label", pa.string()),
        ("split", pa.string()),
        ("start_seconds", pa.float64()),
        ("end_seconds", pa.float64()),
        ("start_frame", pa.int64()),
        ("end_frame", pa.int64()),
    ]
)


@dataclass(frozen=True)
class StoredVideo:
    key: Key  # Name of the video in the shards.
    labels: tuple[str, ...]  # Class names of the video's instances.
    group: str | None  # Name shared by videos that were cut from one recording. None: unknown.
    source: str  # Path of the source file, relative to the source's root.
    source_sha256: Sha256  # SHA-256 of the source file.
    source_bytes: Size  # Size of the source file.
    shard: Size  # Number of the shard.
    offset: Size  # Byte offset of the mp4 in the shard's tar.
    bytes: Count  # Size of the mp4.
    sha256: Sha256  # SHA-256 of the mp4.
    codec: str  # Codec of the frames.
    width: Side  # Width in pixels.
    height: Side  # Height in pixels.
    fps_fraction: PositiveRate  # Exact frames a second.
    n_frames: Count  # Number of frames.
    first_frame: Size  # Row of the first frame in the shard's frame index.
    # Time in the source of each frame, counted from the first one, and the end of the last one: `n_frames` + 1 times.
    # None: the frames are evenly spaced, `1 / fps_fraction` apart.
    frame_seconds: tuple[Seconds, ...] | None = None

    def __post_init__(self) -> None:
        times = self.frame_seconds
        if times is not None and (len(times) != self.n_frames + 1 or list(times) != sorted(times)):
            raise ValueError(f"frame_seconds must be {self.n_frames + 1} rising times, one a frame and the end")

    @property
    def fps(self) -> float:
        """Frames a second, rounded."""
        return float(self.fps_fraction)

    @property
    def seconds(self) -> float:
        """Time for which the source shows the stored frames."""
        return self.frame_times.end_seconds

    @property
    def frame_times(self) -> FrameTimes:
        return FrameTimes(self.fps_fraction, self.n_frames, self.frame_seconds)

    def to_row(self) -> dict[str, Any]:
        """The video as a row of VIDEO_SCHEMA and of JSON."""
        return {**vars(self), "labels": list(self.labels), "fps": self.fps, "fps_fraction": str(self.fps_fraction)}


@dataclass(frozen=True)
class StoredInstance:
    """A labelled frame range of a video."""

    key: Key  # Key of the video.
    label: str  # Class name.
    split: Split | None  # None: the source has no splits.
    start_frame: Size  # First frame.
    end_frame: Count  # Frame after the last one.
    # Start in the source video. None: its first frame.
    start_seconds: Seconds | None = field(default=None, compare=False)
    # End in the source video, exclusive. None: its last frame.
    end_seconds: Seconds | None = field(default=None, compare=False)


@dataclass(frozen=True)
class FailedVideo:
    """A row of `errors.jsonl`."""

    path: str  # Path of the source file, relative to the source's root.
    stage: str  # Stage that failed: `find`, `open`, `probe`, `transcode`, `verify` or `label`.
    reason: str  # One sentence.
    stderr: str = ""  # ffmpeg's messages, one line of each kind, or an empty string.


def table_of(rows: Sequence[Any], schema: pa.Schema, **values: Callable[[Any], object]) -> pa.Table:
    """A table of rows: each column holds the attribute of its name, unless a function is given for it."""
    # Column by column, since rows as dicts would take as much memory again as the rows.
    columns = [
        pa.array(map(values.get(field.name, attrgetter(field.name)), rows), field.type, size=len(rows))
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def rate_text(video: StoredVideo) -> str:
    """Frames a second as text."""
    return str(video.fps_fraction)
