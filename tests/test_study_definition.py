"""Cells and names of runs that follow from a study's file, preset and flags."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from study_cases import BASE, PLAIN, cells, totals

from vclimb.pipeline.errors import SettingsError
from vclimb.study.api import Study
from vclimb.study.axes import parse_axes
from vclimb.study.definition import StudyDefinition, read_study
from vclimb.study.naming import label, varied
from vclimb.study.presets import PRESETS


def test_grid_is_every_combination_and_first_seeds_come_first() -> None:
    expanded = cells({"base": BASE, "axes": {"frames": [1, 8, "all"], "tc": [0.0, 0.5], "seed": [3, 1]}})
    assert len({cell.run_id for cell in expanded}) == 12
    assert [cell.config.seed for cell in expanded] == [3] * 6 + [1] * 6
    assert {cell.config.memory.frames for cell in expanded} == {1, 8, "all"}


def test_short_and_dotted_names_mean_the_same() -> None:
    names = {"method": "method.name", "frames": "memory.frames", "codec": "memory.codec", "tc": "consistency.weight"}
    values: dict[str, list[Any]] = {"method": ["naive"], "frames": [2], "codec": ["raw"], "tc": [0.5]}
    short = cells({"base": BASE, "axes": values})
    dotted = cells({"base": BASE, "axes": {names[name]: listed for name, listed in values.items()}})
    nested = cells(
        {
            "base": BASE,
            "axes": {"method": {"name": ["naive"]}, "memory": {"frames": [2], "codec": ["raw"]}}
            | {"consistency": {"weight": [0.5]}},
        }
    )
    assert [cell.run_id for cell in short] == [cell.run_id for cell in dotted] == [cell.run_id for cell in nested]


def test_list_of_cells_and_axes_together() -> None:
    expanded = cells(
        {
            "base": BASE,
            "cells": [{"frames": 1}, {"frames": 4, "codec": "raw"}, {"method": {"name": "icarl"}}],
            "axes": {"seed": [0, 1]},
        }
    )
    assert len(expanded) == 6
    assert {(c.config.method["name"], c.config.memory.frames, c.config.memory.codec) for c in expanded} == {
        ("naive", 1, "auto"),
        ("naive", 4, "raw"),
        ("icarl", 8, "auto"),
    }


def test_methods_without_a_memory_count_once() -> None:
    expanded = cells(
        {
            "base": {"scenario": {"tasks": 2}},
            "axes": {"method": ["naive", "finetune"], "frames": [1, 8]},
            "constraints": {"budgets": ["1MB", "2MB"]},
        }
    )
    assert sorted(cell.config.method["name"] for cell in expanded) == ["finetune"] + ["naive"] * 4
    finetune = next(c for c in expanded if c.config.method["name"] == "finetune")
    assert finetune.config.memory.budget == "none"
    assert str(finetune.limit) == "2MB"  # it has the largest budget, and is the same run with another
    assert all(cell.limit is None for cell in expanded if cell is not finetune)


def test_run_ids_depend_on_content_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"base": BASE, "axes": {"frames": [1]}}
    (before,) = cells(table)
    (moved,) = cells(table, "/elsewhere/x")
    (computed,) = cells({**table, "base": {**BASE, "compute": {"workers": 3}, "log": {"tensorboard": True}}})
    (other,) = cells({**table, "base": {**BASE, "training": {"epochs": 3}}})
    assert before.run_id == moved.run_id == computed.run_id != other.run_id
    (tmp_path / "a.pt").write_bytes(b"weights")
    (tmp_path / "b.pt").write_bytes(b"weights")
    ids = []
    for name in ("a.pt", "b.pt"):
        (cell,) = cells({**table, "base": {**BASE, "model": {"weights": str(tmp_path / name)}}})
        ids.append(cell.run_id)
    assert ids[0] == ids[1] != before.run_id
    (tmp_path / "b.pt").write_bytes(b"others")
    (cell,) = cells({**table, "base": {**BASE, "model": {"weights": str(tmp_path / "b.pt")}}})
    assert cell.run_id not in ids


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"axis": {}}, "setting 'axis' is not known; did you mean 'axes'?"),
        ({"axes": {"framse": [1]}}, "axis 'framse' is not known; did you mean 'frames'?"),
        ({"axes": {"memory.frmes": [1]}}, "did you mean 'memory.frames'?"),
        ({"axes": {"frames": 1}}, "axis 'frames' is 1; it needs a list of values"),
        ({"axes": {"frames": []}}, "axis 'frames' is []; it needs a list"),
        ({"axes": {"compute.workers": [1]}}, "axis 'compute.workers' changes no result"),
        ({"axes": {"data": ["x"]}}, "axis 'data' changes no result"),
        ({"axes": {"method": ["icral"]}}, "did you mean 'icarl'?"),
        ({"axes": {"method.strenth": [1.0]}, "base": {"method": "ewc"}}, "did you mean 'strength'?"),
        ({"axes": {"codec": ["jpge:75"]}}, "did you mean jpeg?"),
        ({"axes": {"tc": [2.0]}}, "setting 'consistency.weight' is 2, out of range"),
        ({"axes": {"frames": [1]}, "base": {"method": "naive"}}, "give the study budgets"),
        (
            {"axes": {"seed": [1]}, "constraints": {"budgets": [{"a": 1}]}},
            "constraints.budgets' is [{'a': 1}]; allowed:",
        ),
        ({"axes": {"seed": [1]}, "constraints": {"equal": [["bytes"]]}}, "constraint equal ['bytes'] is not known"),
        ({"axes": {"frames": [1]}, "constraints": {"equl": "bytes"}}, "did you mean 'equal'?"),
        (
            {"axes": {"frames": [1]}, "constraints": {"equal": "byte"}},
            "constraint equal 'byte' is not known; did you mean 'bytes'?",
        ),
        (
            {"axes": {"budget": ["9v"]}, "constraints": {"equal": "bytes"}},
            "counts videos, but the constraint keeps bytes",
        ),
        (
            {"axes": {"frames": [1]}, "constraints": {"budgets": ["5%"]}},
            "is a percentage of bytes, videos or frames",
        ),
        (
            {"axes": {"budget": ["5%"]}, "constraints": {"equal": "bytes"}},
            "budget '5%' is a percentage, which [constraints] budgets (--budgets) alone may be",
        ),
        (
            {"axes": {"frames": [1]}, "constraints": {"budgets": ["2MB"]}},
            "budgets are given twice, by [constraints] budgets and by [base] memory.budget; leave all but one",
        ),
        (
            {"axes": {"budget": ["1MB"]}, "base": PLAIN, "constraints": {"budgets": ["2MB"]}},
            "budgets are given twice, by [constraints] budgets and by the axis budget",
        ),
        (
            {"cells": [{"budget": "1MB"}], "base": PLAIN, "constraints": {"budgets": ["2MB"]}},
            "budgets are given twice, by [constraints] budgets and by [[cells]]",
        ),
        (
            {"cells": [{"budget": "1MB"}], "base": PLAIN, "axes": {"budget": ["2MB"]}},
            "budgets are given twice, by the axis budget and by [[cells]]",
        ),
        (
            {"cells": [{"frames": 1}, {"frames": 2, "budget": "2MB"}], "constraints": {"equal": "bytes"}},
            "the constraint keeps bytes equal, but cell 'K 1' has budget 1MB, and cell 'K 2' 2MB; give all cells",
        ),
        ({"base": {**PLAIN, "memory": 3}, "axes": {"seed": [0]}}, "setting 'memory' is 3; it needs a table"),
        ({"axes": {"frames": [1]}, "constraints": {"equal": "bytes", "budgets": ["0%"]}}, "out of range"),
        ({"axes": {"seed": list(range(10_001))}}, "10,001 cells; allowed: 10,000"),
        ({"base": {}}, "the study varies nothing"),
        ({"preset": "codes"}, "preset 'codes' is not known; did you mean 'codecs'?"),
        ({"axes": [1]}, "setting 'axes' is [1]"),
        ({"cells": [1]}, "write each cell as [[cells]]"),
    ],
)
def test_what_is_not_allowed_is_explained(table: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingsError) as raised:
        cells({"base": BASE, **table})
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_expand(name: str) -> None:
    study = read_study(name)
    expanded = study.expand("shards/x", totals)
    n_cells = {
        "memory-vs-frames": 72,
        "codecs": 14,
        "kinds-of-memory": 54,
        "paper-table-a": 5,
        "paper-table-b": 8,
        "paper-table-c": 12,
    }
    assert len(expanded) == n_cells[name]


def test_a_file_may_change_a_preset(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'preset = "memory-vs-frames"\n[base]\nscenario.tasks = 3\n[axes]\n"memory.frames" = [1, 2]\n', "utf-8"
    )
    study = read_study(str(path))
    assert study.name == "memory-vs-frames"
    assert len(study.expand("shards/x", totals)) == 2 * 2 * 6


def test_a_scenario_from_a_file_takes_the_place_of_the_presets() -> None:
    by_flags = Study("paper-table-a", settings=["scenario.file=UCF101_data.pkl"]).definition
    by_file = StudyDefinition.parse({"preset": "paper-table-a", "base": {"scenario": {"file": "UCF101_data.pkl"}}})
    for study in (by_flags, by_file):
        for cell in study.expand("shards/x"):
            assert (cell.config.scenario.file, cell.config.scenario.tasks) == ("UCF101_data.pkl", None)


def test_flags_do_what_a_file_does() -> None:
    flags: dict[str, Any] = {"axes": ["frames=1,all", "seed=0"], "settings": ["training.epochs=3"]}
    values: dict[str, Any] = {"axes": {"frames": [1, "all"], "seed": [0]}, "settings": {"epochs": 3}}
    by_flags = Study("memory-vs-frames", **flags, budgets="1MB", equal="bytes").definition
    by_values = Study("memory-vs-frames", **values, budgets=["1MB"], equal=["bytes"]).definition
    assert by_flags == by_values
    expanded = by_flags.expand("shards/x")
    assert {cell.config.memory.frames for cell in expanded} == {1, "all"}
    assert {cell.config.training.epochs for cell in expanded} == {3}
    assert {cell.config.memory.budget for cell in expanded} == {"1MB"}
    assert parse_axes(["tc=0,0.5"]) == {"consistency.weight": [0, 0.5]}
    tables = "method=naive, {name=\"ewc\", strength=3e3},{name='mas'}"
    assert parse_axes([tables]) == {"method.name": ["naive", {"name": "ewc", "strength": 3000.0}, {"name": "mas"}]}
    assert parse_axes(['backbone="a,b",it\'s']) == {"model.backbone": ["a,b", "it's"]}
    for text in ("frames", "frames=", "frmes=1", "frames=1,,2", "frames=,", 'method={name="ewc"', 'codec="copy'):
        with pytest.raises(SettingsError):
            parse_axes([text])


def test_frames_of_temporal_consistency_outlive_a_memory_that_is_not_kept() -> None:
    table: dict[str, Any] = {"base": {"scenario": {"tasks": 2}, "method": "lwf"}}
    expanded = cells({**table, "axes": {"tc": [0.0, 0.5], "frames": [1, 4, "all"]}})
    seen = [(cell.config.consistency.weight, cell.config.consistency_frames) for cell in expanded]
    assert seen == [(0.0, 8), (0.5, 1), (0.5, 4), (0.5, 8)]
    assert len({cell.run_id for cell in expanded}) == 4
    (alone,) = cells({**table, "axes": {"tc": [0.5], "consistency.frames": [4]}})
    assert alone.run_id == expanded[2].run_id
    settings = [cell.settings for cell in expanded]
    names = varied(settings)
    assert [label(one, names) for one in settings] == ["no TC", "TC 0.5, TC K 1", "TC 0.5, TC K 4", "TC 0.5, TC K 8"]


def test_a_study_is_written_so_that_it_reads_back() -> None:
    study = StudyDefinition.parse(
        {
            "name": "x",
            "base": PLAIN,
            "cells": [{"method": {"name": "ewc", "strength": 3.0}}, {"method": "naive"}],
            "axes": {"frames": [1, "all"]},
            "constraints": {"equal": "frames", "budgets": ["9v"], "reference_frames": 2},
        }
    )
    again = StudyDefinition.parse(tomllib.loads(study.to_toml()))
    assert [c.run_id for c in again.expand("y")] == [c.run_id for c in study.expand("y")]


def test_studies_in_docs_expand() -> None:
    docs = Path(__file__).parents[1] / "docs" / "studies"
    weights = "model.weights=none"  # the file isn't in the repository
    counts = {}
    for path in sorted(docs.glob("*.toml")):
        counts[path.stem] = len(Study(path, settings=[weights]).definition.expand("shards/x", totals))
    assert counts["jhmdb21"] == 6 * 3 * 2 * 2 * 2
    assert counts["jhmdb21-codecs"] > 0
    assert counts["frame-features"] == 3 * 5 * 3
    assert counts["kinds-jhmdb21"] == (4 + 5 * 5) * 3  # four keep the same at any budget, and are run once
    assert counts["kinds-fir16"] == counts["kinds-motion"] == (4 + 5 * 3) * 3 * 2  # of TSN and TSM
    assert (counts["frames-jhmdb21"], counts["frames-fir16"], counts["frames-motion"]) == (2 + 3 * 5 * 2, 24, 12)
