"""Steps of `benchmarks/scale.py`: what `prepare` and `verify` spend apart from the videos themselves.

Listing reads a folder of empty files. Planning takes made-up probes and ends with the plan on disk. The catalog is that
of the made-up data set. Verifying reads real shards, 70 videos in each, whose videos have 8 frames of 4 bytes: what is
left is the time by video and frame. Hashes and checksums of real frames come on top, at the speed of the cores.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from unittest import mock

import numpy as np
from scale_metadata import CLASSES, FRAMES, VIDEOS_PER_SHARD

from vclimb.pipeline.dataset import shard as shard_module
from vclimb.pipeline.dataset.catalog import Catalog, ShardRecord
from vclimb.pipeline.dataset.rows import StoredInstance, StoredVideo
from vclimb.pipeline.dataset.settings import EncodeSettings
from vclimb.pipeline.dataset.shard import ShardWriter
from vclimb.pipeline.dataset.storage import LocalStorage
from vclimb.pipeline.errors import VideoError
from vclimb.pipeline.sources import read_source
from vclimb.pipeline.transcode.assembly import sample_json
from vclimb.pipeline.transcode.executors.executor import Executor, OnVideo
from vclimb.pipeline.transcode.ffmpeg import find_ffmpeg
from vclimb.pipeline.transcode.jobs import ShardJob
from vclimb.pipeline.transcode.prepare import PrepareOptions, PrepareRun
from vclimb.pipeline.transcode.probe import Probe
from vclimb.pipeline.transcode.progress import PrepareProgress
from vclimb.pipeline.transcode.verify import verify

SETTINGS = EncodeSettings(quality=5)
# 2.6 MB of frames, as scale_metadata has, so that about 70 videos fill a shard.
SHARD_BYTES = 256 * 10**6
TINY_FRAMES, TINY_BYTES = 8, 4


def list_source(folder: Path) -> Callable[[], object]:
    source = _source(folder)
    return lambda: _void(read_source(source))


def plan_run(folder: Path) -> Callable[[], object]:
    """Plan all videos of a source."""
    shutil.rmtree(folder / "planned", ignore_errors=True)
    run = _run(folder)
    return lambda: _stopped(run)


def resume_plan(folder: Path) -> Callable[[], object]:
    """Read a plan on disk, and compare it with the source."""
    shutil.rmtree(folder / "planned", ignore_errors=True)
    _stopped(_run(folder))
    run = _run(folder)
    return lambda: _stopped(run)


def write_catalog(folder: Path) -> Callable[[], object]:
    catalog = Catalog.read(LocalStorage(folder))
    (folder / "catalog").mkdir(exist_ok=True)
    return lambda: catalog.write(folder / "catalog")


def verify_shards(folder: Path) -> Callable[[], object]:
    tiny = folder / "tiny"
    if not tiny.is_dir():
        _make_tiny(tiny, _n_videos(folder))

    def measured() -> None:
        report = verify(tiny, workers=1, progress=False)
        assert (report.n_videos, report.problems) == (_n_videos(folder), [])

    return measured


class StoppedError(Exception):
    """The run has got as far as it is measured."""


class MadeUpProbes(Executor):
    """Probes that need no time. Shards aren't made."""

    def probe(self, sources: Sequence[object]) -> Iterator[tuple[int, Probe | VideoError]]:
        rate = Fraction(25)
        for i in range(len(sources)):
            size, time_ns = 900_000 + i, 1_700_000_000_000 + i
            yield i, Probe(0, "h264", 340, 256, FRAMES, 10.0, 10.0, rate, True, False, False, size, time_ns)

    def run(self, jobs: Sequence[ShardJob], on_video: OnVideo) -> Iterator[ShardRecord]:
        raise StoppedError


def _run(folder: Path) -> PrepareRun:
    table = read_source(_source(folder))
    options = PrepareOptions(SHARD_BYTES)
    return PrepareRun(
        table, folder / "planned", SETTINGS, options, find_ffmpeg(), MadeUpProbes(1), PrepareProgress(False)
    )


def _stopped(run: PrepareRun) -> None:
    with suppress(StoppedError):
        run.run()


def _void(_: object) -> None:
    """Drop a result, as part of what is measured."""


def _n_videos(folder: Path) -> int:
    return int(folder.name)


def _source(folder: Path) -> Path:
    """A folder of empty files, in a folder for each class."""
    source = folder / "source"
    if source.is_dir():
        return source
    draft = folder / "source.draft"
    for number in range(CLASSES):
        (draft / f"class{number:03d}").mkdir(parents=True, exist_ok=True)
    for number in range(_n_videos(folder)):
        os.close(
            os.open(draft / f"class{number % CLASSES:03d}/video_{number:09d}_000010.mp4", os.O_CREAT | os.O_WRONLY)
        )
    return draft.rename(source)


def _make_tiny(folder: Path, n_videos: int) -> None:
    """Shards of tiny videos. They aren't synced to the disk, which would take most of the time."""
    draft = folder.with_suffix(".draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    frames = [bytes([number]) * TINY_BYTES for number in range(TINY_FRAMES)]
    content = bytes(16) + b"".join(frames)
    index = np.array([(16 + TINY_BYTES * i, TINY_BYTES, zlib.crc32(frame)) for i, frame in enumerate(frames)], np.int64)
    digest = hashlib.sha256(content).hexdigest()
    (draft / "video").write_bytes(content)
    catalog = Catalog(name="tiny", settings=SETTINGS, ffmpeg=["made up"])
    with mock.patch.object(shard_module, "sync"), mock.patch.object(shard_module, "write_synced", Path.write_bytes):
        for number, start in enumerate(range(0, n_videos, VIDEOS_PER_SHARD)):
            record = ShardRecord(number, None)
            with ShardWriter(draft, f"tiny-{number:06d}") as writer:
                for place in range(start, min(start + VIDEOS_PER_SHARD, n_videos)):
                    label = f"class{place * CLASSES // n_videos:03d}"
                    video = StoredVideo(
                        key=f"{label}/video_{place:09d}_000010",
                        labels=(label,),
                        group=None,
                        source=f"{label}/video_{place:09d}_000010.mp4",
                        source_sha256=digest,
                        source_bytes=900_000,
                        shard=number,
                        offset=0,
                        bytes=len(content),
                        sha256=digest,
                        codec="jpeg",
                        width=340,
                        height=256,
                        fps_fraction=Fraction(25),
                        n_frames=TINY_FRAMES,
                        first_frame=0,
                    )
                    instance = StoredInstance(video.key, label, None, 0, TINY_FRAMES)
                    offset, first = writer.add(video.key, draft / "video", sample_json(video, [instance]), index)
                    record.videos.append(replace(video, offset=offset, first_frame=first))
                    record.instances.append(instance)
                record.files = writer.finish()
            catalog.add(record)
    (draft / "video").unlink()
    catalog.write(draft)
    draft.rename(folder)
