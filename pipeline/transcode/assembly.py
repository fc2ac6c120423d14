"""From the parts of a shard to the published shard and its record.

Each video is appended in the plan's order as soon as it and all before it are there, so that little is left to do after
the last one. Parts are kept until the shard's record is durable: after a kill, the next run finds the record or the
parts.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from vclimb.pipeline.dataset.catalog import ShardRecord
from vclimb.pipeline.dataset.frame_times import FrameTimes
from vclimb.pipeline.dataset.rows import FailedVideo, StoredInstance, StoredVideo
from vclimb.pipeline.dataset.shard import ShardWriter, publish
from vclimb.pipeline.sources.table import printable_path
from vclimb.pipeline.system.digest import file_sha256
from vclimb.pipeline.system.durable import replace_file
from vclimb.pipeline.transcode.jobs import ShardJob
from vclimb.pipeline.transcode.plan import PlannedVideo

RECORDS = "records"
_RECORD = TypeAdapter(ShardRecord)
_PLACE = ("shard", "offset", "first_frame")


class ShardAssembly:
    """One shard being put together from its parts.

    Parts of an earlier run are kept, unless they aren't what their json says: parts aren't synced to the disk as they
    are made, so after a power cut a file may be there without its content.
    """

    def __init__(self, job: ShardJob) -> None:
        self.job = job
        self._n_appended = 0
        self._writer: ShardWriter | None = None
        self._record = ShardRecord(job.shard.number, files=None)
        job.part(0).parent.mkdir(exist_ok=True)
        for index in range(len(job.shard.videos)):
            if self.is_done(index) and not _is_intact(job.part(index)):
                job.part(index).with_suffix(".json").unlink()

    def is_done(self, index: int) -> bool:
        return self.job.part(index).with_suffix(".json").exists()

    def missing(self) -> list[int]:
        return [index for index in range(len(self.job.shard.videos)) if not self.is_done(index)]

    def append_parts(self) -> ShardRecord | None:
        """Append every video that is next in order. After the last one, publish the shard and return its record."""
        n_videos = len(self.job.shard.videos)
        if self._n_appended == n_videos:
            return None
        while self._n_appended < n_videos and self.is_done(self._n_appended):
            self._append(self._n_appended)
            self._n_appended += 1
        return self._publish() if self._n_appended == n_videos else None

    def _append(self, index: int) -> None:
        planned, part = self.job.shard.videos[index], self.job.part(index)
        outcome = json.loads(part.with_suffix(".json").read_text())
        path = printable_path(planned.video.path)
        if "error" in outcome:
            self._record.errors.append(FailedVideo(path, **outcome["error"]))
            return
        stored = outcome["stored"]
        frame_seconds = stored.pop("frame_seconds")
        times = FrameTimes(
            Fraction(stored.pop("fps")), stored["n_frames"], None if frame_seconds is None else tuple(frame_seconds)
        )
        instances = self._instances(planned, times, path)
        video = StoredVideo(
            key=planned.video.key,
            labels=tuple(dict.fromkeys(instance.label for instance in instances)),
            group=planned.video.group,
            source=path,
            shard=self.job.shard.number,
            offset=0,  # known once it is in the tar
            first_frame=0,
            fps_fraction=times.fps,
            frame_seconds=times.seconds,
            **stored,
        )
        frame_index = np.load(part.with_suffix(".frames.npy"))
        if self._writer is None:
            self._writer = ShardWriter(self.job.scratch, self.job.stem)
        offset, first_frame = self._writer.add(
            video.key, part.with_suffix(".mp4"), sample_json(video, instances), frame_index
        )
        self._record.videos.append(replace(video, offset=offset, first_frame=first_frame))
        self._record.instances += instances

    def _instances(self, planned: PlannedVideo, times: FrameTimes, path: str) -> list[StoredInstance]:
        instances = []
        for instance in planned.video.instances:
            first, end = times.between(instance.start_seconds, instance.end_seconds)
            if first >= end:
                reason = (
                    f"segment [{instance.start_seconds}, {instance.end_seconds}) s of class {instance.label!r} lies "
                    f"outside the stored video of {times.end_seconds:.3f} s"
                )
                self._record.errors.append(FailedVideo(path, "label", reason))
                continue
            seconds = [None if time is None else float(time) for time in (instance.start_seconds, instance.end_seconds)]
            instances.append(StoredInstance(planned.video.key, instance.label, instance.split, first, end, *seconds))
        return instances

    def _publish(self) -> ShardRecord:
        job = self.job
        if self._writer is not None:
            self._record.files = self._writer.finish()
            publish(job.scratch, job.target, job.stem)
        replace_file(_record_path(job), _RECORD.dump_json(self._record))
        shutil.rmtree(job.part(0).parent)
        return self._record


def _is_intact(part: Path) -> bool:
    try:
        outcome = json.loads(part.with_suffix(".json").read_bytes())
        if "error" in outcome:
            return True
        stored = outcome["stored"]
        frames = np.load(part.with_suffix(".frames.npy"))
        return bool(
            frames.shape == (stored["n_frames"], 3)
            and (frames[:, 1] > 0).all()
            and file_sha256(part.with_suffix(".mp4")) == stored["sha256"]
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return False


def sample_json(video: StoredVideo, instances: Sequence[StoredInstance]) -> bytes:
    """The JSON that lies beside a video in its shard: its rows of the catalog, except for its place in the shard."""
    facts = {name: value for name, value in video.to_row().items() if name not in (*_PLACE, "fps_fraction")}
    facts["fps"] = str(video.fps_fraction)
    if video.frame_seconds is None:  # nearly always
        del facts["frame_seconds"]
    facts["instances"] = [{name: value for name, value in asdict(i).items() if name != "key"} for i in instances]
    return json.dumps(facts, sort_keys=True).encode()


def _record_path(job: ShardJob) -> Path:
    return job.work / RECORDS / f"{job.shard.number:06d}.json"


def read_record(job: ShardJob) -> ShardRecord | None:
    """The record of a job's shard; None if the shard is not published."""
    try:
        return _RECORD.validate_json(_record_path(job).read_bytes())
    except FileNotFoundError:
        return None


def read_records(work: Path) -> list[ShardRecord]:
    """The records of the shards that an unfinished run has published, by number."""
    return [_RECORD.validate_json(path.read_bytes()) for path in sorted((work / RECORDS).glob("*.json"))]
