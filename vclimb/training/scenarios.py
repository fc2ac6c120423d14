"""Scenarios of runs, from their settings."""

from __future__ import annotations

from dataclasses import replace

from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.errors import SettingsError
from vclimb.scenario import MatchedScenario, Scenario, match
from vclimb.training.config import ScenarioConfig


class MatchedScenarios:
    """Scenarios on one data set, each read and matched once: a study plans thousands of runs on a few of them."""

    def __init__(self, dataset: StoredDataset) -> None:
        self.dataset = dataset
        self._matched: dict[tuple[ScenarioConfig, int], MatchedScenario] = {}

    def get(self, config: ScenarioConfig, least_frames: int = 1) -> MatchedScenario:
        """Find the scenario of some settings in the data set; errors are those of `find_scenario` and `match`."""
        key = (config, least_frames)
        if key not in self._matched:
            scenario = find_scenario(config, self.dataset)
            self._matched[key] = match(scenario, self.dataset, config.allow_missing, least_frames)
        return self._matched[key]


def find_scenario(config: ScenarioConfig, dataset: StoredDataset) -> Scenario:
    """Read or make the scenario of a run's settings; errors are ScenarioErrors and SettingsErrors."""
    scenario = _whole_scenario(config, dataset)
    if config.first_tasks is None or config.first_tasks == len(scenario):
        return scenario
    if config.first_tasks > len(scenario):
        raise SettingsError(
            f"scenario.first_tasks is {config.first_tasks}, and scenario {scenario.name!r} has {len(scenario)} tasks; "
            f"allowed: 1 to {len(scenario)}"
        )
    return replace(
        scenario,
        name=f"{scenario.name}_first{config.first_tasks}",
        tasks=scenario.tasks[: config.first_tasks],
        origin=f"first {config.first_tasks} of {len(scenario)} tasks: {scenario.origin}",
    )


def _whole_scenario(config: ScenarioConfig, dataset: StoredDataset) -> Scenario:
    plan = [name for name in ("tasks", "base", "step") if getattr(config, name) is not None]
    if config.file is not None:
        if plan:
            raise SettingsError(f"scenario.{plan[0]} is for a data set; scenario {config.file!r} has tasks of its own")
        return Scenario.open(config.file, untrimmed=config.untrimmed)
    if not plan:
        raise SettingsError("no scenario was given; name a file by --scenario, or deal classes out by --tasks 10")
    return Scenario.from_dataset(
        dataset,
        tasks=config.tasks,
        base=config.base,
        step=config.step,
        seed=config.seed,
        split=config.split,
        test_share=config.test_share if config.split == "group" else None,
    )
