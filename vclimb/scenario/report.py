"""What there is to know of a scenario before it is run: counts, leakage, and what a data set lacks of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.sources.splits import SPLITS
from vclimb.scenario.leakage import Leakage, LeakageShare, leakage
from vclimb.scenario.matching import MatchedScenario, locate
from vclimb.scenario.scenario import Scenario, ScenarioInstance


@dataclass(frozen=True)
class ScenarioReport:
    """Figures of a scenario.

    Attributes:
        scenario: with the groups that the data set knows, if one was given.
        leakage: of `val` and `test`, where they have instances.
        dataset: name of the data set it was looked for in; None: none.
        matched: what was found there.
    """

    scenario: Scenario
    leakage: dict[str, Leakage]
    dataset: str | None = None
    matched: MatchedScenario | None = None

    @classmethod
    def of(cls, scenario: Scenario, dataset: StoredDataset | None = None) -> ScenarioReport:
        """The figures of a scenario, and of what a data set has of it.

        Raises:
            ScenarioError: two videos of the data set could be the one that is meant.
        """
        matched = None if dataset is None else locate(scenario, dataset)
        scenario = scenario if matched is None else matched.scenario
        leaks = {split: leakage(scenario, split) for split in SPLITS[1:] if scenario.count(split)}
        return cls(scenario, leaks, None if dataset is None else dataset.name, matched)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; all classes and everything that is left out are listed."""
        scenario = self.scenario
        return {
            "name": scenario.name,
            "origin": scenario.origin,
            "classes": len(scenario.classes),
            "splits": {split: _counts(scenario.instances(split)) for split in SPLITS},
            "leakage": {split: _leakage(found) for split, found in self.leakage.items()},
            "tasks": [
                {
                    "classes": list(task.classes),
                    "splits": {split: _counts(task.split(split)) for split in SPLITS},
                    "leakage": {split: _share(found.tasks[number]) for split, found in self.leakage.items()},
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
                {
                    "task": one.task,
                    "split": one.split,
                    "video": one.instance.video,
                    "class": one.instance.label,
                    "problem": one.problem,
                    "reason": one.reason,
                }
                for one in matched.left_out
            ],
        }


def n_videos(instances: Iterable[ScenarioInstance]) -> int:
    """Different videos that instances lie in."""
    return len({instance.video for instance in instances})


def _counts(instances: Iterable[ScenarioInstance]) -> dict[str, int]:
    listed = list(instances)
    return {"instances": len(listed), "videos": n_videos(listed)}


def _leakage(found: Leakage) -> dict[str, Any]:
    return {**_share(found.overall), "clips_of_unknown_group": found.unknown}


def _share(found: LeakageShare) -> dict[str, Any]:
    return {"clips": found.clips, "leaked": found.leaked, "share": found.share}
