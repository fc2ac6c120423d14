"""From the parts of a shard to the published shard and its record.

Each video is appended in the plan's order as soon as it and all before it are there, so that little is left to do after
the last one. Parts are kept until the shard's record is durable: after a kill, the next run finds the record or the
parts.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from pydantic import TypeAdapter

from vclimb.pipeline.dataset.catalog import ShardRecord
from vclimb.pipeline.dataset.frame_times import FrameTimes
from vclimb.pipeline.dataset.row_checks import check_instances, check_members
from vclimb.pipeline.dataset.rows import FailedVideo, StoredInstance, StoredVideo
from vclimb.pipeline.dataset.settings import EncodeSettings
from vclimb.pipeline.dataset.shard import ShardWriter, publish
from vclimb.pipeline.sources.table import printable_path
from vclimb.pipeline.system.durable import replace_file
from vclimb.pipeline.transcode.bucket_shard import upload_record, upload_shard
from vclimb.pipeline.transcode.jobs import ShardJob
from vclimb.pipeline.transcode.part import is_done, is_intact, read_frame_index, read_part
from vclimb.pipeline.transcode.plan import PlannedVideo
from vclimb.pipeline.transcode.work_file import damaged_work_file, read_work_file, work_bytes
from vclimb.pipeline.transcode.work_names import RECORDS

_CONSEQUENCE = "this shard is made again unless dataset.json lists it, and the others are kept"
_PLACE = ("shard", "offset", "first_frame")
_OF_INSTANCE = [field.name for field in fields(StoredInstance) if field.name != "key"]


@dataclass(frozen=True)
class PublishedShard:
    """A shard of an unfinished run that is complete, with all that the catalog needs of it."""

    settings: EncodeSettings  # Settings that its videos are stored with.
    record: ShardRecord  # Rows of the catalog.


_PUBLISHED = TypeAdapter(PublishedShard)


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
            if self.is_done(index) and not is_intact(job.part(index)):
                job.part(index).with_suffix(".json").unlink()

    def is_done(self, index: int) -> bool:
        return is_done(self.job.part(index))

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
        outcome = read_part(part)
        path = printable_path(planned.video.path)
        if outcome.error is not None:
            self._record.errors.append(FailedVideo(path, **outcome.error.to_json()))
        stored = outcome.stored
        if stored is None:
            return
        times = FrameTimes(stored.fps, stored.n_frames, stored.frame_seconds)
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
            source_sha256=stored.source_sha256,
            source_bytes=stored.source_bytes,
            bytes=stored.bytes,
            sha256=stored.sha256,
            codec=stored.codec,
            width=stored.width,
            height=stored.height,
            n_frames=stored.n_frames,
        )
        if self._writer is None:
            self._writer = ShardWriter(self.job.scratch, self.job.stem)
        offset, first_frame = self._writer.add(
            video.key, part.with_suffix(".mp4"), sample_json(video, instances), read_frame_index(part)
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
            if job.bucket is not None:
                upload_shard(job.bucket, job.target, job.stem)
        write_record(job, self._record)
        if job.bucket is not None:
            upload_record(job.bucket, record_path(job.work, self._record.number))
        shutil.rmtree(job.part(0).parent)
        return self._record


def sample_json(video: StoredVideo, instances: Sequence[StoredInstance]) -> bytes:
    """The JSON that lies beside a video in its shard: its rows of the catalog, except for its place in the shard."""
    facts = {name: value for name, value in video.to_row().items() if name not in (*_PLACE, "fps_fraction")}
    facts["fps"] = str(video.fps_fraction)
    if video.frame_seconds is None:  # nearly always
        del facts["frame_seconds"]
    facts["instances"] = [{name: getattr(instance, name) for name in _OF_INSTANCE} for instance in instances]
    return json.dumps(facts, sort_keys=True).encode()


def record_path(work: Path, number: int) -> Path:
    return work / RECORDS / f"{number:06d}.json"


def write_record(job: ShardJob, record: ShardRecord) -> None:
    """Write the record of a job's shard, which makes the shard count as published."""
    replace_file(record_path(job.work, record.number), work_bytes(_PUBLISHED, PublishedShard(job.settings, record)))


def read_record(job: ShardJob) -> ShardRecord | None:
    """The record of a job's shard; None if the shard is not published. Raises a DatasetError where it is damaged."""
    try:
        return _read(record_path(job.work, job.shard.number)).record
    except FileNotFoundError:
        return None


def read_published(work: Path, known: Collection[int] = ()) -> list[PublishedShard]:
    """The shards that an unfinished run has published, by number, without those whose numbers are known.

    Raises a DatasetError for a damaged record.
    """
    names = {f"{number:06d}.json" for number in known}
    return [_read(path) for path in sorted((work / RECORDS).glob("*.json")) if path.name not in names]


def _read(path: Path) -> PublishedShard:
    published = read_work_file(path, _PUBLISHED, _CONSEQUENCE)
    try:
        _check(published, path.stem)
    except ValueError as error:
        raise damaged_work_file(path, str(error), _CONSEQUENCE) from None
    return published


def _check(published: PublishedShard, stem: str) -> None:
    """Raise a ValueError where a record, which somebody else may have written, contradicts its name or itself."""
    record, files = published.record, published.record.files
    number = record.number
    named = files is None or files.tar.endswith(f"-{number:06d}.tar")
    if stem != f"{number:06d}" or not named or any(video.shard != number for video in record.videos):
        raise ValueError(f"it is the record of shard {number}")
    if len({video.key for video in record.videos}) < len(record.videos):
        raise ValueError("two of its videos have the same key")
    if files is not None:
        check_members(record.videos, files, published.settings.codec)
    elif record.videos:
        raise ValueError("it has videos and no files")
    check_instances(record.instances, record.videos)
    try:
        json.dumps(asdict(record), ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        raise ValueError("it holds half a surrogate pair, which is no text") from None
