"""Class-incremental scenarios: the benchmark's, and others made from any prepared data set."""

from vclimb.scenario.api import Scenario
from vclimb.scenario.from_dataset import TaskPlan
from vclimb.scenario.instance import Frames, ScenarioError, ScenarioInstance, Seconds
from vclimb.scenario.leakage import Leakage
from vclimb.scenario.matching import MatchedScenario, MatchedTask, locate, match
from vclimb.scenario.report import ScenarioReport
from vclimb.scenario.task_sequence import Task, TaskSequence

__all__ = [
    "Frames",
    "Leakage",
    "MatchedScenario",
    "MatchedTask",
    "Scenario",
    "ScenarioError",
    "ScenarioInstance",
    "ScenarioReport",
    "Seconds",
    "Task",
    "TaskPlan",
    "TaskSequence",
    "locate",
    "match",
]
