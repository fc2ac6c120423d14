"""Reports over all bytes kept between tasks: curves, mean accuracy over log bytes, and what the bytes are."""

from __future__ import annotations

import csv
import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from study_cases import (
    CLASSES_PER_TASK,
    KEPT_BYTES,
    KINDS,
    N_TASKS,
    SMALL,
    Page,
    cells,
    made_metrics,
    made_study,
    write_run,
)
from typer.testing import CliRunner

from vclimb.cli.main import app
from vclimb.study.naming import size_label
from vclimb.study.report.areas import areas, mean_accuracy, shared_range
from vclimb.study.report.groups import ReportLayout
from vclimb.study.report.part_bars import bars_of
from vclimb.study.report.results import read_results
from vclimb.study.report.write import Report, write_report

CLASSES = [f"class {number}" for number in range(N_TASKS * CLASSES_PER_TASK)]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of a made study of kinds of memory; no test may change it."""
    return write_report(made_study(tmp_path_factory.mktemp("kinds") / "study", KINDS).path)


@pytest.mark.parametrize(
    ("points", "low", "high", "expected"),
    [
        ([(1e3, 0.2), (1e4, 0.4), (1e5, 0.4)], 1e3, 1e5, 0.35),  # means of 0.3 and 0.4 over a decade each
        ([(1e5, 0.4), (1e3, 0.2), (1e4, 0.4)], 1e3, 1e5, 0.35),
        ([(1e3, 0.2), (1e5, 0.6)], 1e4, 1e5, 0.5),  # 0.4 in the middle of the curve
        ([(1e3, 0.2), (1e4, 0.3), (1e4, 0.5), (1e5, 0.4)], 1e3, 1e5, 0.35),  # 0.3 and 0.5 at the same bytes
        ([(1e3, 0.0), (1e5, 1.0)], 2e3, 5e3, math.log(math.sqrt(2 * 5)) / math.log(100)),
    ],
)
def test_mean_accuracy_is_the_area_over_log_bytes(
    points: list[tuple[float, float]], low: float, high: float, expected: float
) -> None:
    assert mean_accuracy(points, low, high) == pytest.approx(expected)


def test_the_shared_range_lies_within_every_curve() -> None:
    curves = [[(1e3, 0.1), (1e5, 0.2)], [(2e3, 0.1), (8e4, 0.2), (3e3, 0.1)]]
    assert shared_range(curves) == (2e3, 8e4)
    for none in ([], [*curves, [(9e4, 0.1), (1e6, 0.2)]]):
        assert all(math.isnan(end) for end in shared_range(none))


def test_areas_of_a_study_count_whole_seeds_over_one_range(tmp_path: Path) -> None:
    accuracies = {  # K, budget and seed -> bytes and accuracy
        (1, "10kB", 0): (1_000, 0.2), (1, "1MB", 0): (100_000, 0.6),
        (1, "10kB", 1): (1_000, 0.4), (1, "1MB", 1): (100_000, 0.8),
        (8, "10kB", 0): (10_000, 0.5), (8, "1MB", 0): (1_000_000, 0.7),
        (8, "10kB", 1): (500, 0.9),  # its other run is missing
    }  # fmt: skip
    axes = {"frames": [1, 8], "budget": ["10kB", "1MB"], "seed": [0, 1]}
    for cell in cells({"base": {"method": "naive", "scenario": {"tasks": N_TASKS}}, "axes": axes}):
        key = (cell.config.memory.frames, cell.config.memory.budget, cell.config.seed)
        if key in accuracies:
            write_run(tmp_path / cell.run_id, cell, _changed(made_metrics(cell, CLASSES), *accuracies[key]))
    found = areas(ReportLayout.from_runs(read_results(tmp_path).complete))
    assert (found.low, found.high, found.range_text) == (10_000, 100_000, "10 kB to 100 kB")
    # K 1 goes from 0.4 to 0.6 and from 0.6 to 0.8 in the range; K 8 from 0.5 to 0.6, in seed 0 alone.
    rows = {row.kind: (row.acc.mean, row.acc.low, row.acc.high, row.acc.n) for row in found.rows}
    assert rows == {"K 1": pytest.approx((0.6, 0.5, 0.7, 2)), "K 8": pytest.approx((0.55, 0.55, 0.55, 1))}
    assert found.to_json()["kinds"][0]["bytes"] == [1_000, 100_000]


def test_curves_without_a_common_range_give_no_number(tmp_path: Path) -> None:
    axes = {"frames": [1, 8], "budget": ["10kB", "1MB"]}
    for cell in cells({"base": {"method": "naive", "scenario": {"tasks": N_TASKS}}, "axes": axes}):
        size = cell.config.memory.frames * {"10kB": 1000, "1MB": 2000}[cell.config.memory.budget]
        write_run(tmp_path / cell.run_id, cell, _changed(made_metrics(cell, CLASSES), size, 0.5))
    report = write_report(tmp_path)
    assert {row.note for row in report.areas.rows} == {"the curves share no range of bytes"}
    assert report.to_json()["mean_acc_over_log_bytes"]["from_bytes"] is None
    assert "The curves share no range of bytes" in Page(report.page.read_text("utf-8")).text


def test_methods_without_exemplars_are_points_at_their_bytes(report: Report) -> None:
    layout, tables = report.layout, Page(report.page.read_text("utf-8")).tables
    fixed = {row["cell"]: row for row in tables["cells"] if row["is_fixed"]}
    sizes = {name: sum(KEPT_BYTES[head].values()) for name, head in _FIXED.items()}
    assert {name: row["bytes"] for name, row in fixed.items()} == sizes
    assert fixed["analytic, head nearest-mean"]["is_front"]  # more accurate than 100 kB of exemplars
    assert not fixed["ewc"]["is_front"]
    assert [layout.name(group) for group in layout.references] == ["joint", "finetune"]
    assert [row["cell"] for row in tables["references"] if not row["is_fixed"]] == ["joint", "finetune"]
    front = [row for row in tables["front"] if row["line"] == "Pareto front"]
    for before, after in pairwise(front):
        assert (before["bytes"], before["acc"]) <= (after["bytes"], after["acc"])
    kinds = {row["kind"] for row in tables["cells"] if not row["is_fixed"]}
    assert kinds == set(layout.kinds)
    assert len(kinds) == 4
    (words,) = [text for text in report.answer.without_exemplars if "nearest-mean" in text]
    assert "keeps 109 kB and no exemplars" in words
    assert "the smallest memory of exemplars that is more accurate: naive, K 1, codec auto, 985 kB" in words


def test_statistics_whose_size_a_budget_sets_are_a_curve(tmp_path: Path) -> None:
    head = {"name": "analytic", "head": "ridge", "projection": "auto"}
    table = {"cells": [{"method": head}], "constraints": {"equal": "bytes", "budgets": ["1MB", "4MB"]}}
    layout = write_report(made_study(tmp_path / "study", {**KINDS, **table}).path).layout
    assert [layout.name(group) for group in layout.groups] == ["1MB", "4MB"]
    assert (layout.fixed, layout.references) == ((), ())
    assert [[group.budget for group in groups] for groups in layout.kinds.values()] == [["1MB", "4MB"]]


def test_parts_add_up_to_the_bytes_in_charts_tables_and_json(report: Report) -> None:
    layout = report.layout
    for group in layout.keeping:
        assert sum(group.parts.values()) == pytest.approx(group.bytes.mean)
    bars, n_left = bars_of(layout)
    assert n_left == 0
    for bar in bars:
        assert sum(bar.shares.values()) == pytest.approx(1)
    titles = [bar.title for bar in bars]
    assert "naive, K 1, codec auto: 98.7 kB to 39.4 MB" in titles  # exemplars at every budget
    assert len([title for title in titles if title.startswith("bic")]) == 3  # their share depends on the budget
    (ewc,) = [bar for bar in bars if bar.title == "ewc: 27 MB"]
    assert ewc.shares["statistics"] == ewc.shares["parameters"] == pytest.approx(0.5, abs=1e-4)
    with report.tables[1].open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        parts = [float(row[name]) for name in row if name.startswith("memory_") and name.endswith("s_bytes")]
        parts.append(float(row["memory_index_bytes"]))
        assert sum(parts) == float(row["memory_bytes_on_disk"] or 0)
    said = report.to_json()
    for best in said["best"].values():
        assert sum(best["bytes_by_part"].values()) == pytest.approx(best["bytes"]["mean"])
    others = {entry["cell"]: entry["bytes_by_part"] for entry in said["cells_without_exemplars"]}
    assert others["ewc"] == KEPT_BYTES["ewc"]
    assert others["joint"] == {}


def test_page_and_command_give_one_number_a_curve(report: Report) -> None:
    found = {row.kind: row for row in report.areas.rows}
    assert found["joint"].acc.n == 2  # a level line: its accuracy at any bytes
    assert found["analytic, head ridge"].note == f"larger than {size_label(report.areas.low)}"
    text = Page(report.page.read_text("utf-8")).text
    assert f"One number a curve: mean Acc from {report.areas.range_text}" in text
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["study", "report", str(report.page.parent)])
    assert done.exit_code == 0, done.output
    assert f"mean Acc over log bytes, {report.areas.range_text}" in done.output
    assert found["naive, K 1, codec auto"].in_words in done.output


def test_reports_of_runs_without_exemplars(tmp_path: Path) -> None:
    report = write_report(made_study(tmp_path / "fixed", {**KINDS, "cells": KINDS["cells"][:5]}).path)
    assert [path.stem for path in report.plots] == ["acc-bytes", "bytes-by-part", "bwf-bytes"]
    assert "Acc 68." in " ".join(report.answer.without_exemplars)
    assert report.areas.range_text == ""
    nothing = {**KINDS, "base": SMALL["base"], "cells": KINDS["cells"][3:5]}
    report = write_report(made_study(tmp_path / "nothing", nothing).path)
    assert report.plots == ()
    page = Page(report.page.read_text("utf-8"))
    assert "No run that keeps exemplars is complete yet" in page.text
    assert "finetune" in page.text


_FIXED = {"analytic, head nearest-mean": "nearest-mean", "analytic, head ridge": "ridge", "ewc": "ewc"}


def _changed(metrics: dict[str, Any], n_bytes: int, acc: float) -> dict[str, Any]:
    """Give made metrics another size and accuracy."""
    memory = metrics["memory"] | {"bytes_on_disk": n_bytes, "parts": {"exemplars": n_bytes - 100, "index": 100}}
    return json.loads(
        json.dumps(
            metrics | {"memory": memory, "acc": acc, "acc_after_each_task": [*metrics["acc_after_each_task"][:-1], acc]}
        )
    )
