"""Budgets of a study: their places, kinds and percentages, and constraints that keep them equal."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from study_cases import BASE, PLAIN, cells, totals

from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.errors import SettingsError
from vclimb.scenario import match
from vclimb.settings import from_table
from vclimb.study.api import Study
from vclimb.study.constraints import Constraints
from vclimb.study.definition import StudyDefinition
from vclimb.study.running.preflight import scenario_totals
from vclimb.training.config import ScenarioConfig
from vclimb.training.scenarios import MatchedScenarios, find_scenario


@pytest.mark.parametrize(
    ("constraints", "budgets"),
    [
        ({"equal": "bytes", "budgets": ["1MB", "2MB"]}, ["1MB", "2MB"]),
        ({"equal": "bytes", "budgets": ["5%"]}, ["6200kB"]),
        ({"equal": ["bytes", "videos"], "budgets": ["5%"]}, ["6200kB", "50v"]),
        ({"equal": "frames", "budgets": ["10%"]}, ["4000f"]),
        ({"equal": "frames", "budgets": ["100v"], "reference_frames": 8}, ["800f"]),
        ({"equal": ["videos", "frames"], "budgets": ["100v", "800f"]}, ["100v", "800f"]),
        ({"equal": "bytes"}, ["1MB"]),
    ],
)
def test_constraints_give_budgets(constraints: dict[str, Any], budgets: list[str]) -> None:
    base = PLAIN if "budgets" in constraints else BASE
    found = cells({"base": base, "axes": {"frames": [1, 8]}, "constraints": constraints})
    assert [cell.config.memory.budget for cell in found] == budgets * 2


def test_budgets_of_arguments_replace_all_others() -> None:
    flags: list[dict[str, Any]] = [{"axes": ["budget=1MB,2MB"]}, {"budgets": ["1MB", "2MB"]}, {"budgets": "1MB,2MB"}]
    for flag in flags:
        found = Study("memory-vs-frames", **flag).definition.expand("x")
        assert {cell.config.memory.budget for cell in found} == {"1MB", "2MB"}
    study = Study("memory-vs-frames", settings=["memory.budget=9v"]).definition
    assert {cell.config.memory.budget for cell in study.expand("x")} == {"9v"}
    paper = Study("paper-table-b", budgets=["9v", "8v"]).definition.expand("x")  # its [base] has a budget
    assert {cell.config.memory.budget for cell in paper} == {"9v", "8v"}
    listed = {"base": PLAIN, "cells": [{"budget": "1MB"}]}
    twice: list[tuple[dict[str, Any], str]] = [
        ({"axes": ["budget=1MB"], "budgets": ["2MB"]}, "budgets and by the axis budget"),
        (
            {"axes": ["budget=1MB"], "settings": {"budget": "2MB"}},
            "the axis budget and by the setting memory.budget",
        ),
        ({"budgets": ["2MB"]}, "budgets and by [[cells]]"),
    ]
    for flag, places in twice:
        with pytest.raises(SettingsError, match=f"given twice, by {re.escape(places)}"):
            Study(listed, **flag)


@pytest.mark.parametrize("part", [{"axes": {"budget": ["9v"]}}, {"base": {"memory": {"budget": "9v"}}}])
def test_budgets_of_a_file_take_the_place_of_its_presets(part: dict[str, Any]) -> None:
    found = StudyDefinition.parse({"preset": "memory-vs-frames", **part}).expand("x")
    assert {cell.config.memory.budget for cell in found} == {"9v"}


@pytest.mark.parametrize("where", ["axes", "base", "cells"])
def test_frames_are_equal_wherever_a_budget_in_videos_is_given(where: str) -> None:
    table: dict[str, Any] = {
        "base": PLAIN,
        "axes": {"frames": [1, 16]},
        "constraints": {"equal": "frames", "reference_frames": 8},
    }
    if where == "axes":
        table["axes"]["budget"] = ["2020v"]
    elif where == "base":
        table["base"] = {**PLAIN, "memory": {"budget": "2020v"}}
    else:
        table["cells"] = [{"budget": "2020v"}]
    assert [(c.config.memory.frames, c.config.memory.budget) for c in cells(table)] == [(1, "16160f"), (16, "16160f")]


def test_a_budget_has_one_text() -> None:
    found = cells({"base": PLAIN, "axes": {"budget": ["1MB", "1000kB", "1000000B"]}})
    assert [cell.config.memory.budget for cell in found] == ["1MB"]


def test_equal_budgets_may_be_listed_cell_by_cell() -> None:
    listed = [{"frames": frames, "budget": budget} for frames in (1, 2) for budget in ("1MB", "2MB")]
    table: dict[str, Any] = {"base": PLAIN, "constraints": {"equal": "bytes"}}
    assert len(cells({**table, "cells": [*listed, {"method": "finetune"}]})) == 5
    with pytest.raises(SettingsError, match=r"cell 'K 1' has budget 1MB and 2MB, and cell 'K 2' 1MB; give all cells"):
        cells({**table, "cells": listed[:3]})
    assert len(cells({**table, "cells": listed[:3], "constraints": {}})) == 3  # nothing is said to be equal


def test_a_percentage_is_of_what_a_cells_own_scenario_trains_on() -> None:
    found = cells(
        {
            "base": PLAIN,
            "axes": {"scenario.split": ["own", "group"]},
            "constraints": {"equal": ["bytes", "videos"], "budgets": ["10%"]},
        }
    )
    budgets = [(cell.config.scenario.split, cell.config.memory.budget) for cell in found]
    assert budgets == [("own", "12MB"), ("own", "100v"), ("group", "6200kB"), ("group", "50v")]


def test_constraints_without_a_kind_take_any_budget() -> None:
    constraints = from_table(Constraints, {"budgets": ["1MB", "20v"]})
    applied = constraints.apply({"memory": {"frames": 2}}, totals)
    assert [table["memory"]["budget"] for table in applied] == ["1MB", "20v"]


def test_percentages_are_of_the_videos_that_a_scenario_trains_on(synth_shards: Path) -> None:
    dataset = StoredDataset.open(synth_shards)
    totals = scenario_totals(MatchedScenarios(dataset))
    for split in ("own", "group"):
        config = ScenarioConfig(tasks=2, split=split, test_share=0.5)
        matched = match(find_scenario(config, dataset), dataset)
        train = [one for task in matched.tasks for one in task.train]
        found = totals({"scenario": {"tasks": 2, "split": split, "test_share": 0.5}})
        assert found.videos == len(train)
        assert found.frames == sum(one.end_frame - one.start_frame for one in train)
        assert found.bytes == sum(dataset.by_key[one.key].bytes for one in train)
    assert found != totals({"scenario": {"tasks": 2}})
