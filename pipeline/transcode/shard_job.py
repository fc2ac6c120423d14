"""The unit of work of `vclimb prepare`: one shard, with all that it takes to make it anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vclimb.pipeline.transcode.encode import EncodeSettings
from vclimb.pipeline.transcode.plan import PlannedShard
from vclimb.pipeline.transcode.worker import VideoTask


@dataclass(frozen=True)
class ShardJob:
    """One unit of work.

    Attributes:
        shard: its videos.
        stem: file name of the shard, without a suffix.
        root: folder that the videos' paths are relative to.
        target: folder of the data set.
        work: folder for parts and unfinished files, on the same file system as the target.
        scratch: folder for drafts of this run alone.
        settings: how videos are stored.
        ffmpeg: the binary.
        timeout_seconds: longest time for a video; None allows 120 s and 10 s for each second of it.
    """

    shard: PlannedShard
    stem: str
    root: Path
    target: Path
    work: Path
    scratch: Path
    settings: EncodeSettings
    ffmpeg: str
    timeout_seconds: float | None

    def part(self, index: int) -> Path:
        """Path of a video's part, without a suffix."""
        return self.work / f"{self.shard.number:06d}" / f"{index:06d}"

    def task(self, index: int) -> VideoTask:
        """The work of one of its videos."""
        planned = self.shard.videos[index]
        return VideoTask(
            source=self.root / planned.video.path,
            probe=planned.probe,
            settings=self.settings,
            part=self.part(index),
            scratch=self.scratch,
            ffmpeg=self.ffmpeg,
            timeout_seconds=self.timeout_seconds or min(120 + 10 * planned.probe.duration_seconds, 6 * 3600),
        )
