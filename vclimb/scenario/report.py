"""Figures of a scenario before it is run: counts, leakage, and what a data set lacks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from vclimb.pipeline.dataset.arrow_memory import system_memory
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.dataset.text_hashes import count_distinct
from vclimb.pipeline.sources.splits import SPLITS
from vclimb.scenario.instances import ScenarioInstances
from vclimb.scenario.leakage import Leakage, LeakageShare, measure_leakage
from vclimb.scenario.matching import MatchedScenario, locate
from vclimb.scenario.task_sequence import TaskSequence


@dataclass(frozen=True)
class InstanceCounts:
    """Size of a split: its instances, and the different videos that they lie in."""

    instances: int
    videos: int

    @classmethod
    def of(cls, *parts: ScenarioInstances) -> InstanceCounts:
        """Count the instances of one or more parts, and their videos."""
        videos = pa.concat_arrays([part.columns.column("video") for part in parts])
        return cls(len(videos), count_distinct(videos))


@dataclass(frozen=True)
class ScenarioReport:
    """Figures of a scenario.

    Attributes:
        scenario: Scenario, with the groups that the data set knows if one was given.
        splits: Sizes of `train`, `val` and `test`.
        leakage: Leakage of `val` and `test`, where they have instances.
        dataset: Name of the data set; None where none was given.
        matched: Stored instances of the scenario; None where no data set was given.
    """

    scenario: TaskSequence
    splits: dict[str, InstanceCounts]
    leakage: dict[str, Leakage]
    dataset: str | None = None
    matched: MatchedScenario | None = None

    @classmethod
    @system_memory()
    def of(cls, scenario: TaskSequence, dataset: StoredDataset | None = None) -> ScenarioReport:
        """Count a scenario, and find its instances in a data set.

        Raises:
            ScenarioError: Two videos of the data set may be the same video of the scenario.
        """
        matched = None if dataset is None else locate(scenario, dataset)
        scenario = scenario if matched is None else matched.scenario
        counts = {split: InstanceCounts.of(*(task.split(split) for task in scenario)) for split in SPLITS}
        leakage = {split: measure_leakage(scenario, split) for split in SPLITS[1:] if counts[split].instances}
        return cls(scenario, counts, leakage, None if dataset is None else dataset.name, matched)

    @system_memory()
    def to_json(self) -> dict[str, Any]:
        """Convert to plain values, with all classes and all instances that the data set lacks."""
        scenario = self.scenario
        return {
            "name": scenario.name,
            "origin": scenario.origin,
            "classes": len(scenario.classes),
            "splits": {split: asdict(counts) for split, counts in self.splits.items()},
            "leakage": {
                split: {**_share(leakage.overall), "clips_of_unknown_group": leakage.unknown}
                for split, leakage in self.leakage.items()
            },
            "tasks": [
                {
                    "classes": list(task.classes),
                    "splits": {split: asdict(InstanceCounts.of(task.split(split))) for split in SPLITS},
                    "leakage": {split: _share(leakage.tasks[number]) for split, leakage in self.leakage.items()},
                }
                for number, task in enumerate(scenario)
            ],
            "data": None if self.matched is None else self._data(self.matched),
        }

    def _data(self, matched: MatchedScenario) -> dict[str, Any]:
        return {
            "dataset": self.dataset,
            "splits": {split: sum(len(task.split(split)) for task in matched.tasks) for split in SPLITS},
            "tasks": [{split: len(task.split(split)) for split in SPLITS} for task in matched.tasks],
            "problems": matched.counts(),
            "left_out": [
                {"task": lost.task, "split": lost.split, "video": lost.instance.video, "class": lost.instance.label}
                | {"problem": lost.problem, "reason": lost.reason}
                for lost in matched.left_out
            ],
        }


def _share(share: LeakageShare) -> dict[str, Any]:
    return {"clips": share.clips, "leaked": share.leaked, "share": share.share}
