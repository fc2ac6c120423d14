"""Shards made by the nodes of a Ray cluster, each shard by one task.

All nodes see the sources and the target under the same paths. In a task, files are opened by a worker process with the
bounds of the local executor, so that a hostile file costs its own video alone. A task that is lost with its node is
started again elsewhere and keeps the videos that were finished.
"""

from __future__ import annotations

import atexit
import functools
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from vclimb.pipeline.dataset.catalog import ShardRecord
from vclimb.pipeline.errors import FfmpegMissingError, VideoError
from vclimb.pipeline.sources.remote import Source
from vclimb.pipeline.system.ray_cluster import LOST_NODES, RayTasks, connect
from vclimb.pipeline.transcode.cluster_progress import ClusterProgress, Report
from vclimb.pipeline.transcode.executors.executor import Executor, OnVideo
from vclimb.pipeline.transcode.executors.local import LocalExecutor
from vclimb.pipeline.transcode.ffmpeg import find_ffmpeg
from vclimb.pipeline.transcode.jobs import ShardJob
from vclimb.pipeline.transcode.probe import Probe

_PROBES_PER_TASK = 64
# How often a task reports its videos, and how often this process looks for shards that take too long.
_REPORT_SECONDS = 0.5
_LOOK_SECONDS = 5.0


class RayExecutor(Executor):
    """Nodes of a Ray cluster, which see the same files.

    Args:
        workers: Number of shards at a time; None: as many as the cluster has cores.
        address: Address of the cluster. None: the one that RAY_ADDRESS or `ray start` names, else a cluster of this
            machine that ends with this process.
    """

    name = "ray"
    summary = "Nodes of a Ray cluster (pip install 'vclimb[ray]')."
    has_nodes = True

    def __init__(self, workers: int | None = None, address: str | None = None) -> None:
        super().__init__(workers)
        self._address = address

    def probe(self, sources: Sequence[Source]) -> Iterator[tuple[int, Probe | VideoError]]:
        starts = range(0, len(sources), _PROBES_PER_TASK)
        calls = ((start, (list(sources[start : start + _PROBES_PER_TASK]),)) for start in starts)
        with closing(self._tasks(_probe, calls).results()) as parts:
            for start, part in parts:
                yield from ((start + index, result) for index, result in part)

    def run(self, jobs: Sequence[ShardJob], on_video: OnVideo) -> Iterator[ShardRecord]:
        ray = self._ray()
        version = find_ffmpeg().version
        progress, reports = ClusterProgress(), _TaskReports(ray)
        looked = time.monotonic()

        def calls() -> Iterator[tuple[int, tuple[Any, ...]]]:
            for job in jobs:
                progress.submit(job)
                yield job.shard.number, (job, version, reports.actor)

        def show() -> None:
            nonlocal looked
            for job, index in progress.add(reports.take()):
                on_video(job, index)
            if time.monotonic() - looked > _LOOK_SECONDS:
                looked = time.monotonic()
                progress.warn_of_stragglers()
                self.on_status(progress.status())

        with closing(self._tasks(_make_shard, calls()).results(show)) as records:
            for number, record in records:
                for job, index in progress.end(number):
                    on_video(job, index)
                yield record
        self.on_status(progress.status())

    def _ray(self) -> Any:
        return connect(self._address)

    def _tasks(self, function: Callable[..., Any], calls: Iterable[tuple[int, tuple[Any, ...]]]) -> RayTasks[int]:
        ray = self._ray()
        remote = ray.remote(num_cpus=1, max_retries=LOST_NODES)(function)
        # Beyond the tasks that run, some wait on the cluster, so that no core waits for this process.
        at_once = self.workers or 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        return RayTasks(ray, remote, calls, at_once)


class _TaskReports:
    """What tasks have reported since it was last asked for."""

    def __init__(self, ray: Any) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # On the node of this process, so that it is lost with this process alone.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._ray = ray
        self.actor = ray.remote(num_cpus=0, scheduling_strategy=here)(_Reports).remote()
        self._asked = self.actor.take.remote()

    def take(self) -> list[Report]:
        """New reports, without a wait. None come where the actor fails: the end of a shard counts its videos too."""
        if not self._ray.wait([self._asked], timeout=0)[0]:
            return []
        asked, self._asked = self._asked, self.actor.take.remote()
        try:
            reports: list[Report] = self._ray.get(asked)
        except self._ray.exceptions.RayError:
            return []
        return reports


class _Reports:
    """Actor that collects the reports of tasks."""

    def __init__(self) -> None:
        self._reports: list[Report] = []

    def add(self, report: Report) -> None:
        self._reports.append(report)

    def take(self) -> list[Report]:
        reports, self._reports = self._reports, []
        return reports


class _Reporter:
    """The reports of one task. Videos are reported together, since one process takes the reports of all nodes."""

    def __init__(self, actor: Any, shard: int, node: str) -> None:
        self._actor, self._shard, self._node = actor, shard, node
        self._done: list[int] = []
        self._reported = time.monotonic()
        actor.add.remote(Report(shard, node))

    def add(self, _: ShardJob, index: int) -> None:
        self._done.append(index)
        if time.monotonic() - self._reported >= _REPORT_SECONDS:
            self._actor.add.remote(Report(self._shard, self._node, tuple(self._done)))
            self._done, self._reported = [], time.monotonic()


@functools.cache
def _worker() -> LocalExecutor:
    """The process of this task's worker that opens files; later tasks of the worker use it again."""
    worker = LocalExecutor(1)
    atexit.register(worker.close)
    return worker


@functools.cache
def _node() -> str:
    """Name of this node: that of the machine, and the beginning of the number that Ray gave to the node."""
    import ray

    return f"{socket.gethostname()}/{ray.get_runtime_context().get_node_id()[:6]}"


def _probe(sources: Sequence[Source]) -> list[tuple[int, Probe | VideoError]]:
    return list(_worker().probe(sources))


def _make_shard(job: ShardJob, version: str, reports: Any) -> ShardRecord:
    """Make a shard on this node. Its ffmpeg must be that of the driver, since another makes other bytes."""
    ffmpeg = find_ffmpeg()
    if ffmpeg.version != version:
        raise FfmpegMissingError(
            f"node {socket.gethostname()} has {ffmpeg}, and this machine has version {version}; "
            "install the same version on all nodes, or set VCLIMB_FFMPEG to it"
        )
    reporter = _Reporter(reports, job.shard.number, _node())
    (record,) = _worker().run([replace(job, ffmpeg=ffmpeg.path)], reporter.add)
    return record
