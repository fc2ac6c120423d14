"""Where shards are made. An `Executor` takes shard jobs and yields their records; how and where is its business.

`LocalExecutor` uses processes of this machine. Its pool outlives a worker that crashes or hangs, and hands out
the videos of several shards at once, so that one shard keeps all workers busy.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pebble import ProcessExpired, ProcessPool

from pipeline.assembly import ShardAssembly
from pipeline.catalog import ShardRecord
from pipeline.encode import EncodeSettings
from pipeline.errors import VideoError
from pipeline.plan import PlannedShard
from pipeline.worker import VideoTask, error_row, probe_task, start_worker, transcode_task, write_part_record

PROBE_TIMEOUT_SECONDS = 60.0
# After ffmpeg's own time-out: hashing the source and verifying the result.
_GRACE_SECONDS = 60.0
_IN_FLIGHT_PER_WORKER = 4


@dataclass(frozen=True)
class ShardJob:
    """One unit of work.

    Attributes:
        shard: its videos.
        stem: file name of the shard, without a suffix.
        root: folder that the videos' paths are relative to.
        target: folder of the data set.
        work: folder for parts and unfinished files, on the same file system as the target.
        scratch: folder for drafts of this run alone.
        settings: how videos are stored.
        ffmpeg: the binary.
        timeout_seconds: longest time for a video; None allows 120 s and 10 s for each second of it.
    """

    shard: PlannedShard
    stem: str
    root: Path
    target: Path
    work: Path
    scratch: Path
    settings: EncodeSettings
    ffmpeg: str
    timeout_seconds: float | None

    def part(self, index: int) -> Path:
        """Path of a video's part, without a suffix."""
        return self.work / f"{self.shard.number:06d}" / f"{index:06d}"

    def task(self, index: int) -> VideoTask:
        """The work of one of its videos."""
        planned = self.shard.videos[index]
        return VideoTask(
            source=self.root / planned.video.path,
            probe=planned.probe,
            settings=self.settings,
            part=self.part(index),
            scratch=self.scratch,
            ffmpeg=self.ffmpeg,
            timeout_seconds=self.timeout_seconds or min(120 + 10 * planned.probe.duration_seconds, 6 * 3600),
        )


OnVideo = Callable[[ShardJob, int], None]
"""Called when a video of a job is done (stored or failed), in any order."""


class Executor(Protocol):
    """Makes shards. Jobs don't depend on each other; records may come in any order."""

    def probe(self, sources: Sequence[Path], on_probe: Callable[[], None]) -> list[dict[str, Any]]:
        """`worker.probe_task` of each source, in order."""
        ...

    def run(self, jobs: Sequence[ShardJob], on_video: OnVideo) -> Iterator[ShardRecord]:
        """Make all jobs' shards, publish them, and yield the record of each."""
        ...


class LocalExecutor:
    """Processes of this machine."""

    def __init__(self, workers: int) -> None:
        self._workers = workers

    @contextmanager
    def _pool(self) -> Iterator[ProcessPool]:
        pool = ProcessPool(self._workers, initializer=start_worker, context=multiprocessing.get_context("spawn"))
        try:
            yield pool
        except BaseException:
            pool.stop()
            raise
        else:
            pool.close()
        finally:
            pool.join()

    def probe(self, sources: Sequence[Path], on_probe: Callable[[], None]) -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = [{}] * len(sources)
        todo = deque(enumerate(sources))
        pending: dict[Future[dict[str, Any]], int] = {}
        with self._pool() as pool:
            while todo or pending:
                while todo and len(pending) < self._workers * _IN_FLIGHT_PER_WORKER:
                    index, source = todo.popleft()
                    future = pool.schedule(probe_task, args=(source,), timeout=PROBE_TIMEOUT_SECONDS)
                    pending[future] = index
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    index = pending.pop(future)
                    try:
                        results[index] = future.result()
                    except (TimeoutError, ProcessExpired) as error:
                        results[index] = {"error": error_row(_lost_worker("probe", PROBE_TIMEOUT_SECONDS, error))}
                    on_probe()
        return results

    def run(self, jobs: Sequence[ShardJob], on_video: OnVideo) -> Iterator[ShardRecord]:
        assemblies = [ShardAssembly(job) for job in jobs]
        todo = deque((number, index) for number, job in enumerate(jobs) for index in range(len(job.shard.videos)))
        pending: dict[Future[None], tuple[int, int]] = {}
        with self._pool() as pool:
            while todo or pending:
                while todo and len(pending) < self._workers * _IN_FLIGHT_PER_WORKER:
                    number, index = todo.popleft()
                    job = jobs[number]
                    if assemblies[number].is_done(index):  # a part that an earlier run left
                        on_video(job, index)
                        if record := assemblies[number].part_done():
                            yield record
                        continue
                    task = job.task(index)
                    timeout_seconds = task.timeout_seconds * 2 + _GRACE_SECONDS
                    pending[pool.schedule(transcode_task, args=(task,), timeout=timeout_seconds)] = (number, index)
                for future in wait(pending, return_when=FIRST_COMPLETED).done if pending else ():
                    number, index = pending.pop(future)
                    job = jobs[number]
                    try:
                        future.result()
                    except (TimeoutError, ProcessExpired) as error:
                        lost = _lost_worker("transcode", job.task(index).timeout_seconds, error)
                        write_part_record(job.part(index), {"error": error_row(lost)})
                    on_video(job, index)
                    if record := assemblies[number].part_done():
                        yield record


def _lost_worker(stage: str, timeout_seconds: float, error: Exception) -> VideoError:
    if isinstance(error, TimeoutError):
        return VideoError(stage, f"took over {timeout_seconds:.0f} s")
    return VideoError(stage, f"the worker process died ({error}); the file may have crashed a decoder")
