"""Scenarios of a prepared data set: the order of classes, and the split of each instance."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np
import pyarrow as pa

from vclimb.pipeline.dataset.arrow_memory import system_memory
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.sources.splits import SPLITS
from vclimb.pipeline.system.garbage import collection_paused
from vclimb.scenario.group_split import split_by_group
from vclimb.scenario.instance import ScenarioError, ScenarioInstance
from vclimb.scenario.instances import IN_SECONDS, WHOLE_VIDEO, ScenarioInstances
from vclimb.scenario.task_sequence import Task, TaskSequence

SPLIT_MODES = ("own", "group")
TEST_SHARE = 0.3

Splits = Mapping[str, Iterable[ScenarioInstance]]


@dataclass(frozen=True)
class TaskPlan:
    """Numbers of classes in the tasks: equal ones, or many in the first task and then equal increments.

    Attributes are as in `Scenario.from_dataset`.

    Raises:
        ScenarioError: Neither or both of `tasks` and `base` are given, or a value is out of range.
    """

    tasks: int | None = None
    base: int | None = None
    step: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.base is None) != (self.step is None):
            given, lacking = ("base", "step") if self.step is None else ("step", "base")
            raise ScenarioError(f"{given} {getattr(self, given)} needs a {lacking} too: a base of classes, then steps")
        if (self.tasks is None) == (self.base is None):
            raise ScenarioError("give either the number of tasks, or a base and a step (not both)")
        for name, value in (("tasks", self.tasks), ("base", self.base), ("step", self.step)):
            if value is not None and value < 1:
                raise ScenarioError(f"{name} {value} is out of range; allowed: 1 or more")

    def sizes(self, n_classes: int) -> list[int]:
        """Number of classes in each task.

        Of equal tasks, the first also takes the remainder, as in the benchmark (101 classes in 10 tasks: 11, then 10
        each). Base and step are as in TCD (Park et al., ICCV 2021, arXiv 2203.13611): half the classes, then 10, 5 or 2
        at a time.

        Raises:
            ScenarioError: There are too few classes, or base and steps don't add up to their number.
        """
        if self.tasks is not None:
            each, rest = divmod(n_classes, self.tasks)
            if not each:
                raise ScenarioError(
                    f"{self.tasks} tasks are more than the {n_classes} classes; allowed: 1 to {n_classes}"
                )
            return [each + rest, *[each] * (self.tasks - 1)]
        assert self.base is not None
        assert self.step is not None
        steps, rest = divmod(n_classes - self.base, self.step)
        if self.base > n_classes or rest:
            near = sorted(range((n_classes - 1) % self.step + 1, n_classes + 1, self.step), key=self._distance)[:2]
            raise ScenarioError(
                f"a base of {self.base} classes and steps of {self.step} don't add up to {n_classes} classes; a base "
                f"that does: {' or '.join(map(str, sorted(near)))}"
            )
        return [self.base, *[self.step] * steps]

    def _distance(self, base: int) -> tuple[int, int]:
        assert self.base is not None
        return abs(base - self.base), base


def class_order(classes: Collection[str], seed: int) -> list[str]:
    """Order classes by the seed and their names alone, equally on any machine.

    Each class is placed by its hash, so that a further class leaves the order of the others as it is.
    """
    return sorted(set(classes), key=lambda name: (hashlib.sha256(f"{seed}/{name}".encode()).digest(), name))


def deal_classes(name: str, splits: Splits, plan: TaskPlan, origin: str = "") -> TaskSequence:
    """Deal the classes of instances out to tasks, which keep the order of the instances.

    Raises:
        ScenarioError: The plan doesn't fit the classes, or a class has no training instance.
    """
    parts = {split: ScenarioInstances.of(splits.get(split, ())) for split in SPLITS}
    ordered = class_order(set().union(*(part.labels() for part in parts.values())), plan.seed)
    if not ordered:
        raise ScenarioError(f"{name!r} has no labelled instances: there is nothing to make a scenario of")
    names = iter(ordered)
    classes = [tuple(islice(names, size)) for size in plan.sizes(len(ordered))]
    dealt = [_dealt(parts[split], classes) for split in SPLITS]
    tasks = tuple(Task(*task) for task in zip(classes, *dealt, strict=True))
    return TaskSequence(name, tasks, origin)


def _dealt(instances: ScenarioInstances, classes: Sequence[tuple[str, ...]]) -> list[ScenarioInstances]:
    """The instances of each task's classes, in their order."""
    tasks = {name: number for number, names in enumerate(classes) for name in names}
    codes, labels = instances.codes("label")
    # Every class that has instances is in a task. Numbers of 16 bits are sorted in linear time.
    numbers = np.array([tasks.get(label, 0) for label in labels], np.min_scalar_type(len(classes)))[codes]
    order = np.argsort(numbers, kind="stable")
    ends = np.cumsum(np.bincount(numbers, minlength=len(classes))).tolist()
    in_order = instances.take(order)
    return [in_order[start:end] for start, end in pairwise([0, *ends])]


