"""From the parts of a shard to the published shard and its record.

Videos are appended in the plan's order as soon as they and all before them are there, so that little is left to do
when the last one comes. Parts are kept until the shard's record is durable: killed anywhere, the next run finds
either the record or the parts.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from vclimb.pipeline.dataset.catalog import ShardRecord
from vclimb.pipeline.dataset.shard import ShardWriter, publish, write_atomically
from vclimb.pipeline.sources.table import Instance, printable_path
from vclimb.pipeline.transcode.plan import PlannedVideo
from vclimb.pipeline.transcode.shard_job import ShardJob
from vclimb.pipeline.transcode.worker import file_sha256

RECORDS = "records"
_PLACE = ("shard", "offset", "first_frame")
# Rounds away what floating point adds to seconds times frames a second.
_FRAME_EPSILON = 1e-6


class ShardAssembly:
    """One shard being put together from its parts."""

    def __init__(self, job: ShardJob) -> None:
        self._job = job
        self._next = 0
        self._writer: ShardWriter | None = None
        self._record = ShardRecord(job.shard.number, files=None)

    def is_done(self, index: int) -> bool:
        """Whether a video's part is there."""
        return self._job.part(index).with_suffix(".json").exists()

    def discard_unsound_parts(self) -> None:
        """Remove parts of an earlier run that aren't what their json says, so that they are made again.

        Parts aren't synced to the disk as they are made: after a power cut a file may be there without its content.
        """
        for index in range(len(self._job.shard.videos)):
            part = self._job.part(index)
            if self.is_done(index) and not _is_sound(part):
                part.with_suffix(".json").unlink()

    def part_done(self) -> ShardRecord | None:
        """Append every video that is now in turn. After the last one, publish and give the record."""
        n_videos = len(self._job.shard.videos)
        if self._next == n_videos:
            return None
        while self._next < n_videos and self.is_done(self._next):
            self._append(self._next)
            self._next += 1
        return self._publish() if self._next == n_videos else None

    def _append(self, index: int) -> None:
        planned, part = self._job.shard.videos[index], self._job.part(index)
        made = json.loads(part.with_suffix(".json").read_text())
        path = printable_path(planned.video.path)
        if "error" in made:
            self._record.errors.append({"path": path, **made["error"]})
            return
        stored = made["stored"]
        instances = self._instances(planned, Fraction(stored["fps"]), stored["n_frames"], path)
        row = {
            "key": planned.video.key,
            "labels": list(dict.fromkeys(instance["label"] for instance in instances)),
            "group": planned.video.group,
            "source": path,
            **stored,
            "fps": float(Fraction(stored["fps"])),
            "fps_fraction": stored["fps"],
        }
        frame_index = np.load(part.with_suffix(".frames.npy"))
        placed = self._open().add(planned.video.key, part.with_suffix(".mp4"), sample_json(row, instances), frame_index)
        place = {"shard": self._job.shard.number, "offset": placed.offset, "first_frame": placed.first_frame}
        self._record.videos.append({**row, **place})
        self._record.instances += instances

    def _open(self) -> ShardWriter:
        if self._writer is None:
            self._writer = ShardWriter(self._job.scratch, self._job.stem)
        return self._writer

    def _instances(self, planned: PlannedVideo, fps: Fraction, n_frames: int, path: str) -> list[dict[str, Any]]:
        rows = []
        for instance in planned.video.instances:
            start, end = frame_range(instance, fps, n_frames)
            if start >= end:
                reason = (
                    f"segment [{instance.start_seconds}, {instance.end_seconds}) s of class {instance.label!r} lies "
                    f"outside the stored video of {n_frames / float(fps):.3f} s"
                )
                self._record.errors.append({"path": path, "stage": "label", "reason": reason, "stderr": ""})
                continue
            rows.append(
                {
                    "key": planned.video.key,
                    "label": instance.label,
                    "split": instance.split,
                    "start_seconds": None if instance.start_seconds is None else float(instance.start_seconds),
                    "end_seconds": None if instance.end_seconds is None else float(instance.end_seconds),
                    "start_frame": start,
                    "end_frame": end,
                }
            )
        return rows

    def _publish(self) -> ShardRecord:
        job = self._job
        if self._writer is not None:
            self._record.files = self._writer.finish()
            publish(job.scratch, job.target, job.stem)
        record = json.dumps(self._record.to_json()).encode()
        write_atomically(job.work / RECORDS / f"{job.shard.number:06d}.json", record)
        shutil.rmtree(job.part(0).parent)
        return self._record


def _is_sound(part: Path) -> bool:
    try:
        made = json.loads(part.with_suffix(".json").read_bytes())
        if "error" in made:
            return True
        stored = made["stored"]
        frames = np.load(part.with_suffix(".frames.npy"))
        return bool(
            frames.shape == (stored["n_frames"], 3)
            and (frames[:, 1] > 0).all()
            and file_sha256(part.with_suffix(".mp4")) == stored["sha256"]
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return False


def frame_range(instance: Instance, fps: Fraction, n_frames: int) -> tuple[int, int]:
    """The frames [start, end) that an instance's seconds cover, clipped to the video. start >= end: none."""
    start = 0 if instance.start_seconds is None else math.floor(instance.start_seconds * fps + _FRAME_EPSILON)
    end = n_frames if instance.end_seconds is None else math.ceil(instance.end_seconds * fps - _FRAME_EPSILON)
    return max(start, 0), min(end, n_frames)


def sample_json(video: Mapping[str, Any], instances: Sequence[Mapping[str, Any]]) -> bytes:
    """The JSON that lies beside a video in its shard: its rows of the catalog, but for where it lies.

    Args:
        video: a row of VIDEO_SCHEMA; shard, offset and first_frame are not looked at.
        instances: rows of INSTANCE_SCHEMA of that video.
    """
    facts = {name: value for name, value in video.items() if name not in (*_PLACE, "fps_fraction")}
    facts["fps"] = video["fps_fraction"]
    facts["instances"] = [{name: value for name, value in row.items() if name != "key"} for row in instances]
    return json.dumps(facts, sort_keys=True).encode()


def read_records(work: Path) -> list[ShardRecord]:
    """The records of the shards that an unfinished run has published, by number."""
    return [ShardRecord.from_json(json.loads(path.read_bytes())) for path in sorted((work / RECORDS).glob("*.json"))]
