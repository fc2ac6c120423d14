"""A scenario on a prepared data set: which stored video each instance is, and which frames of it."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction

from vclimb.pipeline.dataset.dataset import StoredDataset, StoredInstance, StoredVideo
from vclimb.pipeline.sources.keys import make_key
from vclimb.pipeline.sources.splits import SPLITS
from vclimb.pipeline.sources.table import Instance
from vclimb.pipeline.transcode.assembly import frame_range
from vclimb.scenario.scenario import Frames, Scenario, ScenarioError, ScenarioInstance, Seconds, Task

PROBLEMS = {
    "missing": "not in the data set",
    "broken": "could not be prepared",
    "outside": "outside the stored video",
    "empty": "empty as listed",
}
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An instance of a scenario that the data set can't give.

    Attributes:
        task: number of its task, from 0.
        split: `train`, `val` or `test`.
        instance: as the scenario has it.
        problem: `missing` (no such video), `broken` (errors.jsonl has it), `outside` (of the stored frames) or `empty`
            (it ends before it starts: a flaw of the scenario, which no preparation mends).
        reason: one sentence.
    """

    task: int
    split: str
    instance: ScenarioInstance
    problem: str
    reason: str


@dataclass(frozen=True)
class MatchedTask:
    """The instances of a task, as an `InstanceProvider` takes them; their labels are the scenario's class names."""

    classes: tuple[str, ...]
    train: tuple[StoredInstance, ...]
    val: tuple[StoredInstance, ...]
    test: tuple[StoredInstance, ...]

    def split(self, name: str) -> tuple[StoredInstance, ...]:
        """The instances of `train`, `val` or `test`."""
        return {"train": self.train, "val": self.val, "test": self.test}[name]


