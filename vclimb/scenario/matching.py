"""A scenario on a prepared data set: the stored video and the frames of each instance."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pyarrow as pa

from vclimb.pipeline.dataset.arrow_memory import system_memory
from vclimb.pipeline.dataset.columns import StoredInstances, StoredVideos
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.dataset.packing import values_of
from vclimb.pipeline.sources.splits import SPLITS
from vclimb.pipeline.system.garbage import collection_paused
from vclimb.scenario.finder import Finder, frames_of_all
from vclimb.scenario.instance import ScenarioError, ScenarioInstance
from vclimb.scenario.instances import ScenarioInstances
from vclimb.scenario.task_sequence import Task, TaskSequence

PROBLEMS = {
    "missing": "not in the data set",
    "broken": "could not be prepared",
    "outside": "outside the stored video",
    "empty": "empty as listed",
    "short": "shorter than a clip",
}
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An instance of a scenario that the data set lacks.

    Attributes:
        task: Number of the task, from 0.
        problem: `missing` (no such video), `broken` (the video is in errors.jsonl), `outside` (of the stored frames),
            `empty` (the segment ends before it starts, a flaw of the scenario that no preparation mends) or `short` (of
            fewer frames than were asked for).
    """

    task: int
    split: str
    instance: ScenarioInstance
    problem: str
    reason: str

    def __str__(self) -> str:
        return f"task {self.task + 1}, {self.split}, {PROBLEMS[self.problem]}: {self.reason}"


@dataclass(frozen=True)
class MatchedTask:
    """Stored instances of a task, as an `InstanceProvider` takes them; their labels are the scenario's class names."""

    classes: tuple[str, ...]
    train: StoredInstances
    val: StoredInstances
    test: StoredInstances

    def split(self, name: str) -> StoredInstances:
        """Instances of `train`, `val` or `test`."""
        return {"train": self.train, "val": self.val, "test": self.test}[name]


