"""What an executor is, and how one is found by name.

To add an executor, write a subclass of `MapExecutor` with `map` and name it `package.module:Class`, or enter it in the
entry point group `vclimb.executors`:

    class InThisProcess(MapExecutor):
        def map(self, function, arguments):
            return map(function, arguments)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from vclimb.pipeline.dataset.catalog import ShardRecord
from vclimb.pipeline.errors import VideoError
from vclimb.pipeline.sources.remote import Source
from vclimb.pipeline.system.plugins import Registry
from vclimb.pipeline.transcode.assembly import ShardAssembly, read_record
from vclimb.pipeline.transcode.cluster_progress import ClusterStatus
from vclimb.pipeline.transcode.jobs import ShardJob
from vclimb.pipeline.transcode.probe import Probe
from vclimb.pipeline.transcode.transcode import transcode_videos
from vclimb.pipeline.transcode.worker import probe_file

Argument = TypeVar("Argument")
Result = TypeVar("Result")
OnVideo = Callable[[ShardJob, int], None]
"""Called when a video of a job is done, stored or failed, in any order."""


def make_shard(job: ShardJob) -> ShardRecord:
    """Transcode, verify, assemble and publish one shard in this process, and return its record.

    Videos that an earlier call finished are kept, so a call that was killed may be repeated, here or elsewhere. The
    bytes depend on the job alone. A hostile file may crash the process: call `worker.start_worker` first in a process
    of its own. Raises a TargetError where the disk is full or can't be written.
    """
    if (published := read_record(job)) is not None:
        return published
    assembly = ShardAssembly(job)
    for batch in job.batches(assembly.missing()):
        transcode_videos([job.video(index) for index in batch])
    record = assembly.append_parts()
    assert record is not None
    return record


class Executor(ABC):
    """A place where shards are made. It decides where and when, never which bytes.

    Args:
        workers: Number of processes, or of shards at a time; None: as many as the place has cores.
    """

    has_nodes = False
    """Whether `run` calls `on_status` with the progress of several nodes."""

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers
        self.on_status: Callable[[ClusterStatus], None] = lambda status: None

    @abstractmethod
    def probe(self, sources: Sequence[Source]) -> Iterator[tuple[int, Probe | VideoError]]:
        """Call `probe_file` for each source file; yield the numbers of the files with the results, in any order."""

    @abstractmethod
    def run(self, jobs: Sequence[ShardJob], on_video: OnVideo) -> Iterator[ShardRecord]:
        """Make and publish all jobs' shards, as `make_shard` does; yield their records in any order."""

    def close(self) -> None:  # noqa: B027 - most executors hold nothing between calls
        """Give back what the executor holds, such as processes. It may be used again."""


class MapExecutor(Executor):
    """Base of executors that only place function calls."""

    @abstractmethod
    def map(self, function: Callable[[Argument], Result], arguments: Iterable[Argument]) -> Iterable[Result]:
        """Call a function for each argument, anywhere that sees the same files; return the results in order."""

    def probe(self, sources: Sequence[Source]) -> Iterator[tuple[int, Probe | VideoError]]:
        yield from enumerate(self.map(probe_file, sources))

    def run(self, jobs: Sequence[ShardJob], on_video: OnVideo) -> Iterator[ShardRecord]:
        for job, record in zip(jobs, self.map(make_shard, jobs), strict=True):
            for index in range(len(job.shard.videos)):
                on_video(job, index)
            yield record


EXECUTORS = Registry[Executor](
    "executor",
    package="vclimb.pipeline.transcode.executors",
    group="vclimb.executors",
    base="vclimb.pipeline.transcode.executors.executor:Executor",
)
"""Executors by name: files in this folder, and entry points of group `vclimb.executors`."""