@dataclass(frozen=True)
class MatchedScenario:
    """A scenario and the stored instances of each of its tasks.

    `InstanceProvider(dataset, matched.tasks[0].train, matched.label_ids)` streams the first task.

    Attributes:
        scenario: as it was given, but for groups that only the data set knows.
        tasks: one for each of the scenario's.
        left_out: what the data set can't give.
    """

    scenario: Scenario
    tasks: tuple[MatchedTask, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def label_ids(self) -> dict[str, int]:
        """Class name -> label id."""
        return self.scenario.label_ids

    def digest(self, dataset: StoredDataset) -> str:
        """SHA-256 of what is trained on and tested: classes, instances in their order, their videos' bytes."""
        digest = hashlib.sha256()
        for task in self.tasks:
            digest.update(repr(task.classes).encode())
            for split in SPLITS:
                for one in task.split(split):
                    digest.update(f"{split} {one!r} {dataset.by_key[one.key].sha256}\n".encode())
        return digest.hexdigest()

    def counts(self) -> dict[str, int]:
        """How many instances have each kind of problem; kinds without any are left out."""
        found = Counter(one.problem for one in self.left_out)
        return {problem: found[problem] for problem in PROBLEMS if found[problem]}

    def require(self, allow_missing: bool = False) -> None:
        """Check that training can go on with this.

        Instances that are empty as listed are left out in any case.

        Args:
            allow_missing: train without what the data set can't give.

        Raises:
            ScenarioError: something is missing that isn't allowed to be; a class has nothing left to train on, or a
                task nothing to evaluate.
        """
        lacking = [one for one in self.left_out if one.problem != "empty"]
        name = self.scenario.name
        if lacking and not allow_missing:
            of_all = sum(self.scenario.count(split) for split in SPLITS)
            raise ScenarioError(
                f"{len(lacking):,} of the {of_all:,} instances of scenario {name!r} are not there: "
                f"{summary(lacking)}; prepare these videos, or train without them by --allow-missing"
            )
        evaluation = self.scenario.evaluation_split
        for number, task in enumerate(self.tasks, 1):
            trained = {instance.label for instance in task.train}
            if bare := [label for label in task.classes if label not in trained]:
                raise ScenarioError(
                    f"class {bare[0]!r} of task {number} has no training instance left (so have {len(bare)} of "
                    f"{len(task.classes)}): {summary(self._of(number - 1, 'train', bare[0]))}; prepare its videos, or "
                    "make a scenario without it"
                )
            if not task.split(evaluation):
                raise ScenarioError(
                    f"task {number} of scenario {name!r} has no {evaluation} instance left; prepare its videos, or "
                    "make a scenario without it"
                )

    def _of(self, task: int, split: str, label: str) -> list[LeftOut]:
        return [o for o in self.left_out if (o.task, o.split, o.instance.label) == (task, split, label)]


def match(scenario: Scenario, dataset: StoredDataset, allow_missing: bool = False) -> MatchedScenario:
    """Find a scenario's instances in a data set, to train on them.

    Raises:
        ScenarioError: as `locate` and `MatchedScenario.require` do.
    """
    matched = locate(scenario, dataset)
    matched.require(allow_missing)
    return matched


def locate(scenario: Scenario, dataset: StoredDataset) -> MatchedScenario:
    """Find a scenario's instances in a data set, and say which aren't there.

    A video is known by its key, by its path in the source with or without suffix, or by that path's last part without
    suffix; where two files share that, the one that has the instance's class is meant. Seconds become frames as
    `vclimb prepare` makes them (start rounded down, end up, cut at the video's end; the released code rounds both).

    Raises:
        ScenarioError: two stored videos could be the one that is meant.
    """
    finder = _Finder(dataset)
    left_out: list[LeftOut] = []
    tasks, matched = [], []
    for number, task in enumerate(scenario):
        given: dict[str, tuple[ScenarioInstance, ...]] = {}
        stored: dict[str, tuple[StoredInstance, ...]] = {}
        for split in SPLITS:
            known, found = [], []
            for instance in task.split(split):
                video = finder.find(instance)
                group = instance.group if video is None or instance.group is not None else video.group
                known.append(instance if group == instance.group else replace(instance, group=group))
                problem, reason, (start, end) = finder.frames(instance, video)
                if problem:
                    left_out.append(LeftOut(number, split, instance, problem, reason))
                elif video is not None:
                    found.append(StoredInstance(video.key, instance.label, split, start, end))
            given[split], stored[split] = tuple(known), tuple(found)
        tasks.append(Task(task.classes, **given))
        matched.append(MatchedTask(task.classes, **stored))
    return MatchedScenario(replace(scenario, tasks=tuple(tasks)), tuple(matched), tuple(left_out))


def summary(left_out: Iterable[LeftOut]) -> str:
    """Counts and the first names of each kind of problem."""
    of_kind: dict[str, list[LeftOut]] = {}
    for one in left_out:
        of_kind.setdefault(one.problem, []).append(one)
    texts = []
    for problem, wording in PROBLEMS.items():
        if some := of_kind.get(problem):
            names = [*dict.fromkeys(one.instance.video for one in some)]
            shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
            texts.append(f"{len(some):,} {wording} ({shown})")
    return "; ".join(texts) or "nothing"


class _Finder:
    """A data set's videos, and those that it could not take in, by every name they may go by."""

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
        for row in dataset.catalog.errors:
            if row["stage"] == "label":  # the video is stored; one of its segments isn't
                continue
            path = str(row["path"])
            for name in (path, os.path.splitext(path)[0], _last(path), _stem(path)):
                self._broken.setdefault(name, f"{row['stage']}: {row['reason']}")

    def find(self, instance: ScenarioInstance) -> StoredVideo | None:
        """The stored video that an instance is of; None if it isn't there."""
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
        """Problem (empty: none), its reason, and the frames [start, end)."""
        span = instance.span
        if isinstance(span, Seconds) and span.is_empty:
            return "empty", f"{span} of {instance.video!r} holds nothing", (0, 0)
        if video is None:
            if reason := self._broken.get(instance.video):
                return "broken", reason, (0, 0)
            return "missing", f"no video {instance.video!r} is in data set {self._name}", (0, 0)
        start, end = _frame_range(span, video.fps_fraction, video.n_frames)
        if start >= end or (isinstance(span, Frames) and span.end > video.n_frames):
            reason = f"{span} of {video.key!r} lies outside its {video.n_frames} stored frames ({video.seconds:.3f} s)"
            return "outside", reason, (0, 0)
        return "", "", (start, end)


def _frame_range(span: Seconds | Frames | None, fps: Fraction, n_frames: int) -> tuple[int, int]:
    if span is None:
        return 0, n_frames
    if isinstance(span, Frames):
        return span.start, span.end
    return frame_range(Instance("", None, span.start, span.end), fps, n_frames)


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _stem(path: str) -> str:
    return os.path.splitext(_last(path))[0]
