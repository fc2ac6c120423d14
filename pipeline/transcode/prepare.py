"""Raw videos to shards: plan, probe, transcode, verify, assemble, record, publish.

Sources, settings and ffmpeg fix every byte. Published shards are never touched again, missing ones are made, and failed
videos are listed and left alone until `retry_failed`.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vclimb.pipeline.dataset.catalog import Catalog
from vclimb.pipeline.dataset.header import HEADER
from vclimb.pipeline.dataset.rows import FailedVideo, StoredVideo
from vclimb.pipeline.dataset.settings import EncodeSettings
from vclimb.pipeline.dataset.shard import ShardFiles
from vclimb.pipeline.dataset.storage import LocalStorage
from vclimb.pipeline.errors import SettingsError, SourceError, VideoError
from vclimb.pipeline.sources.keys import make_key, twin_key
from vclimb.pipeline.sources.remote import RemoteSource
from vclimb.pipeline.sources.table import SourceTable, SourceVideos, printable_path
from vclimb.pipeline.system.folders import writable
from vclimb.pipeline.transcode.assembly import PublishedShard, read_published
from vclimb.pipeline.transcode.bucket_target import BucketTarget
from vclimb.pipeline.transcode.executors.executor import Executor
from vclimb.pipeline.transcode.ffmpeg import Ffmpeg
from vclimb.pipeline.transcode.jobs import ShardJob, ShardJobs
from vclimb.pipeline.transcode.plan import Plan, PlannedShard, PlannedVideo
from vclimb.pipeline.transcode.planning import Planning, SourceFiles, spread_over_classes
from vclimb.pipeline.transcode.probe import Probe
from vclimb.pipeline.transcode.progress import PrepareProgress
from vclimb.pipeline.transcode.summary import PrepareSummary
from vclimb.pipeline.transcode.target import finish_work, locked, work_folder
from vclimb.pipeline.transcode.unfinished import published_of, refuse_other_source


@dataclass(frozen=True)
class PrepareOptions:
    """What a run does, apart from how videos are stored."""

    shard_bytes: int = 256 * 10**6  # Aimed size of a shard in bytes.
    limit: int | None = None  # Greatest number of videos, spread over the classes. None: all.
    retry_failed: bool = False  # Whether to take just the videos that failed before.
    # Longest time for one video. None: 120 s, and 10 s for each second of the video.
    timeout_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise SettingsError(f"limit {self.limit} is out of range; allowed: 1 or more")
        if self.timeout_seconds is not None and not 0 < self.timeout_seconds < math.inf:
            raise SettingsError(f"timeout {self.timeout_seconds:g} is out of range; allowed: above 0 s")


@dataclass
class PrepareRun:
    """One run that brings a data set up to date: its arguments, the catalog so far, and what its summary counts."""

    table: SourceTable
    out: Path
    settings: EncodeSettings
    options: PrepareOptions
    ffmpeg: Ffmpeg
    executor: Executor
    progress: PrepareProgress
    remote: RemoteSource | None = None  # Source that the table's root stands for. None: the videos lie there.
    bucket: BucketTarget | None = None  # Bucket that the data set is written to. None: it stays in `out`.

    def __post_init__(self) -> None:
        self.out = self.out.absolute()
        name = make_key(self.out.name).replace("/", "_")
        self.catalog = Catalog(name=name, settings=self.settings, ffmpeg=[])
        self.failed_now: list[FailedVideo] = []
        self.failed_before = 0
        self.changed: list[str] = []
        self.gone = 0

    def run(self) -> PrepareSummary:
        """Make what is missing. Raises what `vclimb.prepare` raises."""
        with locked(self.out), closing(self.executor), ExitStack() as stack:
            if self.bucket is not None:
                stack.enter_context(self.bucket.held())
                stack.callback(self.bucket.clear)
            work, drafts = stack.enter_context(work_folder(self.out))
            stack.enter_context(writable(self.out))
            return self._run(work, drafts)

    def _run(self, work: Path, drafts: Path) -> PrepareSummary:
        if (self.out / HEADER).exists():
            self.catalog = Catalog.read(LocalStorage(self.out))
            self._refuse_other_settings(self.catalog.settings)
        known = {video.source for video in self.catalog.videos}
        unfinished = Plan.read(work)
        if unfinished is not None:
            self._refuse_other_settings(unfinished.settings)
            refuse_other_source(unfinished, self.table, self.out, work)
            self.progress.note(f"going on with an unfinished run of {unfinished.n_videos} videos")
            self._make(unfinished, work, drafts)
        else:
            self._take_over(read_published(work), work)
        todo = self._todo()
        if todo:
            self._make(self._plan(todo, work, drafts), work, drafts)
        stored = {video.source for video in self.catalog.videos}
        if not stored and not self.catalog.errors and not self.table.missing:
            raise SourceError(f"no videos to prepare in {self.table.root}")
        missing = [FailedVideo(printable_path(gone.path), "find", gone.reason) for gone in self.table.missing]
        self.catalog.errors = [error for error in self.catalog.errors if error.stage != "find"] + missing
        totals = self._write_catalog()
        return PrepareSummary(
            out=self.out if self.bucket is None else str(self.bucket),
            prepared=len(stored - known),
            already_there=len(known),
            failed_now=self.failed_now,
            failed_before=self.failed_before,
            missing=len(self.table.missing),
            changed=self.changed,
            gone=self.gone,
            totals=totals,
            notes=self.progress.notes,
        )

    def _refuse_other_settings(self, before: EncodeSettings) -> None:
        if differences := before.difference(self.settings):
            raise SettingsError(
                f"{self.bucket or self.out} was prepared with other settings ({'; '.join(differences)}); "
                "use the same settings, or another --out"
            )

    def _take_over(self, published: Sequence[PublishedShard], work: Path) -> None:
        """Add the finished shards of a run whose plan is gone, such as a damaged one that was removed."""
        for shard in published:
            self._refuse_other_settings(shard.settings)
            record, files = shard.record, shard.record.files
            if files is not None and record.number not in self.catalog.shards:
                if not self._is_stored(files):
                    continue
                self.catalog.name = files.tar.removesuffix(f"-{record.number:06d}.tar")
            done = {video.source for video in record.videos} | {error.path for error in record.errors}
            self.catalog.errors = [error for error in self.catalog.errors if error.path not in done]
            self.catalog.add(record)
        if published:
            self.catalog.ffmpeg = sorted({*self.catalog.ffmpeg, self.ffmpeg.version})
            self._write_catalog()
            self._finish(work)

    def _todo(self) -> SourceVideos:
        """The videos that are neither stored nor known to fail, each with a key that no stored video has."""
        stored = {video.source: video for video in self.catalog.videos}
        failed = {error.path for error in self.catalog.errors if error.stage not in ("label", "find")}
        wanted = self.table.videos
        if self.options.limit is not None:
            wanted = spread_over_classes(wanted, self.options.limit)
        rows = _by_printable_path(wanted)
        self._compare_with_stored(stored)
        if self.options.retry_failed:
            chosen = [row for path, row in rows.items() if path in failed]
        else:
            just_failed = {error.path for error in self.failed_now}
            self.failed_before = len((failed - just_failed) & rows.keys())
            chosen = [row for path, row in rows.items() if path not in stored and path not in failed]
        todo = wanted.take(chosen)
        taken = {video.key for video in self.catalog.videos}
        keys = [key if key not in taken else twin_key(path) for path, key in zip(todo.paths, todo.keys, strict=True)]
        return replace(todo, keys=keys)

    def _compare_with_stored(self, stored: dict[str, StoredVideo]) -> None:
        rows = _by_printable_path(self.table.videos) if stored else {}
        self.gone = len(stored.keys() - rows.keys())
        for path, video in stored.items():
            if path not in rows:
                continue
            try:
                size = (self.table.root / self.table.videos.paths[rows[path]]).stat().st_size
            except OSError:
                self.gone += 1
                continue
            if size != video.source_bytes:
                self.changed.append(path)

    def _plan(self, todo: SourceVideos, work: Path, drafts: Path) -> Plan:
        todo = todo.in_order()
        self.progress.start("probing", len(todo))
        first_number = max(self.catalog.shards, default=-1) + 1
        planning = Planning(self.settings, self.catalog.name, self.options.shard_bytes, first_number)
        with closing(self._probed(SourceFiles(self.table.root, todo.paths, self.remote))) as probes:
            plan = planning.write(todo, probes, work, drafts)
        if self.bucket is not None:
            self.bucket.upload_plan()
        elif (free := shutil.disk_usage(self.out).free) < (needed := planning.needed_bytes):
            self.progress.note(
                f"the disk of {self.out} may be too small: about {needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free"
            )
        return plan

    def _probed(self, sources: SourceFiles) -> Generator[tuple[int, Probe | VideoError], None, None]:
        for probe in self.executor.probe(sources):
            self.progress.advance(1)
            yield probe

    def _make(self, plan: Plan, work: Path, drafts: Path) -> None:
        """Make a plan's missing shards. The shards published by the end are in the catalog, whatever ends it."""
        self.catalog.name = plan.name
        self.catalog.ffmpeg = sorted({*self.catalog.ffmpeg, self.ffmpeg.version})
        published = published_of(plan, work)
        # Planned videos are tried again, so errors of earlier runs, or of this one before it was killed, are dropped.
        done = {*published, *self.catalog.shards}
        if self.catalog.errors:
            again = plan.shards.without(self.catalog.shards.keys() - published.keys())
            paths = {printable_path(planned.video.path) for shard in again for planned in shard.videos}
            paths.update(error.path for error in plan.errors)
            self.catalog.errors = [error for error in self.catalog.errors if error.path not in paths]
        self.catalog.errors += plan.errors
        self.failed_now += plan.errors

        def job(shard: PlannedShard) -> ShardJob:
            return ShardJob(
                shard=shard,
                stem=f"{plan.name}-{shard.number:06d}",
                root=self.table.root,
                target=self.out,
                work=work,
                scratch=drafts,
                settings=self.settings,
                ffmpeg=self.ffmpeg.path,
                timeout_seconds=self.options.timeout_seconds,
                remote=self.remote,
                bucket=None if self.bucket is None else self.bucket.bucket,
            )

        def advance(video: PlannedVideo) -> None:
            self.progress.advance(1, video.probe.duration_seconds)

        missing = plan.shards.without(done)
        jobs = ShardJobs(missing, job)
        self.progress.start("preparing", plan.n_videos, plan.seconds)
        for shard in plan.shards.without(missing.numbers):
            for video in shard.videos:
                advance(video)
        try:
            for record in self.executor.run(jobs, lambda job, index: advance(job.shard.videos[index])):
                published[record.number] = record
        finally:
            published |= published_of(plan, work, known=published)
            for _, record in sorted(published.items()):
                self.catalog.add(record)
                self.failed_now += record.errors
            self._write_catalog()
        self._finish(work)

    def _is_stored(self, files: ShardFiles) -> bool:
        if self.bucket is not None:
            return self.bucket.has(files)
        tar = self.out / files.tar
        return tar.exists() and tar.stat().st_size == files.tar_bytes

    def _write_catalog(self) -> dict[str, Any]:
        totals = self.catalog.write(self.out)
        if self.bucket is not None:
            self.bucket.upload_catalog()
        return totals

    def _finish(self, work: Path) -> None:
        if self.bucket is not None:
            self.bucket.finish()
        finish_work(work)


def _by_printable_path(videos: SourceVideos) -> dict[str, int]:
    """The row of each video by its path as the catalog has it."""
    return {printable_path(path): row for row, path in enumerate(videos.paths)}
