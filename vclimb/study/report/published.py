"""Compare with the published figures of others where the scenario is the same.

`published.csv` holds the figures as the source gives them. Its tables are a: baselines; b: frames of a video, 10 tasks;
c: untrimmed videos, 10 tasks. The columns of the data sets hold Acc and BWF in percent.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from vclimb.study.naming import BUDGET
from vclimb.study.report.group import Group
from vclimb.study.report.results import RunResult

SOURCE = (
    "Villa et al., vCLIMB: A Novel Video Class Incremental Learning Benchmark, CVPR 2022 (arXiv 2201.09381); "
    "https://vclimb.netlify.app (its tables: github.com/ojedaf/vCLIMB_website, content/download/tcr/tcr.md)"
)
_OFFICIAL = "the benchmark's task file"
# Videos in the memory of methods that replay.
_MEMORY_VIDEOS = {"kinetics": 8000, "activitynet-trim": 4000, "activitynet-untrim": 4000, "ucf101": 2020}
_DATA_BY_CLASSES = {101: "ucf101", 200: "activitynet", 400: "kinetics"}
TITLES = {
    "ucf101": "UCF101",
    "kinetics": "Kinetics",
    "activitynet-trim": "ActivityNet-Trim",
    "activitynet-untrim": "ActivityNet-Untrim",
}


@dataclass(frozen=True)
class Published:
    """Row of a published table, and the study's cell of the same settings if there is one.

    Attributes:
        scenario: Name of the scenario, such as `UCF101, 10 tasks`.
        table: Letter of the paper's table.
        name: Method, frames per video, and temporal consistency.
        acc: Published Acc in percent.
        bwf: Published BWF in percent.
        ours: Group of the study with the same settings; None where there is none.
    """

    scenario: str
    table: str
    name: str
    acc: float
    bwf: float
    ours: Group | None


def official_scenario(run: RunResult) -> tuple[str, int] | None:
    """Recognise the benchmark's scenario of a run: its data set and number of tasks; None for other scenarios."""
    if run.metrics is None:
        return None
    scenario = run.metrics.scenario
    data = _DATA_BY_CLASSES.get(len(scenario.classes))
    if data is None or not scenario.origin.startswith(_OFFICIAL):
        return None
    if data == "activitynet":
        data += "-untrim" if run.settings.get("scenario.untrimmed") else "-trim"
    return data, scenario.n_tasks


def published(groups: Sequence[Group]) -> list[Published]:
    """List the rows of the paper's tables for the scenarios of some groups."""
    scenarios = list(dict.fromkeys(scenario for g in groups if (scenario := official_scenario(g.runs[0])) is not None))
    rows = []
    for data, tasks in scenarios:
        members = [group for group in groups if official_scenario(group.runs[0]) == (data, tasks)]
        for row in _published_rows():
            if row["tasks"] == str(tasks) and row[data]:
                ours = next((group for group in members if _is_same(group.settings, row, data)), None)
                acc, bwf = map(float, row[data].split())
                rows.append(Published(f"{TITLES[data]}, {tasks} tasks", row["table"], _name(row), acc, bwf, ours))
    return rows


def _is_same(settings: Mapping[str, Any], row: Mapping[str, str], data: str) -> bool:
    if settings.get("method.name") != row["method"]:
        return False
    if bool(settings.get("consistency.weight")) != (row["tc"] == "yes"):
        return False
    if not (frames := row["frames"]):
        return True
    return str(settings.get("memory.frames")) == frames and settings.get(BUDGET) == f"{_MEMORY_VIDEOS[data]}v"


def _name(row: Mapping[str, str]) -> str:
    kept = {"": "", "all": ", all frames"}.get(row["frames"], f", K {row['frames']}")
    return f"{row['method']}{' + TC' if row['tc'] == 'yes' else ''}{kept}"


@cache
def _published_rows() -> list[dict[str, str]]:
    text = resources.files("vclimb.study.report").joinpath("published.csv").read_text("utf-8")
    return list(csv.DictReader(text.splitlines()))
