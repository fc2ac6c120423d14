"""What the process that drives `prepare` spends on a number of made-up videos, without any video work.

    python benchmarks/cluster_driver.py FOLDER VIDEOS

`benchmarks/cluster.py --simulate` runs it. All is the code of `vclimb prepare`, but for an executor that makes up
probes and shards: it writes the records that a worker would write, and its own time is left out. Prints JSON: CPU
seconds of each step, and the process's memory after each and at most, in MB.
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
from scale_prepare import MadeUpProbes

from vclimb.pipeline.dataset.catalog import Catalog, ShardRecord
from vclimb.pipeline.dataset.rows import StoredInstance, StoredVideo
from vclimb.pipeline.dataset.settings import EncodeSettings
from vclimb.pipeline.dataset.shard import ShardFiles
from vclimb.pipeline.dataset.storage import LocalStorage
from vclimb.pipeline.sources.builder import TableBuilder
from vclimb.pipeline.sources.keys import keys_of_paths
from vclimb.pipeline.sources.table import Instance, SourceTable
from vclimb.pipeline.transcode.assembly import write_record
from vclimb.pipeline.transcode.executors.executor import OnVideo
from vclimb.pipeline.transcode.ffmpeg import find_ffmpeg
from vclimb.pipeline.transcode.jobs import ShardJob
from vclimb.pipeline.transcode.prepare import PrepareOptions, PrepareRun
from vclimb.pipeline.transcode.progress import PrepareProgress

CLASSES = 400
VIDEO_BYTES, FRAMES = 2_600_000, 250


class Steps:
    """CPU seconds by step, and the memory at the end of each."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.memory: dict[str, float] = {}
        self._step, self._begun = "", 0.0

    def begin(self, step: str) -> None:
        """End the step that runs, and begin another; an empty name is time of the made-up workers."""
        if self._step:
            spent = time.process_time() - self._begun
            self.seconds[self._step] = self.seconds.get(self._step, 0.0) + spent
            self.memory[self._step] = psutil.Process().memory_info().rss / 1e6
        self._step, self._begun = step, time.process_time()


def made_up_table(n_videos: int) -> SourceTable:
    """The table of a folder of videos, as the layout `folder` builds it from a listing."""
    paths = [f"class{i % CLASSES:03d}/video_{i:09d}_000010.mp4" for i in range(n_videos)]
    builder = TableBuilder("folder", Path("/nowhere"))
    for path, key in zip(paths, keys_of_paths(paths), strict=True):
        builder.add(path, key, Instance(path.partition("/")[0]))
    return builder.build()


class MadeUp(MadeUpProbes):
    """Workers that need no time."""

    def __init__(self, steps: Steps) -> None:
        super().__init__(1)
        self._steps = steps

    def run(self, jobs: Sequence[ShardJob], on_video: OnVideo) -> Iterator[ShardRecord]:
        for job in jobs:
            self._steps.begin("")
            record = made_up_record(job)
            self._steps.begin("write records (workers)")
            write_record(job, record)
            self._steps.begin("progress and results")
            for index in range(len(job.shard.videos)):
                on_video(job, index)
            yield record
        self._steps.begin("collect and write the catalog")


def made_up_record(job: ShardJob) -> ShardRecord:
    offset, record = 512, ShardRecord(job.shard.number, None)
    for place, planned in enumerate(job.shard.videos):
        digest = hashlib.sha256(planned.video.key.encode()).hexdigest()
        label = planned.video.instances[0].label
        record.videos.append(
            StoredVideo(
                key=planned.video.key,
                labels=(label,),
                group=None,
                source=planned.video.path,
                source_sha256=digest,
                source_bytes=planned.probe.bytes,
                shard=job.shard.number,
                offset=offset,
                bytes=VIDEO_BYTES,
                sha256=digest,
                codec="jpeg",
                width=340,
                height=256,
                fps_fraction=planned.probe.rate,
                n_frames=FRAMES,
                first_frame=place * FRAMES,
            )
        )
        record.instances.append(StoredInstance(planned.video.key, label, None, 0, FRAMES))
        offset += VIDEO_BYTES + 2048
    n_videos = len(record.videos)
    digest = hashlib.sha256(job.stem.encode()).hexdigest()
    record.files = ShardFiles(f"{job.stem}.tar", offset, digest, digest, digest, n_videos, n_videos * FRAMES)
    return record


@contextmanager
def step(steps: Steps, name: str) -> Iterator[None]:
    steps.begin(name)
    yield
    steps.begin("")


def main() -> None:
    out, n_videos = Path(sys.argv[1]), int(sys.argv[2])
    steps = Steps()
    with step(steps, "table of the source"):
        table = made_up_table(n_videos)
    options, settings = PrepareOptions(), EncodeSettings(quality=5)
    ffmpeg = find_ffmpeg()
    with step(steps, "plan"):
        PrepareRun(table, out, settings, options, ffmpeg, MadeUp(steps), PrepareProgress(False)).run()
    with step(steps, "open the data set"):
        catalog = Catalog.read(LocalStorage(out))
    assert len(catalog.videos) == n_videos
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(json.dumps({"videos": n_videos, "seconds": steps.seconds, "mb": steps.memory, "peak_mb": peak}))


if __name__ == "__main__":
    main()