@collection_paused()
@system_memory()
def tasks_of_dataset(
    dataset: StoredDataset, plan: TaskPlan, split: str = "own", test_share: float = TEST_SHARE, name: str | None = None
) -> TaskSequence:
    """Deal all classes of a data set out to tasks, as `Scenario.from_dataset` describes."""
    if split not in SPLIT_MODES:
        raise ScenarioError(f"split {split!r} is not known; allowed: {', '.join(SPLIT_MODES)}")
    splits = stored_splits(dataset) if split == "own" else group_splits(dataset, test_share, plan.seed)
    how = f"{plan.tasks} tasks" if plan.tasks is not None else f"base of {plan.base}, then {plan.step} at a time"
    source = "its own splits" if split == "own" else f"a source-disjoint split, {test_share:g} of each class for test"
    short = f"{plan.tasks}tasks" if plan.tasks is not None else f"base{plan.base}_step{plan.step}"
    default = f"{dataset.name}_{short}_seed{plan.seed}" + ("" if split == "own" else "_group")
    origin = f"made from data set {dataset.name}: {how}, classes by seed {plan.seed}, {source}"
    return deal_classes(name or default, splits, plan, origin)


def stored_splits(dataset: StoredDataset) -> dict[str, ScenarioInstances]:
    """Collect the instances of a data set by its own splits, without the instances that have none.

    Raises:
        ScenarioError: There are no training instances, or neither test nor validation instances.
    """
    instances = _labelled(dataset)
    splits = {split: instances.take(dataset.instances.rows_in_split(split)) for split in SPLITS}
    if not splits["train"] or not (splits["test"] or splits["val"]):
        counts = [f"{len(instances):,} {split}" for split, instances in splits.items() if instances]
        raise ScenarioError(
            f"data set {dataset.name} has no train and test split of its own ({len(dataset.instances):,} instances; "
            f"{', '.join(counts) or 'none with a split'}); --split group makes one where groups are known"
        )
    return splits


def group_splits(dataset: StoredDataset, test_share: float, seed: int) -> dict[str, ScenarioInstances]:
    """Split all instances of a data set into train and test, so that no group is in both.

    Raises:
        ScenarioError: A video's group isn't known, the share is out of range, or a class can't be split.
    """
    instances = _labelled(dataset)
    if len(unknown := np.flatnonzero(instances.columns.column("group").is_null().to_numpy(zero_copy_only=False))):
        raise ScenarioError(
            f"{len(unknown):,} of {len(instances):,} instances of data set {dataset.name} have no known group (video "
            f"{instances[int(unknown[0])].video!r}); a source-disjoint split needs the group of each video: prepare "
            "from a layout that knows them, or from a table with a column 'group'"
        )
    train, test = split_by_group(instances, test_share, seed)
    return {"train": train, "test": test}


def _labelled(dataset: StoredDataset) -> ScenarioInstances:
    """The instances of a data set. Segments are in seconds of the source, which hold at any frame rate."""
    stored = dataset.instances
    starts, ends = (
        stored.columns.column(name).fill_null(math.nan).to_numpy(zero_copy_only=False)
        for name in ("start_seconds", "end_seconds")
    )
    kinds = np.where(np.isnan(starts) & np.isnan(ends), WHOLE_VIDEO, IN_SECONDS).astype(np.int8)
    labels, groups = stored.columns.column("label"), dataset.videos.groups_where_known(stored.numbers("video"))
    columns = stored.keys(), _wide(labels), groups, kinds, starts, ends, np.zeros(len(stored), np.int8)
    instances = ScenarioInstances.of_columns(*columns)
    if not instances.are_sound():
        for _ in instances:  # raises a ScenarioError where one is not
            pass
    return instances


def _wide(labels: pa.DictionaryArray) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(labels.indices.cast(pa.int32()), labels.dictionary)
