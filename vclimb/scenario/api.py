"""Public class of scenarios.

scenario = vclimb.Scenario.from_dataset("shards/ucf101", tasks=10)
for task in scenario:
    print(task.classes, len(task.train), len(task.test))
scenario.save("ucf101-10.json")
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.scenario.files import read_scenario, write_scenario
from vclimb.scenario.from_dataset import TEST_SHARE, TaskPlan, tasks_of_dataset
from vclimb.scenario.instance import ScenarioError
from vclimb.scenario.leakage import Leakage, measure_leakage
from vclimb.scenario.report import ScenarioReport
from vclimb.scenario.task_sequence import TaskSequence


class Scenario(TaskSequence):
    """A class-incremental scenario: a sequence of tasks with disjoint classes.

    Iterate over a scenario for its tasks. Each `Task` has `classes`, and the instances `train`, `val` and `test`.
    """

    @classmethod
    def open(cls, path: str | Path, *, untrimmed: bool = False) -> Self:
        """Read a scenario: JSON, or a task file (pickle) of the benchmark.

        Args:
            path: Path of the file.
            untrimmed: Whether to take whole videos, where a task file lists segments.

        Raises:
            ScenarioError: The file can't be read, is of another kind, or is malformed.
        """
        return cls._of(read_scenario(path, untrimmed))

    @classmethod
    def from_dataset(
        cls,
        data: str | Path | StoredDataset,
        *,
        tasks: int | None = None,
        base: int | None = None,
        step: int | None = None,
        seed: int = 0,
        split: str = "own",
        test_share: float | None = None,
        name: str | None = None,
    ) -> Self:
        """Deal all classes of a data set out to tasks. Equal arguments always give an equal scenario.

        Args:
            data: Prepared data set: a path, a URL, or an open data set.
            tasks: Number of tasks, of equal numbers of classes; the first task also takes the classes that remain.
            base: Number of classes in the first task, in place of `tasks`; the other tasks have `step`.
            step: Number of classes in each task after the first.
            seed: Seed of the order of classes, and of a group split.
            split: `own`: the data set's training and test videos. `group`: a new split that keeps videos of one source
                together.
            test_share: Share of test videos in a group split, above 0 and below 1; None: 0.3.
            name: Name of the scenario; None: one that names the data set and the tasks.

        Raises:
            ScenarioError: The tasks don't fit the classes, the data set has no such split, or `test_share` is given
                without a group split.
            DatasetError: The data set can't be read.
        """
        if test_share is not None and split != "group":
            raise ScenarioError(f"test share {test_share:g} needs split group; the data set's own splits are fixed")
        plan = TaskPlan(tasks, base, step, seed)
        share = TEST_SHARE if test_share is None else test_share
        return cls._of(tasks_of_dataset(_open(data), plan, split, share, name))

    @classmethod
    def _of(cls, sequence: TaskSequence) -> Self:
        return cls(sequence.name, sequence.tasks, sequence.origin)

    def save(self, path: str | Path) -> None:
        """Write the scenario as JSON, at once or not at all. A scenario that is there already is replaced.

        Raises:
            TargetError: The file can't be written, or another kind of file is there.
        """
        write_scenario(self, path)

    def leakage(self, split: str | None = None) -> Leakage:
        """Count the evaluation clips that share their source, such as a recording, with a training clip.

        Args:
            split: `val` or `test`; None: the split that accuracies are reported on.

        Raises:
            ScenarioError: The scenario has neither test nor validation instances.
        """
        return measure_leakage(self, split or self.evaluation_split)

    def report(self, data: str | Path | StoredDataset | None = None) -> ScenarioReport:
        """Count the scenario's instances and leakage, and what a data set lacks.

        Args:
            data: Prepared data set to look for the videos in: a path, a URL, or an open data set.

        Raises:
            ScenarioError: Two videos of the data set may be the same video of the scenario.
            DatasetError: The data set can't be read.
        """
        return ScenarioReport.of(self, None if data is None else _open(data))


def _open(data: str | Path | StoredDataset) -> StoredDataset:
    return data if isinstance(data, StoredDataset) else StoredDataset.open(data)
