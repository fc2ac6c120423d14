"""Progress of shards on the nodes of a cluster: by node, and the shards that run longest."""

from __future__ import annotations

import logging
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from vclimb.pipeline.sources.table import printable_path
from vclimb.pipeline.transcode.jobs import ShardJob

_log = logging.getLogger(__name__)
# A shard that takes so many times as long as the median, and so many seconds more, is warned of.
_STRAGGLER = 3
_STRAGGLER_SECONDS = 60.0
_SHARDS_BEFORE_WARNING = 5
_LONGEST = 5


@dataclass(frozen=True)
class Report:
    """What a task reports: that it began, or which videos of its shard are done."""

    shard: int  # Number of the shard.
    node: str  # Name of the node that the task runs on.
    done: tuple[int, ...] = ()  # Numbers of videos in the shard. Empty: the task began.


@dataclass(frozen=True)
class NodeStatus:
    node: str  # Name of the node.
    running: int  # Number of shards that run there.
    shards: int  # Number of shards that it made.
    videos: int  # Number of videos that it finished.
    seconds: float  # Time since it began its first shard.


@dataclass(frozen=True)
class RunningShard:
    shard: int  # Number of the shard.
    node: str  # Name of the node.
    seconds: float  # Time since the task began.
    done: int  # Number of its videos that are done.
    videos: int  # Number of its videos.
    video: str  # First of its videos that isn't done.


@dataclass(frozen=True)
class ClusterStatus:
    nodes: tuple[NodeStatus, ...]  # Nodes that reported anything, by name.
    longest: tuple[RunningShard, ...]  # The shards that run longest, the longest first.


@dataclass
class _Running:
    job: ShardJob
    left: set[int]
    node: str = ""
    begun: float | None = None  # Time at which the task began. None: it waits.
    is_warned_of: bool = False


@dataclass
class ClusterProgress:
    """Progress of the shards that are handed to a cluster, from the reports of their tasks."""

    _running: dict[int, _Running] = field(default_factory=dict)
    _seconds: list[float] = field(default_factory=list)  # Durations of the shards that are made.
    _first: dict[str, float] = field(default_factory=dict)
    _videos: Counter[str] = field(default_factory=Counter)
    _shards: Counter[str] = field(default_factory=Counter)

    def submit(self, job: ShardJob) -> None:
        """Note that a shard was handed to the cluster."""
        self._running[job.shard.number] = _Running(job, set(range(len(job.shard.videos))))

    def add(self, reports: Iterable[Report]) -> list[tuple[ShardJob, int]]:
        """Take reports; return the videos that are done since."""
        done = []
        for report in reports:
            running = self._running.get(report.shard)
            if running is None:  # a report that came after the shard's record
                continue
            if not report.done:  # again, where the task was lost with its node
                running.node, running.begun = report.node, time.monotonic()
                self._first.setdefault(report.node, running.begun)
            for index in report.done:
                if index in running.left:  # a task that was started again reports its videos again
                    running.left.remove(index)
                    self._videos[report.node] += 1
                    done.append((running.job, index))
        return done

    def end(self, number: int) -> list[tuple[ShardJob, int]]:
        """Note that a shard is made; return those of its videos that no report named, such as one lost with a node."""
        running = self._running.pop(number)
        if running.begun is not None:
            self._seconds.append(time.monotonic() - running.begun)
            self._shards[running.node] += 1
            self._videos[running.node] += len(running.left)
        return [(running.job, index) for index in sorted(running.left)]

    def status(self) -> ClusterStatus:
        now = time.monotonic()
        at_work = [running for running in self._running.values() if running.begun is not None]
        by_node: dict[str, int] = defaultdict(int)
        for running in at_work:
            by_node[running.node] += 1
        nodes = [
            NodeStatus(node, by_node[node], self._shards[node], self._videos[node], now - first)
            for node, first in sorted(self._first.items())
        ]
        longest = sorted(at_work, key=lambda running: running.begun or 0.0)[:_LONGEST]
        return ClusterStatus(tuple(nodes), tuple(_shown(running, now) for running in longest))

    def warn_of_stragglers(self) -> None:
        """Warn once of each shard that takes far longer than the others."""
        if len(self._seconds) < _SHARDS_BEFORE_WARNING:
            return
        usual = statistics.median(self._seconds[-1000:])
        now = time.monotonic()
        for running in self._running.values():
            if running.begun is None or running.is_warned_of:
                continue
            if now - running.begun > _STRAGGLER * usual + _STRAGGLER_SECONDS:
                running.is_warned_of = True
                shown = _shown(running, now)
                _log.warning(
                    "shard %d has run for %.0f s on node %s, others for %.0f s; %d of its %d videos are done; next: %s",
                    *(shown.shard, shown.seconds, shown.node, usual, shown.done, shown.videos, shown.video),
                )


def _shown(running: _Running, now: float) -> RunningShard:
    videos = running.job.shard.videos
    video = printable_path(videos[min(running.left)].video.path) if running.left else ""
    seconds = now - (now if running.begun is None else running.begun)
    return RunningShard(
        running.job.shard.number, running.node, seconds, len(videos) - len(running.left), len(videos), video
    )
