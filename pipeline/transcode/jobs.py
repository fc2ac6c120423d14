"""Units of work of a prepare run: a shard, and a video of a shard. Both are pickled to where the work is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from vclimb.pipeline.dataset.settings import EncodeSettings
from vclimb.pipeline.sources.remote import RemoteFile, RemoteSource
from vclimb.pipeline.system.bucket import Bucket
from vclimb.pipeline.transcode.plan import PlannedShard
from vclimb.pipeline.transcode.probe import Probe

# Measured on J-HMDB (40 frames, 320x240): 8 videos to a process take 0.71 of the time of 1; 16 gain no more.
BATCH_VIDEOS = 8
_BATCH_SECONDS = 30.0
_BATCH_PIXELS = 4 * 10**6


@dataclass(frozen=True)
class VideoJob:
    source: Path  # Absolute path of the source file.
    probe: Probe  # Facts about the source file.
    settings: EncodeSettings  # Settings that the video is stored with.
    part: Path  # Path of the part, without a suffix.
    scratch: Path  # Folder for unfinished files of this run.
    ffmpeg: str  # Path of the ffmpeg binary.
    timeout_seconds: float  # Longest time for ffmpeg.
    remote: RemoteFile | None = None  # Object that the source file stands for. None: it is the source itself.

    @property
    def draft(self) -> Path:
        return self.scratch / f"{self.part.parent.name}-{self.part.name}.mp4"


@dataclass(frozen=True)
class ShardJob:
    """One shard to make, with all that it takes to make it anywhere."""

    shard: PlannedShard  # Number of the shard, and its videos in order.
    stem: str  # File name of the shard, without a suffix.
    root: Path  # Folder that the videos' paths are relative to.
    target: Path  # Folder of the data set.
    work: Path  # Folder for parts and records, on the same file system as the target.
    scratch: Path  # Folder for unfinished files of this run.
    settings: EncodeSettings  # Settings that the videos are stored with.
    ffmpeg: str  # Path of the ffmpeg binary.
    timeout_seconds: float | None  # Longest time for one video. None: 120 s, and 10 s for each second of the video.
    remote: RemoteSource | None = None  # Source that the root stands for. None: the videos lie there.
    bucket: Bucket | None = None  # Bucket that finished shards are moved to. None: they stay in the target.

    def part(self, index: int) -> Path:
        """Path of a video's part, without a suffix."""
        return self.work / f"{self.shard.number:06d}" / f"{index:06d}"

    def video(self, index: int) -> VideoJob:
        planned = self.shard.videos[index]
        return VideoJob(
            source=self.root / planned.video.path,
            probe=planned.probe,
            settings=self.settings,
            part=self.part(index),
            scratch=self.scratch,
            ffmpeg=self.ffmpeg,
            remote=None if self.remote is None else self.remote.file(planned.video.path),
            timeout_seconds=self.timeout_seconds or min(120 + 10 * planned.probe.duration_seconds, 6 * 3600),
        )

    def batches(self, indices: Iterable[int], most: int = BATCH_VIDEOS) -> Iterator[tuple[int, ...]]:
        """Split videos, in order, into runs of short videos that share an ffmpeg, at most `most` in each."""
        batch: list[int] = []
        seconds, pixels = 0.0, 0
        for index in indices:
            probe = self.shard.videos[index].probe
            frame_pixels = probe.display_width * probe.display_height
            seconds += probe.duration_seconds
            pixels += frame_pixels
            if batch and (len(batch) == most or seconds > _BATCH_SECONDS or pixels > _BATCH_PIXELS):
                yield tuple(batch)
                batch, seconds, pixels = [], probe.duration_seconds, frame_pixels
            batch.append(index)
        if batch:
            yield tuple(batch)


class ShardJobs(Sequence[ShardJob]):
    """Jobs of planned shards, each made when it is asked for, since those of a million videos take gigabytes."""

    def __init__(self, shards: Sequence[PlannedShard], make: Callable[[PlannedShard], ShardJob]) -> None:
        self._shards, self._make = shards, make

    def __len__(self) -> int:
        return len(self._shards)

    @overload
    def __getitem__(self, place: int) -> ShardJob: ...
    @overload
    def __getitem__(self, place: slice) -> ShardJobs: ...
    def __getitem__(self, place: int | slice) -> ShardJob | ShardJobs:
        if isinstance(place, slice):
            return ShardJobs(self._shards[place], self._make)
        return self._make(self._shards[place])
