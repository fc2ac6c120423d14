"""Where shards are made. An `Executor` takes shard jobs and yields their records; how and where is its business.

`LocalExecutor` uses processes of this machine. Its pool outlives a worker that crashes or hangs, and hands out
the videos of several shards at once, so that one shard keeps all workers busy.
"""

from __future__ import annotations

import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from pebble import ProcessExpired, ProcessPool

from vclimb.pipeline.dataset.catalog import ShardRecord
from vclimb.pipeline.errors import VideoError
from vclimb.pipeline.system.interrupts import interrupts_held
from vclimb.pipeline.transcode.assembly import ShardAssembly
from vclimb.pipeline.transcode.shard_job import ShardJob
from vclimb.pipeline.transcode.worker import (
    STOPPED,
    error_row,
    probe_task,
    start_worker,
    transcode_tasks,
    write_part_record,
)

PROBE_TIMEOUT_SECONDS = 60.0
# After ffmpeg's own time-out: hashing the source and verifying the result.
_GRACE_SECONDS = 60.0
_IN_FLIGHT_PER_WORKER = 2
# How long the end of a run waits for workers that are still starting.
_START_SECONDS = 10.0
# How often a run that waits for a video looks whether its workers are still there.
_LOOK_SECONDS = 1.0
# Measured on J-HMDB (40 frames, 320x240): 8 to a process take 0.71 of the time of 1; 16 gain no more.
_BATCH_VIDEOS = 8
_BATCH_SECONDS = 30.0
_BATCH_PIXELS = 4 * 10**6


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
    def _pool(self, n_tasks: int) -> Iterator[ProcessPool]:
        """A pool of no more workers than there are tasks; started only if there are any."""
        workers = min(self._workers, n_tasks)
        context = multiprocessing.get_context("spawn")
        started, report = context.Pipe(duplex=False)
        others = {child.pid for child in multiprocessing.active_children()}
        pool = ProcessPool(max(1, workers), initializer=start_worker, initargs=(report,), context=context)
        try:
            if workers:
                with interrupts_held():
                    _ = pool.active  # starts the workers, and the threads that start further ones
            yield pool
        except BaseException:
            pool.stop()  # type: ignore[no-untyped-call]
            raise
        else:
            pool.close()  # type: ignore[no-untyped-call]
        finally:
            _wait_for_starting(started, others)
            pool.join()
            started.close()
            report.close()

    def probe(self, sources: Sequence[Path], on_probe: Callable[[], None]) -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = [{}] * len(sources)
        todo = deque(enumerate(sources))
        pending: dict[Future[dict[str, Any]], int] = {}
        with self._pool(len(sources)) as pool:
            while todo or pending:
                while todo and len(pending) < self._workers * _IN_FLIGHT_PER_WORKER:
                    index, source = todo.popleft()
                    pending[_schedule(pool, PROBE_TIMEOUT_SECONDS, probe_task, source)] = index
                for future in _done(pool, pending):
                    index = pending.pop(future)
                    try:
                        results[index] = future.result()
                    except (TimeoutError, ProcessExpired, BrokenProcessPool) as error:
                        _stop_with_worker(error)
                        results[index] = {"error": error_row(_lost_worker("probe", PROBE_TIMEOUT_SECONDS, error))}
                    on_probe()
        return results

    def run(self, jobs: Sequence[ShardJob], on_video: OnVideo) -> Iterator[ShardRecord]:
        assemblies = [ShardAssembly(job) for job in jobs]
        todo: deque[_Batch] = deque()
        n_tasks = 0
        for number, job in enumerate(jobs):
            assemblies[number].discard_unsound_parts()
            left_over: list[int] = []  # an earlier run may have left parts
            missing: list[int] = []
            for index in range(len(job.shard.videos)):
                (left_over if assemblies[number].is_done(index) else missing).append(index)
            batches = [_Batch(number, batch) for batch in self._batches(job, missing)]
            n_tasks += len(batches)
            todo += [_Batch(number, tuple(left_over)), *batches] if left_over or not missing else batches
        pending: dict[Future[None], _Batch] = {}
        with self._pool(n_tasks) as pool:
            while todo or pending:
                done: list[_Batch] = []
                while todo and len(pending) < self._workers * _IN_FLIGHT_PER_WORKER:
                    batch = todo.popleft()
                    tasks = [jobs[batch.job].task(i) for i in batch.videos if not assemblies[batch.job].is_done(i)]
                    if not tasks:
                        done.append(batch)
                        continue
                    timeout_seconds = 2 * sum(task.timeout_seconds for task in tasks) + _GRACE_SECONDS
                    pending[_schedule(pool, timeout_seconds, transcode_tasks, tasks)] = batch
                for future in _done(pool, pending) if pending else ():
                    batch = pending.pop(future)
                    try:
                        future.result()
                    except (TimeoutError, ProcessExpired, BrokenProcessPool) as error:
                        _stop_with_worker(error)
                        if len(batch.videos) > 1:  # which of them it was shows when each is done alone
                            todo.extendleft(_Batch(batch.job, (index,)) for index in reversed(batch.videos))
                            continue
                        (index,), job = batch.videos, jobs[batch.job]
                        lost = _lost_worker("transcode", job.task(index).timeout_seconds, error)
                        write_part_record(job.part(index), {"error": error_row(lost)})
                    done.append(batch)
                for batch in done:
                    for index in batch.videos:
                        on_video(jobs[batch.job], index)
                    if record := assemblies[batch.job].part_done():
                        yield record

    def _batches(self, job: ShardJob, indices: Sequence[int]) -> Iterator[tuple[int, ...]]:
        """Runs of consecutive short videos that share an ffmpeg, few enough that all workers stay busy."""
        most = max(1, min(_BATCH_VIDEOS, len(indices) // (2 * self._workers)))
        batch: list[int] = []
        seconds, pixels = 0.0, 0
        for index in indices:
            probe = job.shard.videos[index].probe
            seconds += probe.duration_seconds
            pixels += probe.display_width * probe.display_height
            if batch and (len(batch) == most or seconds > _BATCH_SECONDS or pixels > _BATCH_PIXELS):
                yield tuple(batch)
                batch, seconds, pixels = [], probe.duration_seconds, probe.display_width * probe.display_height
            batch.append(index)
        if batch:
            yield tuple(batch)


@dataclass(frozen=True)
class _Batch:
    """Videos of one job that are given to a worker together."""

    job: int
    videos: tuple[int, ...]


def _wait_for_starting(started: Connection, others: set[int | None]) -> None:
    """Let living workers finish their start: one that finds the pool gone meanwhile would print a traceback."""
    deadline = time.monotonic() + _START_SECONDS
    ready = others
    while time.monotonic() < deadline:
        while started.poll():
            ready = ready | {started.recv()}
        if all(child.pid in ready for child in multiprocessing.active_children()):
            return
        time.sleep(0.02)


def _schedule(pool: ProcessPool, timeout_seconds: float, task: Callable[..., Any], *args: object) -> Future[Any]:
    try:
        return pool.schedule(task, args=args, timeout=timeout_seconds)
    except RuntimeError as error:  # the pool broke since we last looked
        raise KeyboardInterrupt from error


def _done(pool: ProcessPool, pending: Iterable[Future[Any]]) -> set[Future[Any]]:
    """The futures that are done, at least one. A pool that breaks forgets those it had not handed out."""
    while True:
        done = wait(pending, timeout=_LOOK_SECONDS, return_when=FIRST_COMPLETED).done
        if done:
            return done
        if not pool.active:
            raise KeyboardInterrupt


def _stop_with_worker(error: Exception) -> None:
    """A scheduler that stops a job may reach the workers before the run: then the run stops too.

    It may also reach workers that hold no task yet; the pool is broken once all have ended that way.
    """
    if isinstance(error, BrokenProcessPool) or (isinstance(error, ProcessExpired) and error.exitcode == STOPPED):
        raise KeyboardInterrupt


def _lost_worker(stage: str, timeout_seconds: float, error: Exception) -> VideoError:
    if isinstance(error, TimeoutError):
        return VideoError(stage, f"took over {timeout_seconds:.0f} s")
    return VideoError(stage, f"the worker process died ({error}); the file may have crashed a decoder")
