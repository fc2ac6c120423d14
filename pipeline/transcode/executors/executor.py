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
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from vclimb.pipeline.dataset.catalog import ShardRecord
from vclimb.pipeline.errors import SettingsError, VideoError
from vclimb.pipeline.transcode.jobs import ShardJob
from vclimb.pipeline.transcode.make_shard import make_shard
from vclimb.pipeline.transcode.probe import Probe
from vclimb.pipeline.transcode.worker import probe_file

Argument = TypeVar("Argument")
Result = TypeVar("Result")
OnVideo = Callable[[ShardJob, int], None]
"""Called when a video of a job is done, stored or failed, in any order."""

GROUP = "vclimb.executors"
EXECUTORS = {"local": "vclimb.pipeline.transcode.executors.local:LocalExecutor"}


@runtime_checkable
class Executor(Protocol):
    """A place where shards are made. It decides where and when, never which bytes."""

    def probe(self, sources: Sequence[Path], on_probe: Callable[[], None]) -> list[Probe | VideoError]:
        """Call `probe_file` for each source file; return the results in order."""
        ...

    def run(self, jobs: Sequence[ShardJob], on_video: OnVideo) -> Iterator[ShardRecord]:
        """Make and publish all jobs' shards, as `make_shard` does; yield their records in any order."""
        ...


class MapExecutor(ABC):
    """Base of executors that only place function calls.

    Args:
        workers: Number of calls at a time.
    """

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers

    @abstractmethod
    def map(self, function: Callable[[Argument], Result], arguments: Iterable[Argument]) -> Iterable[Result]:
        """Call a function for each argument, anywhere that sees the same files; return the results in order."""

    def probe(self, sources: Sequence[Path], on_probe: Callable[[], None]) -> list[Probe | VideoError]:
        results = []
        for result in self.map(probe_file, sources):
            results.append(result)
            on_probe()
        return results

    def run(self, jobs: Sequence[ShardJob], on_video: OnVideo) -> Iterator[ShardRecord]:
        for job, record in zip(jobs, self.map(make_shard, jobs), strict=True):
            for index in range(len(job.shard.videos)):
                on_video(job, index)
            yield record


def find_executor(executor: str | Executor, workers: int) -> Executor:
    """The executor of a name; an executor itself is returned as it is.

    Args:
        executor: A name of `EXECUTORS` or of the entry point group `vclimb.executors`, or `package.module:Class`.
        workers: Number of processes, or of tasks at a time.

    Raises:
        SettingsError: No executor has this name, or it can't be loaded.
    """
    if not isinstance(executor, str):
        return executor
    installed = {point.name: point.value for point in entry_points(group=GROUP)} | EXECUTORS
    module, colon, name = installed.get(executor, executor).partition(":")
    if not colon:
        raise SettingsError(
            f"executor {executor!r} is not known; allowed: {', '.join(sorted(installed))}, or package.module:Class"
        )
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"executor {executor!r} can't be loaded: {error}") from None
    placement = found(workers)
    if not isinstance(placement, Executor):
        raise SettingsError(f"executor {executor!r} is not an executor; write a subclass of {__name__}.MapExecutor")
    return placement