@dataclass(frozen=True)
class MatchedScenario:
    """A scenario and the stored instances of its tasks.

    `InstanceProvider(dataset, matched.tasks[0].train, matched.label_ids)` streams the first task.

    Attributes:
        scenario: The scenario, with groups that the data set knows.
    """

    scenario: TaskSequence
    tasks: tuple[MatchedTask, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def label_ids(self) -> dict[str, int]:
        """Class name -> label id."""
        return self.scenario.label_ids

    def digest(self, dataset: StoredDataset) -> str:
        """SHA-256 of the classes, the instances in their order, and the bytes of their videos."""
        digest = hashlib.sha256()
        for task in self.tasks:
            digest.update(repr(task.classes).encode())
            for split in SPLITS:
                for line in _lines(task.split(split), split, dataset.videos):
                    digest.update(line.encode())
        return digest.hexdigest()

    @property
    def losses(self) -> str:
        """Counts and first videos of the instances that the data set lacks, in words."""
        return describe_left_out(self.left_out)

    def counts(self) -> dict[str, int]:
        """Count the instances with each problem that occurs."""
        counts = Counter(lost.problem for lost in self.left_out)
        return {problem: counts[problem] for problem in PROBLEMS if counts[problem]}

    def require(self, allow_missing: bool = False) -> None:
        """Check that the scenario can be trained on.

        Args:
            allow_missing: Whether training may do without instances that the data set lacks. Empty and short segments
                are left out in any case.

        Raises:
            ScenarioError: An instance is missing that isn't allowed to be, a class has no training instance left, or a
                task none to evaluate.
        """
        lacking = [lost for lost in self.left_out if lost.problem not in ("empty", "short")]
        name = self.scenario.name
        if lacking and not allow_missing:
            total = sum(self.scenario.count(split) for split in SPLITS)
            raise ScenarioError(
                f"{len(lacking):,} of the {total:,} instances of scenario {name!r} are not there: "
                f"{describe_left_out(lacking)}; prepare these videos, or train without them by --allow-missing"
            )
        evaluation = self.scenario.evaluation_split
        for number, task in enumerate(self.tasks, 1):
            trained = task.train.labels()
            if bare := [label for label in task.classes if label not in trained]:
                losses = [
                    lost
                    for lost in self.left_out
                    if (lost.task, lost.split, lost.instance.label) == (number - 1, "train", bare[0])
                ]
                raise ScenarioError(
                    f"class {bare[0]!r} of task {number} has no training instance left (so have {len(bare)} of "
                    f"{len(task.classes)}): {describe_left_out(losses)}; prepare its "
                    "videos, or make a scenario without it"
                )
            if not task.split(evaluation):
                raise ScenarioError(
                    f"task {number} of scenario {name!r} has no {evaluation} instance left; prepare its videos, or "
                    "make a scenario without it"
                )


def match(
    scenario: TaskSequence, dataset: StoredDataset, allow_missing: bool = False, least_frames: int = 1
) -> MatchedScenario:
    """Find a scenario's instances in a data set by `locate`, and check them by `MatchedScenario.require`."""
    matched = locate(scenario, dataset, least_frames)
    matched.require(allow_missing)
    return matched


@collection_paused()
@system_memory()
def locate(scenario: TaskSequence, dataset: StoredDataset, least_frames: int = 1) -> MatchedScenario:
    """Find a scenario's instances in a data set, and list those that it lacks.

    A video is found by its key, by its path in the source with or without suffix, or by the last part of that path
    without suffix. Where two files share that part, the file with the instance's class counts. Seconds become frames as
    in `vclimb prepare`: the start is rounded down, the end up, and the end is cut at the video's end (the released code
    rounds both to the nearest frame). Instances of fewer than `least_frames` frames are left out.

    Raises:
        ScenarioError: Two stored videos may be the same video of the scenario.
    """
    finder = Finder(dataset)
    parts = [(number, split) for number in range(len(scenario)) for split in SPLITS]
    n_listed = [len(scenario.tasks[number].split(split)) for number, split in parts]
    instances = ScenarioInstances.joined([scenario.tasks[number].split(split) for number, split in parts])
    rows = finder.rows(instances)
    starts, ends, doubtful = frames_of_all(instances, rows, dataset.videos)
    doubtful |= ends - starts < least_frames
    begins = np.cumsum([0, *n_listed])
    left_out: list[LeftOut] = []
    is_there = np.ones(len(instances), np.bool_)
    places = np.flatnonzero(doubtful)
    for place, instance in zip(places.tolist(), instances.take(places), strict=True):
        row = int(rows[place])
        problem, reason, (start, end) = finder.frames(instance, None if row < 0 else dataset.videos[row])
        starts[place], ends[place] = start, end
        if not problem and end - start < least_frames:
            problem, reason = "short", f"{instance.video!r} has {end - start} frames of {least_frames}"
        if problem:
            number, split = parts[int(np.searchsorted(begins, place, "right")) - 1]
            left_out.append(LeftOut(number, split, instance, problem, reason))
            is_there[place] = False
    there = np.flatnonzero(is_there)
    stored = StoredInstances.made(
        dataset.videos,
        rows[there],
        instances.columns.column("label").take(pa.array(there)),
        _repeated([split for _, split in parts], n_listed).take(pa.array(there)),
        starts[there],
        ends[there],
    )
    cuts = np.searchsorted(there, begins).tolist()
    matched = [stored[start:stop] for start, stop in pairwise(cuts)]
    known = instances.with_groups(dataset.videos.groups_where_known(rows))
    given = [known[start:stop] for start, stop in pairwise(begins.tolist())]
    n = len(SPLITS)
    tasks = tuple(
        MatchedTask(task.classes, *matched[n * number : n * (number + 1)]) for number, task in enumerate(scenario)
    )
    named = tuple(Task(task.classes, *given[n * number : n * (number + 1)]) for number, task in enumerate(scenario))
    return MatchedScenario(replace(scenario, tasks=named), tasks, tuple(left_out))


def _repeated(texts: Sequence[str], counts: Sequence[int]) -> pa.DictionaryArray:
    """Each text as often as its count says."""
    different = sorted(set(texts))
    codes = np.repeat(np.array([different.index(text) for text in texts], np.int8), counts)
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(different, pa.string()))


def _lines(instances: StoredInstances, split: str, videos: StoredVideos) -> Iterator[str]:
    """A line for each instance: its split, itself as `repr` shows it, and the SHA-256 of its video."""
    keys = instances.keys()
    digests = videos.columns.column("sha256").take(pa.array(videos.rows_of(keys)))
    columns = (instances.columns.column(name) for name in ("label", "start_frame", "end_frame"))
    for key, digest, label, start, end in zip(*map(values_of, (keys, digests, *columns)), strict=True):
        yield (
            f"{split} StoredInstance(key={key!r}, label={label!r}, split={split!r}, start_frame={start}, "
            f"end_frame={end}, start_seconds=None, end_seconds=None) {digest.hex()}\n"
        )


def describe_left_out(left_out: Iterable[LeftOut]) -> str:
    """Word the count and the first videos of each problem."""
    by_problem: dict[str, list[LeftOut]] = {}
    for lost in left_out:
        by_problem.setdefault(lost.problem, []).append(lost)
    texts = []
    for problem, wording in PROBLEMS.items():
        if losses := by_problem.get(problem):
            names = [*dict.fromkeys(lost.instance.video for lost in losses)]
            shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
            texts.append(f"{len(losses):,} {wording} ({shown})")
    return "; ".join(texts) or "nothing"
