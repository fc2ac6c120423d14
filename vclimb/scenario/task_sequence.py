"""A class-incremental scenario as a value: tasks of disjoint classes, with their instances.

Class-incremental means that no task id is given at test time (van de Ven et al., "Three types of incremental learning",
Nature Machine Intelligence 2022). A scenario names videos but not their places: `matching` finds them in a prepared
data set, so that one scenario runs on any copy of the videos.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vclimb.pipeline.sources.splits import SPLITS
from vclimb.scenario.instance import ScenarioError, ScenarioInstance, brief, require_text
from vclimb.scenario.instances import ScenarioInstances

_SHOWN = 60
_MOST_NAME_BYTES = 2**30


@dataclass(frozen=True)
class Task:
    """Classes that arrive together.

    Attributes:
        classes: Names of the classes, in the order of their label ids.
        train: Training instances; each class has some. They are held as columns, and made as they are asked for.
        val: Validation instances; may be empty.
        test: Test instances; may be empty.

    Raises:
        ScenarioError: There are no classes, a class has no training instance, or an instance is of another class.
    """

    classes: tuple[str, ...]
    train: Sequence[ScenarioInstance]
    val: Sequence[ScenarioInstance] = ()
    test: Sequence[ScenarioInstance] = ()

    def __post_init__(self) -> None:
        if not self.classes:
            raise ScenarioError("a task has no classes; allowed: 1 or more")
        for name in self.classes:
            require_text(name, "a class name")
        known = set(self.classes)
        for split in SPLITS:
            instances = ScenarioInstances.of(getattr(self, split))
            object.__setattr__(self, split, instances)
            if strange := instances.labels() - known:
                instance = next(one for one in instances if one.label in strange)
                raise ScenarioError(
                    f"{split} instance {brief(instance.video)} is of class {brief(instance.label)}, none of its "
                    f"task's {len(known)} classes ({_some(self.classes)})"
                )
        trained = self.split("train").labels()
        if without := [name for name in self.classes if name not in trained]:
            raise ScenarioError(
                f"class {brief(without[0])} has no training instance ({len(without)} of {len(known)} classes of its "
                "task have none); give it some, or leave the class out"
            )

    def split(self, name: str) -> ScenarioInstances:
        """Instances of `train`, `val` or `test`."""
        return ScenarioInstances.of({"train": self.train, "val": self.val, "test": self.test}[name])


@dataclass(frozen=True)
class TaskSequence:
    """A sequence of tasks. The label id of a class is its place in the order of first appearance.

    Attributes:
        name: Name of the scenario.
        tasks: Tasks in the order in which they arrive.
        origin: Description of how the scenario was made; empty if unknown.

    Raises:
        ScenarioError: There are no tasks, or a class is in two tasks.
    """

    name: str
    tasks: tuple[Task, ...]
    origin: str = ""

    def __post_init__(self) -> None:
        require_text(self.name, "a scenario's name")
        if not self.tasks:
            raise ScenarioError(f"scenario {brief(self.name)} has no tasks; allowed: 1 or more")
        n_bytes = sum(task.split(split).n_name_bytes for task in self.tasks for split in SPLITS)
        if n_bytes > _MOST_NAME_BYTES:
            raise ScenarioError(
                f"scenario {brief(self.name)} has names of {n_bytes:,} bytes; allowed: up to {_MOST_NAME_BYTES:,}"
            )
        if twice := [name for name, count in Counter(self.classes).items() if count > 1]:
            places = tuple(str(number) for number, task in enumerate(self.tasks, 1) if twice[0] in task.classes)
            raise ScenarioError(
                f"class {brief(twice[0])} is listed twice (task {_some(places)}); the classes of tasks must be disjoint"
            )

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks)

    def __len__(self) -> int:
        """Number of tasks."""
        return len(self.tasks)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of all classes, in the order of their label ids."""
        return tuple(name for task in self.tasks for name in task.classes)

    @property
    def label_ids(self) -> dict[str, int]:
        """Class name -> label id."""
        return {name: number for number, name in enumerate(self.classes)}

    @property
    def evaluation_split(self) -> str:
        """Split that accuracies are reported on: `test`, or `val` where there is no test split (ActivityNet).

        Raises:
            ScenarioError: There are neither test nor validation instances.
        """
        for split in ("test", "val"):
            if self.count(split):
                return split
        raise ScenarioError(f"scenario {brief(self.name)} has neither test nor val instances; one of them is needed")

    def count(self, split: str) -> int:
        """Count the instances of a split over all tasks."""
        return sum(len(task.split(split)) for task in self.tasks)

    def instances(self, split: str) -> Iterator[ScenarioInstance]:
        """Iterate over the instances of a split, task after task."""
        return (instance for task in self.tasks for instance in task.split(split))


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(name[:_SHOWN] for name in names[:3]) + (", ..." if len(names) > 3 else "")
