"""Checking a data set against its catalog: every digest, tar, index and frame range, and on request every frame."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vclimb.pipeline.dataset.catalog import Catalog
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.dataset.header import ERRORS, HEADER, INSTANCES, VIDEOS, read_digested, read_header
from vclimb.pipeline.dataset.storage import LocalStorage, Storage, open_storage
from vclimb.pipeline.dataset.tables import read_errors
from vclimb.pipeline.errors import DatasetError, DatasetFileError, TooManyFilesError
from vclimb.pipeline.system.cores import require_workers
from vclimb.pipeline.system.open_files import open_files_explained
from vclimb.pipeline.system.pool import Call, LostCall, WorkerPool
from vclimb.pipeline.system.progress import progress_bar
from vclimb.pipeline.transcode.shard_problems import Expected, Problem, frame_problems, shard_problems
from vclimb.pipeline.transcode.work_names import WORK

_VIDEOS_PER_TASK = 64


@dataclass(frozen=True)
class VerifyReport:
    """Result of checking a data set.

    Attributes:
        n_shards: Number of shards checked.
        n_videos: Number of videos checked.
        n_frames: Number of frames in those videos.
        decoded: Whether every frame was decoded.
        unfinished: Whether a prepare run on the data set was stopped and not completed.
        problems: Differences from the catalog, by file and key.
    """

    n_shards: int
    n_videos: int
    n_frames: int
    decoded: bool
    unfinished: bool
    problems: list[Problem]

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return asdict(self)


def verify(
    folder: Path | str, *, decode: bool = False, workers: int | None = None, progress: bool | None = None
) -> VerifyReport:
    """Check every SHA-256, tar, index and frame range of a data set against its catalog.

    Args:
        folder: A prepared data set: a folder, or a URL, of which each process copies one shard at a time to this
            machine.
        decode: Whether to decode every frame too.
        workers: Number of processes; 1 starts none. None: one for each core.
        progress: Whether to show a progress bar on stderr. None: where stderr is a terminal or in Jupyter.

    Raises:
        DatasetError: There is no catalog to check against.
        SettingsError: `workers` is out of range.
    """
    storage = open_storage(folder)
    workers = require_workers(workers)
    problems = list(_catalog_problems(storage))
    names = _names(storage)
    unfinished = WORK in names
    try:  # without tables that fit together, shards can't be checked
        if any(problem.file in (VIDEOS, INSTANCES) for problem in problems):
            return VerifyReport(0, 0, 0, decode, unfinished, problems)
        dataset = _opened(storage)
    except DatasetFileError as error:
        problems.append(Problem(error.file, None, error.problem))
        return VerifyReport(0, 0, 0, decode, unfinished, problems)
    if not unfinished:
        problems += _stray_files(dataset, names)
    with open_files_explained():
        return _verify(dataset, problems, decode, unfinished, workers, progress)


def _verify(
    dataset: StoredDataset,
    problems: list[Problem],
    decode: bool,
    unfinished: bool,
    workers: int,
    progress: bool | None,
) -> VerifyReport:
    tasks = [task for number in sorted(dataset.catalog.shards) for task in _tasks(dataset, number, decode)]
    results = _results(dataset, tasks, min(workers, len(tasks)))
    with closing(results), progress_bar("videos", progress) as bar:
        bar_task = bar.add_task("decoding" if decode else "checking", total=len(dataset.videos), note="")
        for task, task_problems in results:
            problems += task_problems
            bar.advance(bar_task, task.n_videos)
    problems.sort(key=lambda problem: (problem.file, problem.key or "", problem.what))
    n_frames = sum(video.n_frames for video in dataset.videos)
    return VerifyReport(len(dataset.catalog.shards), len(dataset.videos), n_frames, decode, unfinished, problems)


@dataclass(frozen=True)
class _Task:
    """Unit of checking: a shard's files, or all frames of its videos [start, stop), or both."""

    shard: int  # Number of the shard.
    checks_files: bool = False  # Whether to check the shard's files.
    start: int = 0  # First video to decode.
    stop: int = 0  # Video after the last one to decode.
    n_videos: int = 0  # Number of videos to count as checked.

    def problems(self, expected: Expected) -> list[Problem]:
        names = expected.dataset.shard_names(self.shard)
        problems: list[Problem] = []
        try:
            with expected.dataset.storage.fetched(names) as folder:
                here = expected.at(folder)
                if self.checks_files:
                    problems += shard_problems(here, self.shard)
                if self.stop:
                    videos = expected.videos[self.shard][self.start : self.stop]
                    problems += frame_problems(here.dataset, self.shard, videos)
        except TooManyFilesError:
            raise
        except OSError as error:
            problems.append(Problem(Path(error.filename or names[0]).name, None, f"can't be read: {error.strerror}"))
        return problems


def _tasks(dataset: StoredDataset, shard: int, decode: bool) -> Iterator[_Task]:
    n_videos = dataset.catalog.shards[shard].n_videos
    if decode and not isinstance(dataset.storage, LocalStorage):  # a shard is copied to this machine once
        yield _Task(shard, True, 0, n_videos, n_videos)
        return
    yield _Task(shard, True, n_videos=0 if decode else n_videos)
    for start in range(0, n_videos if decode else 0, _VIDEOS_PER_TASK):
        stop = min(start + _VIDEOS_PER_TASK, n_videos)
        yield _Task(shard, False, start, stop, stop - start)


def _results(
    dataset: StoredDataset, tasks: Sequence[_Task], workers: int
) -> Generator[tuple[_Task, list[Problem]], None, None]:
    if workers <= 1:
        expected = Expected(dataset)
        yield from ((task, task.problems(expected)) for task in tasks)
        return
    calls = deque(Call(task, _in_worker, (task,)) for task in tasks)
    with closing(WorkerPool(workers, _open_dataset, (dataset.storage,))) as pool:
        for call, result in pool.run(calls):
            if isinstance(result, LostCall):
                tar = dataset.shard_names(call.key.shard)[0]
                result = [Problem(tar, None, f"the worker process that checked it died ({result.reason})")]
            yield call.key, result


# A worker opens the data set once: sending the catalog with every task would cost more than the checks.
_expected_by_worker: Expected | None = None


def _open_dataset(storage: Storage) -> None:
    global _expected_by_worker
    _expected_by_worker = Expected(_opened(storage))


def _in_worker(task: _Task) -> list[Problem]:
    assert _expected_by_worker is not None
    return task.problems(_expected_by_worker)


def _opened(storage: Storage) -> StoredDataset:
    """Open a data set whose errors.jsonl may be damaged."""
    return StoredDataset(storage, Catalog.read(storage, with_errors=False))


def _names(storage: Storage) -> list[str]:
    try:
        return storage.names()
    except OSError as error:
        raise DatasetError(f"the files of {storage} can't be listed: {error.strerror or error}") from None


def _catalog_problems(storage: Storage) -> Iterator[Problem]:
    header = read_header(storage)
    for name in (VIDEOS, INSTANCES, ERRORS):
        try:
            data, source = read_digested(storage, header, name)
            if name == ERRORS:
                read_errors(data, source.totals.errors)
        except DatasetFileError as error:
            yield Problem(name, None, error.problem)
        except ValueError as error:
            yield Problem(name, None, str(error))


def _stray_files(dataset: StoredDataset, names: Sequence[str]) -> Iterator[Problem]:
    known = {HEADER, VIDEOS, INSTANCES, ERRORS}
    for number in dataset.catalog.shards:
        known.update(dataset.shard_names(number))
    for name in names:
        if name not in known:
            yield Problem(name, None, "is not part of the data set")
