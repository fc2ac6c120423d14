"""Rows of a data set's catalog: stored videos, their labelled instances, and videos that failed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any

import pyarrow as pa

from vclimb.pipeline.errors import VideoError

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
    """One video of a data set.

    Attributes:
        key: Name of the video in the shards.
        labels: Class names of the video's instances.
        group: Name shared by videos that were cut from one recording. None: unknown.
        source: Path of the source file, relative to the source's root.
        source_sha256: SHA-256 of the source file.
        source_bytes: Size of the source file.
        shard: Number of the shard.
        offset: Byte offset of the mp4 in the shard's tar.
        bytes: Size of the mp4.
        sha256: SHA-256 of the mp4.
        codec: `jpeg` or `h264`.
        width: Width in pixels.
        height: Height in pixels.
        fps_fraction: Exact frames a second.
        n_frames: Number of frames.
        first_frame: Row of the first frame in the shard's frame index.
    """

    key: str
    labels: tuple[str, ...]
    group: str | None
    source: str
    source_sha256: str
    source_bytes: int
    shard: int
    offset: int
    bytes: int
    sha256: str
    codec: str
    width: int
    height: int
    fps_fraction: Fraction
    n_frames: int
    first_frame: int

    @property
    def fps(self) -> float:
        """Frames a second, rounded."""
        return float(self.fps_fraction)

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return float(self.n_frames / self.fps_fraction)

    def to_row(self) -> dict[str, Any]:
        """The video as a row of VIDEO_SCHEMA and of JSON; `from_row` reads it back."""
        return {**asdict(self), "labels": list(self.labels), "fps": self.fps, "fps_fraction": str(self.fps_fraction)}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> StoredVideo:
        """The video that `to_row` wrote."""
        values = {name: value for name, value in row.items() if name != "fps"}
        return cls(**{**values, "labels": tuple(row["labels"]), "fps_fraction": Fraction(row["fps_fraction"])})


@dataclass(frozen=True)
class StoredInstance:
    """A labelled frame range of a video.

    Attributes:
        key: Key of the video.
        label: Class name.
        split: `train`, `val` or `test`. None: the source has no splits.
        start_frame: First frame.
        end_frame: Frame after the last one.
        start_seconds: Start in the source video. None: its first frame.
        end_seconds: End in the source video, exclusive. None: its last frame.
    """

    key: str
    label: str
    split: str | None
    start_frame: int
    end_frame: int
    start_seconds: float | None = field(default=None, compare=False)
    end_seconds: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class FailedVideo:
    """A row of `errors.jsonl`.

    Attributes:
        path: Path of the source file, relative to the source's root.
        stage: Stage that failed: `find`, `open`, `probe`, `transcode`, `verify` or `label`.
        reason: One sentence.
        stderr: ffmpeg's messages, one line of each kind, or an empty string.
    """

    path: str
    stage: str
    reason: str
    stderr: str = ""

    @classmethod
    def of(cls, path: str, error: VideoError) -> FailedVideo:
        """The row of a video's error."""
        return cls(path, error.stage, error.reason, error.stderr)
