"""Scenarios made from a prepared data set: which classes come when, and which split each instance is in."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.sources.splits import SPLITS
from vclimb.scenario.group_split import split_by_group
from vclimb.scenario.scenario import Scenario, ScenarioError, ScenarioInstance, Seconds, Task

SPLIT_MODES = ("own", "group")
TEST_SHARE = 0.3

Splits = Mapping[str, Sequence[ScenarioInstance]]


@dataclass(frozen=True)
class TaskPlan:
    """How classes are dealt out to tasks: evenly, or a base of many classes and then equal increments.

    Attributes:
        tasks: number of tasks, or None where a base is given.
        base: classes of the first task.
        step: classes of each task after it.
        seed: of the order of classes.

    Raises:
        ScenarioError: neither or both ways are given, or a value is out of range.
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
        """How many classes each task has.

        Even tasks: the first takes what remains, as in the benchmark (101 classes in 10 tasks: 11, then 10 each).
        Base and step as in TCD (Park et al., ICCV 2021, arXiv 2203.13611): half the classes, then 10, 5 or 2 at a time.

        Raises:
            ScenarioError: there are too few classes, or a base and steps don't add up to them.
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
    """Classes in an order that is a pure function of the seed and their names, on any machine.

    Each class is placed by a hash of its own: one class more leaves the others in the same order.
    """
    return sorted(set(classes), key=lambda name: (hashlib.sha256(f"{seed}/{name}".encode()).digest(), name))


def make_scenario(name: str, splits: Splits, plan: TaskPlan, origin: str = "") -> Scenario:
    """Deal the classes of instances out to tasks.

    Args:
        splits: `train`, and `val` or `test` or both -> instances. Each task keeps their order.

    Raises:
        ScenarioError: the plan doesn't fit the classes, or a class has no training instance.
    """
    ordered = class_order({one.label for split in SPLITS for one in splits.get(split, ())}, plan.seed)
    if not ordered:
        raise ScenarioError(f"{name!r} has no labelled instances: there is nothing to make a scenario of")
    task_of: dict[str, int] = {}
    classes: list[tuple[str, ...]] = []
    for number, size in enumerate(plan.sizes(len(ordered))):
        classes.append(tuple(ordered[len(task_of) : len(task_of) + size]))
        task_of |= dict.fromkeys(classes[-1], number)
    dealt: dict[str, list[list[ScenarioInstance]]] = {split: [[] for _ in classes] for split in SPLITS}
    for split in SPLITS:
        for one in splits.get(split, ()):
            dealt[split][task_of[one.label]].append(one)
    tasks = tuple(
        Task(of_task, **{split: tuple(dealt[split][number]) for split in SPLITS})
        for number, of_task in enumerate(classes)
    )
    return Scenario(name, tasks, origin)


def scenario_of_dataset(
    dataset: StoredDataset, plan: TaskPlan, split: str = "own", test_share: float = TEST_SHARE, name: str | None = None
) -> Scenario:
    """A scenario over all classes of a data set.

    Args:
        plan: how classes are dealt out.
        split: `own`: the data set's own splits (instances without one are left out); `group`: a new train and test
            split that parts no recording (`group_split`).
        test_share: of a group split, from 0 to 1.
        name: default: one that says what it is.

    Raises:
        ScenarioError: the data set has no such splits, or the plan doesn't fit.
    """
    if split not in SPLIT_MODES:
        raise ScenarioError(f"split {split!r} is not known; allowed: {', '.join(SPLIT_MODES)}")
    splits = own_splits(dataset) if split == "own" else group_splits(dataset, test_share, plan.seed)
    how = f"{plan.tasks} tasks" if plan.tasks is not None else f"base of {plan.base}, then {plan.step} at a time"
    of = "its own splits" if split == "own" else f"a source-disjoint split, {test_share:g} of each class for test"
    short = f"{plan.tasks}tasks" if plan.tasks is not None else f"base{plan.base}_step{plan.step}"
    default = f"{dataset.name}_{short}_seed{plan.seed}" + ("" if split == "own" else "_group")
    origin = f"made from data set {dataset.name}: {how}, classes by seed {plan.seed}, {of}"
    return make_scenario(name or default, splits, plan, origin)


def own_splits(dataset: StoredDataset) -> dict[str, list[ScenarioInstance]]:
    """The instances of a data set by its own splits; those without one are left out.

    Raises:
        ScenarioError: there is nothing to train on, or nothing to evaluate (neither test nor val).
    """
    found: dict[str, list[ScenarioInstance]] = {split: [] for split in SPLITS}
    for one, split in _labelled(dataset):
        if split is not None:
            found[split].append(one)
    if not found["train"] or not (found["test"] or found["val"]):
        there = ", ".join(f"{len(found[split]):,} {split}" for split in SPLITS if found[split]) or "none with a split"
        raise ScenarioError(
            f"data set {dataset.name} has no train and test split of its own ({len(dataset.instances):,} instances; "
            f"{there}); --split group makes one where groups are known"
        )
    return found


def group_splits(dataset: StoredDataset, test_share: float, seed: int) -> dict[str, list[ScenarioInstance]]:
    """A train and test split of all instances of a data set that parts no group, whatever splits it has.

    Raises:
        ScenarioError: a video's group isn't known, the share is out of range, or a class can't be parted.
    """
    instances = [one for one, _ in _labelled(dataset)]
    if unknown := [one.video for one in instances if one.group is None]:
        raise ScenarioError(
            f"{len(unknown):,} of {len(instances):,} instances of data set {dataset.name} have no known group (video "
            f"{unknown[0]!r}); a source-disjoint split needs the group of each video: prepare from a layout that knows "
            "them, or from a table with a column 'group'"
        )
    train, test = split_by_group(instances, test_share, seed)
    return {"train": train, "test": test}


def _labelled(dataset: StoredDataset) -> list[tuple[ScenarioInstance, str | None]]:
    """Each instance as a scenario names it, and its split. Times are the source's, which hold at any frame rate."""
    found = []
    for row in dataset.catalog.instances:
        start, end = row["start_seconds"], row["end_seconds"]
        span = None if start is None and end is None else Seconds(start, end)
        group = dataset.by_key[row["key"]].group
        found.append((ScenarioInstance(row["key"], row["label"], span, group), row["split"]))
    return found
