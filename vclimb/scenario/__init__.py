"""Class-incremental scenarios: the benchmark's own, and others made from any prepared data set."""

from vclimb.scenario.files import open_scenario, write_scenario
from vclimb.scenario.leakage import Leakage, leakage
from vclimb.scenario.made import TaskPlan, class_order, make_scenario, scenario_of_dataset
from vclimb.scenario.matching import MatchedScenario, MatchedTask, locate, match
from vclimb.scenario.scenario import Frames, Scenario, ScenarioError, ScenarioInstance, Seconds, Task

__all__ = [
    "Frames",
    "Leakage",
    "MatchedScenario",
    "MatchedTask",
    "Scenario",
    "ScenarioError",
    "ScenarioInstance",
    "Seconds",
    "Task",
    "TaskPlan",
    "class_order",
    "leakage",
    "locate",
    "make_scenario",
    "match",
    "open_scenario",
    "scenario_of_dataset",
    "write_scenario",
]
