"""Shards made by the nodes of a Ray cluster, each shard by one task.

All nodes see the sources and the target under the same paths. In a task, files are opened by a worker process with the
bounds of the local executor, so that a hostile file costs its own video alone. A task that is lost with its node is
started again elsewhere and keeps the videos that were finished.
"""

from __future__ import annotations

import atexit
import functools
import logging
import socket
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from vclimb.pipeline.dataset.catalog import ShardRecord
from vclimb.pipeline.errors import FfmpegMissingError, VideoError
from vclimb.pipeline.system.ray_cluster import LOST_NODES, RayTasks, connect
from vclimb.pipeline.transcode.executors.executor import Executor, OnVideo
from vclimb.pipeline.transcode.executors.local import LocalExecutor
from vclimb.pipeline.transcode.ffmpeg import find_ffmpeg
from vclimb.pipeline.transcode.jobs import ShardJob
from vclimb.pipeline.transcode.probe import Probe

_log = logging.getLogger(__name__)
_PROBES_PER_TASK = 64
# A shard that takes so many times as long as the median, and so many seconds more, is warned of.
_STRAGGLER = 3
_STRAGGLER_SECONDS = 60.0
_SHARDS_BEFORE_WARNING = 5


class RayExecutor(Executor):
    """Nodes of a Ray cluster, which see the same files.

    Args:
        workers: Number of shards at a time; None: as many as the cluster has cores.
        address: Address of the cluster. None: the one that RAY_ADDRESS or `ray start` names, else a cluster of this
            machine that ends with this process.
    """

    name = "ray"
    summary = "Nodes of a Ray cluster (pip install 'vclimb[ray]')."

    def __init__(self, workers: int | None = None, address: str | None = None) -> None:
        super().__init__(workers)
        self._address = address

    def probe(self, sources: Sequence[Path], on_probe: Callable[[], None]) -> list[Probe | VideoError]:
        starts = range(0, len(sources), _PROBES_PER_TASK)
        calls = [(start, (list(sources[start : start + _PROBES_PER_TASK]),)) for start in starts]
        results: dict[int, list[Probe | VideoError]] = {}
        with closing(self._tasks(_probe, calls).results()) as parts:
            for start, part in parts:
                results[start] = part
                for _ in part:
                    on_probe()
        return [result for start in starts for result in results[start]]

    def run(self, jobs: Sequence[ShardJob], on_video: OnVideo) -> Iterator[ShardRecord]:
        ray = self._ray()
        version = find_ffmpeg().version
        progress = _Progress(ray, jobs, on_video)
        calls = [(job.shard.number, (job, version, progress.reports)) for job in jobs]
        with closing(self._tasks(_make_shard, calls).results(progress.show)) as records:
            for number, record in records:
                progress.end(number)
                yield record

    def _ray(self) -> Any:
        return connect(self._address)

    def _tasks(self, function: Callable[..., Any], calls: Sequence[tuple[int, tuple[Any, ...]]]) -> RayTasks[int]:
        ray = self._ray()
        remote = ray.remote(num_cpus=1, max_retries=LOST_NODES)(function)
        # Beyond the tasks that run, some wait on the cluster, so that no core waits for this process.
        at_once = self.workers or 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        return RayTasks(ray, remote, calls, at_once)


class _Progress:
    """Progress of shards, as their tasks report it."""

    def __init__(self, ray: Any, jobs: Sequence[ShardJob], on_video: OnVideo) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # On the node of this process, so that it is lost with this process alone.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.reports = ray.remote(num_cpus=0, scheduling_strategy=here)(_Reports).remote()
        self._asked = self.reports.take.remote()
        self._ray, self._on_video = ray, on_video
        self._jobs = {job.shard.number: job for job in jobs}
        self._left = {number: set(range(len(job.shard.videos))) for number, job in self._jobs.items()}
        self._begun: dict[int, tuple[float, str]] = {}
        self._seconds: list[float] = []  # Durations of the shards that are made.

    def show(self) -> None:
        """Pass on the videos that are done, and warn of shards that take far longer than the others."""
        for number, index, node in self._take():
            if index is None:
                self._begun[number] = (time.monotonic(), node)
            else:
                self._video_done(number, index)
        if len(self._seconds) < _SHARDS_BEFORE_WARNING:
            return
        usual = statistics.median(self._seconds)
        for number, (begun, node) in list(self._begun.items()):
            if (seconds := time.monotonic() - begun) > _STRAGGLER * usual + _STRAGGLER_SECONDS:
                del self._begun[number]  # one warning is enough
                _log.warning(
                    "shard %d has run for %.0f s on node %s, others for %.0f s; %d of its %d videos are left",
                    number,
                    seconds,
                    node,
                    usual,
                    len(self._left[number]),
                    len(self._jobs[number].shard.videos),
                )

    def _take(self) -> list[tuple[int, int | None, str]]:
        """The reports since the last call. None come where the actor fails: the end of a shard counts its videos too."""
        if not self._ray.wait([self._asked], timeout=0)[0]:
            return []
        asked, self._asked = self._asked, self.reports.take.remote()
        try:
            reports: list[tuple[int, int | None, str]] = self._ray.get(asked)
        except self._ray.exceptions.RayError:
            return []
        return reports

    def end(self, number: int) -> None:
        """Note that a shard is made. Reports of its videos may have been lost with a node."""
        self.show()
        if (begun := self._begun.pop(number, None)) is not None:
            self._seconds.append(time.monotonic() - begun[0])
        for index in sorted(self._left[number]):
            self._video_done(number, index)

    def _video_done(self, number: int, index: int) -> None:
        if index in self._left[number]:  # a task that was started again reports its videos again
            self._left[number].remove(index)
            self._on_video(self._jobs[number], index)


class _Reports:
    """Actor that collects reports of tasks: number of the shard, number of the video (None: the start), and node."""

    def __init__(self) -> None:
        self._reports: list[tuple[int, int | None, str]] = []

    def add(self, number: int, index: int | None, node: str) -> None:
        self._reports.append((number, index, node))

    def take(self) -> list[tuple[int, int | None, str]]:
        reports, self._reports = self._reports, []
        return reports


@functools.cache
def _worker() -> LocalExecutor:
    """The process of this task's worker that opens files; later tasks of the worker use it again."""
    worker = LocalExecutor(1)
    atexit.register(worker.close)
    return worker


def _probe(sources: Sequence[Path]) -> list[Probe | VideoError]:
    return _worker().probe(sources, lambda: None)


def _make_shard(job: ShardJob, version: str, reports: Any) -> ShardRecord:
    """Make a shard on this node. Its ffmpeg must be that of the driver, since another makes other bytes."""
    node, ffmpeg = socket.gethostname(), find_ffmpeg()
    if ffmpeg.version != version:
        raise FfmpegMissingError(
            f"node {node} has {ffmpeg}, and this machine has version {version}; install the same version on all nodes, "
            "or set VCLIMB_FFMPEG to it"
        )
    reports.add.remote(job.shard.number, None, node)
    made = _worker().run(
        [replace(job, ffmpeg=ffmpeg.path)], lambda _, index: reports.add.remote(job.shard.number, index, node)
    )
    (record,) = made
    return record
