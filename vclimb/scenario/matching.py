"""A scenario on a prepared data set: the stored video and the frames of each instance."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from vclimb.pipeline.dataset.dataset import StoredDataset, StoredInstance, StoredVideo
from vclimb.pipeline.sources.keys import make_key
from vclimb.pipeline.sources.splits import SPLITS
from vclimb.scenario.task_sequence import Frames, ScenarioError, ScenarioInstance, Seconds, Task, TaskSequence

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
    train: tuple[StoredInstance, ...]
    val: tuple[StoredInstance, ...]
    test: tuple[StoredInstance, ...]

    def split(self, name: str) -> tuple[StoredInstance, ...]:
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
                for instance in task.split(split):
                    digest.update(f"{split} {instance!r} {dataset.by_key[instance.key].sha256}\n".encode())
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
            trained = {instance.label for instance in task.train}
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


def locate(scenario: TaskSequence, dataset: StoredDataset, least_frames: int = 1) -> MatchedScenario:
    """Find a scenario's instances in a data set, and list those that it lacks.

    A video is found by its key, by its path in the source with or without suffix, or by the last part of that path
    without suffix. Where two files share that part, the file with the instance's class counts. Seconds become frames as
    in `vclimb prepare`: the start is rounded down, the end up, and the end is cut at the video's end (the released code
    rounds both to the nearest frame). Instances of fewer than `least_frames` frames are left out.

    Raises:
        ScenarioError: Two stored videos may be the same video of the scenario.
    """
    finder = _Finder(dataset)
    left_out: list[LeftOut] = []
    tasks, matched = [], []
    for number, task in enumerate(scenario):
        given: dict[str, tuple[ScenarioInstance, ...]] = {}
        stored: dict[str, tuple[StoredInstance, ...]] = {}
        for split in SPLITS:
            known, matches = [], []
            for instance in task.split(split):
                video = finder.find(instance)
                group = instance.group if video is None or instance.group is not None else video.group
                known.append(instance if group == instance.group else replace(instance, group=group))
                problem, reason, (start, end) = finder.frames(instance, video)
                if not problem and end - start < least_frames:
                    problem, reason = "short", f"{instance.video!r} has {end - start} frames of {least_frames}"
                if problem:
                    left_out.append(LeftOut(number, split, instance, problem, reason))
                elif video is not None:
                    matches.append(StoredInstance(video.key, instance.label, split, start, end))
            given[split], stored[split] = tuple(known), tuple(matches)
        tasks.append(Task(task.classes, **given))
        matched.append(MatchedTask(task.classes, **stored))
    return MatchedScenario(replace(scenario, tasks=tuple(tasks)), tuple(matched), tuple(left_out))


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


class _Finder:
    """Stored and failed videos of a data set by all their names."""

    def __init__(self, dataset: StoredDataset) -> None:
        self._name = dataset.name
        self._by_key = dataset.by_key
        self._by_path: dict[str, list[StoredVideo]] = {}
        self._by_stem: dict[str, list[StoredVideo]] = {}
        for video in dataset.videos:
            for path in dict.fromkeys((video.source, os.path.splitext(video.source)[0])):
                self._by_path.setdefault(path, []).append(video)
            for stem in dict.fromkeys((_stem(video.source), _last(video.source))):
                self._by_stem.setdefault(stem, []).append(video)
        self._broken: dict[str, str] = {}
        for error in dataset.catalog.errors:
            if error.stage == "label":  # the video is stored, and only a segment of it failed
                continue
            path = error.path
            for name in (path, os.path.splitext(path)[0], _last(path), _stem(path)):
                self._broken.setdefault(name, f"{error.stage}: {error.reason}")

    def find(self, instance: ScenarioInstance) -> StoredVideo | None:
        """Find the stored video of an instance; None if there is none."""
        name = instance.video
        if exact := self._by_key.get(name) or self._by_key.get(make_key(name)):
            return exact
        candidates = self._by_path.get(name) or self._by_stem.get(name) or []
        if len(candidates) > 1:
            candidates = [video for video in candidates if instance.label in video.labels] or candidates
        if len(candidates) > 1:
            raise ScenarioError(
                f"video {name!r} of class {instance.label!r} may be {candidates[0].source!r} or "
                f"{candidates[1].source!r} of data set {self._name}; name it in the scenario by its key, "
                f"{candidates[0].key!r} or {candidates[1].key!r}"
            )
        return candidates[0] if candidates else None

    def frames(self, instance: ScenarioInstance, video: StoredVideo | None) -> tuple[str, str, tuple[int, int]]:
        """Return the problem (empty: none), the reason, and the frames [start, end)."""
        span = instance.span
        if isinstance(span, Seconds) and span.is_empty:
            return "empty", f"{span} of {instance.video!r} holds nothing", (0, 0)
        if video is None:
            if reason := self._broken.get(instance.video):
                return "broken", reason, (0, 0)
            return "missing", f"no video {instance.video!r} is in data set {self._name}", (0, 0)
        start, end = 0, video.n_frames
        if isinstance(span, Frames):
            start, end = span.start, span.end
        elif span is not None:
            start, end = video.frame_times.between(span.start, span.end)
        if start >= end or (isinstance(span, Frames) and span.end > video.n_frames):
            reason = f"{span} of {video.key!r} lies outside its {video.n_frames} stored frames ({video.seconds:.3f} s)"
            return "outside", reason, (0, 0)
        return "", "", (start, end)


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _stem(path: str) -> str:
    return os.path.splitext(_last(path))[0]
