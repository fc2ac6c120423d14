"""Compare with the published figures of others where the scenario is the same."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from vclimb.study.report.groups import BUDGET, Group
from vclimb.study.report.results import RunResult

_OFFICIAL = "the benchmark's task file"
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


def source() -> str:
    """Cite the source of the published figures."""
    return f"{_published_tables()['source']}; {_published_tables()['url']}"


def official_scenario(run: RunResult) -> tuple[str, int] | None:
    """Recognise the benchmark's scenario of a run: its data set and number of tasks; None for other scenarios."""
    scenario: Mapping[str, Any] = (run.metrics or {}).get("scenario") or {}
    if not str(scenario.get("origin", "")).startswith(_OFFICIAL):
        return None
    data = _DATA_BY_CLASSES.get(len(scenario.get("classes") or ()))
    if data is None:
        return None
    if data == "activitynet":
        data += "-untrim" if run.settings.get("scenario.untrimmed") else "-trim"
    return data, int(scenario.get("n_tasks", 0))


def published(groups: Sequence[Group]) -> list[Published]:
    """List the rows of the paper's tables for the scenarios of some groups."""
    scenarios = list(dict.fromkeys(scenario for g in groups if (scenario := official_scenario(g.runs[0])) is not None))
    rows = []
    for data, tasks in scenarios:
        members = [group for group in groups if official_scenario(group.runs[0]) == (data, tasks)]
        for row in _published_tables()["rows"]:
            if row["tasks"] == tasks and data in row:
                ours = next((group for group in members if _is_same(group.settings, row, data)), None)
                acc, bwf = row[data]
                rows.append(Published(f"{TITLES[data]}, {tasks} tasks", row["table"], _name(row), acc, bwf, ours))
    return rows


def _is_same(settings: Mapping[str, Any], row: Mapping[str, Any], data: str) -> bool:
    if settings.get("method.name") != row["method"]:
        return False
    if bool(settings.get("consistency.weight")) != row.get("consistency", False):
        return False
    if "frames" not in row:
        return True
    videos = f"{_published_tables()['memory_videos'][data]}v"
    return bool(settings.get("memory.frames") == row["frames"] and settings.get(BUDGET) == videos)


def _name(row: Mapping[str, Any]) -> str:
    frames = row.get("frames")
    kept = "" if frames is None else ", all frames" if frames == "all" else f", K {frames}"
    return f"{row['method']}{' + TC' if row.get('consistency') else ''}{kept}"


@cache
def _published_tables() -> dict[str, Any]:
    return tomllib.loads(resources.files("vclimb.study.report").joinpath("published.toml").read_text("utf-8"))
