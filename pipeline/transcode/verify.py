"""Checking a data set against its catalog: every digest, tar, index and frame range, and on request every frame."""

from __future__ import annotations

import itertools
import operator
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.dataset.header import ERRORS, HEADER, INSTANCES, VIDEOS, open_digested, read_header
from vclimb.pipeline.dataset.storage import LocalStorage, Storage, open_storage
from vclimb.pipeline.dataset.stored_catalog import StoredCatalog
from vclimb.pipeline.dataset.tables import read_errors
from vclimb.pipeline.errors import DatasetError, DatasetFileError, TooManyFilesError
from vclimb.pipeline.system.cores import require_workers
from vclimb.pipeline.system.open_files import open_files_explained
from vclimb.pipeline.system.pool import Call, LostCall, WorkerPool
from vclimb.pipeline.system.progress import progress_bar
from vclimb.pipeline.transcode.shard_problems import ExpectedShard, Problem, frame_problems, shard_problems
from vclimb.pipeline.transcode.work_names import WORK

_VIDEOS_PER_TASK = 64
# Tasks that wait for a worker, for each worker.
_WAITING = 4


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
    tasks = (task for shard in _shards(dataset) for task in _tasks(dataset.storage, shard, decode))
    results = _results(dataset.storage, tasks, workers)
    with closing(results), progress_bar("videos", progress) as bar:
        bar_task = bar.add_task("decoding" if decode else "checking", total=len(dataset.videos), note="")
        for task, task_problems in results:
            problems += task_problems
            bar.advance(bar_task, task.n_videos)
    problems.sort(key=lambda problem: (problem.file, problem.key or "", problem.what))
    shards = dataset.catalog.shards.values()
    n_frames = sum(shard.n_frames for shard in shards)
    return VerifyReport(len(shards), len(dataset.videos), n_frames, decode, unfinished, problems)


def _shards(dataset: StoredDataset) -> Iterator[ExpectedShard]:
    """What the catalog has of each shard."""
    instances = iter(dataset.instances)  # in the order of the videos
    instance = next(instances, None)
    for number, videos in itertools.groupby(dataset.videos, key=operator.attrgetter("shard")):
        members, of_members = list(videos), []
        keys = {video.key for video in members}
        while instance is not None and instance.key in keys:
            of_members.append(instance)
            instance = next(instances, None)
        yield ExpectedShard(number, dataset.catalog.shards[number], dataset.settings.b_frames, members, of_members)


@dataclass(frozen=True)
class _Task:
    """Unit of checking: a shard's files, or all frames of some of its videos, or both."""

    shard: ExpectedShard  # The shard, with the videos to check.
    checks_files: bool  # Whether to check the shard's files.
    decodes: bool  # Whether to decode the videos.
    n_videos: int  # Number of videos to count as checked.

    def problems(self, storage: Storage) -> list[Problem]:
        names = self.shard.names()
        problems: list[Problem] = []
        try:
            with storage.fetched(names) as folder:
                if self.checks_files:
                    problems += shard_problems(self.shard, folder)
                if self.decodes:
                    problems += frame_problems(self.shard, folder)
        except TooManyFilesError:
            raise
        except OSError as error:
            problems.append(Problem(Path(error.filename or names[0]).name, None, f"can't be read: {error.strerror}"))
        return problems


def _tasks(storage: Storage, shard: ExpectedShard, decode: bool) -> Iterator[_Task]:
    n_videos = len(shard.videos)
    if not decode or not isinstance(storage, LocalStorage):  # a shard is copied to this machine once
        yield _Task(shard, True, decode, n_videos)
        return
    yield _Task(shard, True, False, 0)
    for start in range(0, n_videos, _VIDEOS_PER_TASK):
        videos = shard.videos[start : start + _VIDEOS_PER_TASK]
        yield _Task(replace(shard, videos=videos, instances=()), False, True, len(videos))


def _results(
    storage: Storage, tasks: Iterator[_Task], workers: int
) -> Generator[tuple[_Task, list[Problem]], None, None]:
    """Do tasks. They are made as they are handed out, with the rows that they need of the catalog."""
    first = list(itertools.islice(tasks, _WAITING * workers))
    if min(workers, len(first)) <= 1:
        yield from ((task, task.problems(storage)) for task in itertools.chain(first, tasks))
        return
    calls = deque(_call(storage, task) for task in first)
    with closing(WorkerPool(workers)) as pool:
        for call, result in pool.run(calls):
            calls.extend(_call(storage, task) for task in itertools.islice(tasks, 1))
            if isinstance(result, LostCall):
                tar = call.key.shard.files.tar
                result = [Problem(tar, None, f"the worker process that checked it died ({result.reason})")]
            yield call.key, result


def _call(storage: Storage, task: _Task) -> Call[_Task, list[Problem]]:
    return Call(task, _Task.problems, (task, storage))


def _opened(storage: Storage) -> StoredDataset:
    """Open a data set whose errors.jsonl may be damaged."""
    return StoredDataset(storage, StoredCatalog.read(storage, with_errors=False))


def _names(storage: Storage) -> list[str]:
    try:
        return storage.names()
    except OSError as error:
        raise DatasetError(f"the files of {storage} can't be listed: {error.strerror or error}") from None


def _catalog_problems(storage: Storage) -> Iterator[Problem]:
    header = read_header(storage)
    for name in (VIDEOS, INSTANCES, ERRORS):
        try:
            file, source = open_digested(storage, header, name)
            with file:
                if name == ERRORS:
                    read_errors(file.read(), source.totals.errors)
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
