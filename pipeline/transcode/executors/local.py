"""Shards made by processes of this machine.

The videos of several shards are handed out at once, so that one shard keeps all workers busy. A worker that crashes or
hangs costs the video that it worked on.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing

from vclimb.pipeline.dataset.catalog import ShardRecord
from vclimb.pipeline.errors import VideoError
from vclimb.pipeline.sources.remote import Source
from vclimb.pipeline.system.cores import available_cores
from vclimb.pipeline.system.pool import Call, LostCall, WorkerPool
from vclimb.pipeline.transcode.assembly import ShardAssembly
from vclimb.pipeline.transcode.executors.executor import Executor, OnVideo
from vclimb.pipeline.transcode.jobs import BATCH_VIDEOS, ShardJob
from vclimb.pipeline.transcode.part import Part, write_part
from vclimb.pipeline.transcode.probe import Probe
from vclimb.pipeline.transcode.transcode import transcode_videos
from vclimb.pipeline.transcode.worker import probe_file, start_worker

PROBE_TIMEOUT_SECONDS = 60.0
# Calls that wait for a worker, for each worker. Further ones are made as these end.
_WAITING = 4
# Time beyond ffmpeg's own limit, to hash the source and verify the result.
_GRACE_SECONDS = 60.0


class LocalExecutor(Executor):
    """Processes of this machine.

    Args:
        workers: Number of processes; None: one for each core.
    """

    name = "local"
    summary = "Processes of this machine."

    def __init__(self, workers: int | None = None) -> None:
        super().__init__(workers)
        self._n_workers = workers or available_cores()
        self._pool = WorkerPool(self._n_workers, start_worker)

    def close(self) -> None:
        self._pool.close()

    def probe(self, sources: Sequence[Source]) -> Iterator[tuple[int, Probe | VideoError]]:
        waiting = (Call(i, probe_file, (path,), PROBE_TIMEOUT_SECONDS) for i, path in enumerate(sources))
        calls = deque(itertools.islice(waiting, _WAITING * self._n_workers))
        with closing(self._pool.run(calls)) as outcomes:
            for call, result in outcomes:
                calls.extend(itertools.islice(waiting, 1))
                if isinstance(result, LostCall):
                    result = _lost_video("probe", PROBE_TIMEOUT_SECONDS, result)
                yield call.key, result

    def run(self, jobs: Sequence[ShardJob], on_video: OnVideo) -> Iterator[ShardRecord]:
        calls: deque[Call[tuple[ShardAssembly, tuple[int, ...]], None]] = deque()
        waiting = iter(jobs)
        yield from self._fill(calls, waiting, on_video)
        with closing(self._pool.run(calls)) as outcomes:
            for call, result in outcomes:
                assembly, batch = call.key
                if isinstance(result, LostCall):
                    if len(batch) > 1:  # the video at fault shows when each is done alone
                        missing = [index for index in batch if not assembly.is_done(index)]
                        calls.extendleft(self._call(assembly, (index,)) for index in reversed(missing))
                        batch = tuple(index for index in batch if assembly.is_done(index))
                    else:
                        video = assembly.job.video(batch[0])
                        error = _lost_video("transcode", video.timeout_seconds, result)
                        write_part(video.part, Part(error=error))
                for index in batch:
                    on_video(assembly.job, index)
                if record := assembly.append_parts():
                    yield record
                yield from self._fill(calls, waiting, on_video)

    def _fill(
        self,
        calls: deque[Call[tuple[ShardAssembly, tuple[int, ...]], None]],
        jobs: Iterator[ShardJob],
        on_video: OnVideo,
    ) -> Iterator[ShardRecord]:
        """Begin further shards until enough calls wait; yield the records of those that an earlier run finished."""
        while len(calls) < _WAITING * self._n_workers and (job := next(jobs, None)) is not None:
            assembly = ShardAssembly(job)
            missing = assembly.missing()
            calls += [self._call(assembly, batch) for batch in self._batches(job, missing)]
            for index in range(len(job.shard.videos)):
                if assembly.is_done(index):  # in an earlier run
                    on_video(job, index)
            if record := assembly.append_parts():
                yield record

    def _batches(self, job: ShardJob, indices: Sequence[int]) -> Iterator[tuple[int, ...]]:
        """Batches few enough that all workers stay busy."""
        return job.batches(indices, max(1, min(BATCH_VIDEOS, len(indices) // (2 * self._n_workers))))

    @staticmethod
    def _call(assembly: ShardAssembly, batch: tuple[int, ...]) -> Call[tuple[ShardAssembly, tuple[int, ...]], None]:
        videos = [assembly.job.video(index) for index in batch]
        timeout_seconds = 2 * sum(video.timeout_seconds for video in videos) + _GRACE_SECONDS
        return Call((assembly, batch), transcode_videos, (videos,), timeout_seconds)


def _lost_video(stage: str, timeout_seconds: float, lost: LostCall) -> VideoError:
    if lost.timed_out:
        return VideoError(stage, f"took over {timeout_seconds:.0f} s")
    return VideoError(stage, f"the worker process died ({lost.reason}); the file may have crashed a decoder")
