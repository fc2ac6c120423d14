"""Reports from run folders: page, charts, tables and answers; names are escaped everywhere."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from sealed_cases import write_sealed
from study_cases import CLASSES_PER_TASK, JHMDB, N_TASKS, SMALL, Page, made_metrics, made_study, write_run
from typer.testing import CliRunner

from vclimb.cli.main import app
from vclimb.pipeline.errors import DatasetError
from vclimb.study.definition import StudyDefinition
from vclimb.study.report.results import read_results
from vclimb.study.report.write import Report, write_report


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study of J-HMDB-21 with made results; no test may change it."""
    return made_study(tmp_path_factory.mktemp("made") / "jhmdb21", JHMDB).path


@pytest.fixture(scope="module")
def report(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of that study, in a folder of its own."""
    return write_report(study, tmp_path_factory.mktemp("report"))


def test_page_needs_nothing_else_and_holds_every_chart(report: Report) -> None:
    text = report.page.read_text("utf-8")
    page = Page(text)
    assert len(text) < 3_000_000
    assert len(page.scripts) == 4
    names = {path.stem for path in report.plots}
    assert set(page.charts) == set(page.specs) == names
    assert names == {path.stem for path in (report.page.parent / "plots").iterdir()}
    assert len(page.charts) == len(report.plots) >= 20
    assert len(page.ids) == len(set(page.ids))
    rows = [row for table in page.tables.values() for row in table]
    links = page.links + [row["href"] for row in rows if "href" in row]
    assert {link[1:] for link in links} <= set(page.ids)
    assert all(link.startswith("#") for link in links)
    assert "default-src 'none'" in text
    library = page.scripts[2]
    assert not re.search(r"(src|href)=.https?:|@import|url\(", text.replace(library, ""))
    for words in ("In short", "What was run", "Accuracy after each task", "What is forgotten", "budget"):
        assert words in page.text
    specs = json.dumps(page.specs)
    for words in ("bytes kept between tasks", "frames in memory", "BWF", "Pareto front"):
        assert words in specs
    assert page.tags.count("tr") > 72
    assert "vclimb train --config" in page.text
    assert 'codec = "auto"' in page.text
    assert report.left_out == ()


def test_charts_are_pictures_of_their_own(report: Report) -> None:
    for path in report.plots:
        text = path.read_text("utf-8")
        root = ElementTree.fromstring(text)
        assert root.tag.endswith("svg")
        assert "NaN" not in text
        assert sum(element.tag.endswith("path") for element in root.iter()) > 5
    front = "".join(ElementTree.fromstring(report.plots[0].read_text("utf-8")).itertext())
    for words in ("Acc after the last task (%)", "Pareto front", "500 kB", "1 MB", "K all", "naive, TC 0.5"):
        assert words in front


def test_tables_hold_one_row_per_run(study: Path, report: Report) -> None:
    parquet, text_table = report.tables
    table = pq.read_table(parquet).to_pylist()
    with text_table.open(newline="", encoding="utf-8") as file:
        written = list(csv.DictReader(file))
    assert len(table) == len(written) == len(list((study / "runs").iterdir()))
    for row, text in zip(table, written, strict=True):
        metrics = json.loads((study / "runs" / row["run"] / "metrics.json").read_text("utf-8"))
        assert row["acc"] == pytest.approx(metrics["acc"])
        assert float(text["bwf"]) == pytest.approx(metrics["bwf"])
        assert len(row["acc_after_each_task"]) == N_TASKS
        assert row["state"] == text["state"] == "complete"
    assert {row["memory.frames"] for row in table} == {"1", "2", "4", "8", "16", "all"}


def test_plots_that_a_report_no_longer_draws_are_removed(report: Report, tmp_path: Path) -> None:
    def plots(folder: Path) -> set[str]:
        write_report(folder, tmp_path / "out")
        return {path.name for path in (tmp_path / "out" / "plots").iterdir()}

    small = made_study(tmp_path / "small", SMALL).path
    one_budget = made_study(tmp_path / "one", {**SMALL, "constraints": {"budgets": ["1MB"]}}).path
    of_small, foreign = plots(small), {"mine.svg", "acc-bytes-panel.svg", "acc-tasks-9.png"}
    for name in foreign:
        (tmp_path / "out" / "plots" / name).write_text("mine", "utf-8")
    for path in report.plots:
        (tmp_path / "out" / "plots" / path.name).write_text("of an earlier report", "utf-8")
    of_one_budget = plots(one_budget)
    assert "dots-acc-0.svg" in of_one_budget
    assert "acc-bytes-panel0.svg" not in of_one_budget
    assert plots(small) == of_small | foreign


def test_answer_names_the_best_cells_and_the_gain_of_a_doubling(report: Report) -> None:
    layout, answer = report.layout, report.answer
    assert list(answer.best) == ["500kB", "1MB", "2MB"]
    for budget, group in answer.best.items():
        assert group.acc.mean == max(g.acc.mean for g in layout.at_budget(budget))
    for (small, large), row in zip(pairwise(answer.best.values()), answer.rows, strict=False):
        gain, doublings = large.acc.mean - small.acc.mean, math.log2(large.bytes.mean / small.bytes.mean)
        assert row.doubling.startswith(f"to {large.budget}: {100 * gain / doublings:+.1f} points a doubling, ")
        assert row.doubling.endswith("the seeds' spread")
    assert answer.rows[-1].doubling == "-"


def test_repeated_run_counts_as_one_seed(tmp_path: Path) -> None:
    classes = [f"class {number}" for number in range(N_TASKS * CLASSES_PER_TASK)]
    (cell, *_) = StudyDefinition.parse(SMALL).expand("shards/x")
    made = made_metrics(cell, classes)
    *before, _ = made["acc_after_each_task"]
    for number, (name, acc) in enumerate((("b", 0.1), ("c", 0.3), ("a", 0.2))):
        run = write_run(tmp_path / name, cell, made | {"acc": acc, "acc_after_each_task": [*before, acc]})
        os.utime(run / "metrics.json", (1000 + number, 1000 + number))
    report = write_report(tmp_path)
    (group,) = report.layout.groups
    assert (group.acc.n, group.acc.mean) == (1, 0.2)  # the newest run counts, whatever its name
    assert [run.run_id for run in report.results.set_aside] == ["b", "c"]
    assert "(2 left out: newer ones repeat them" in Page(report.page.read_text("utf-8")).text
    printed = CliRunner(env={"COLUMNS": "300"}).invoke(app, ["study", "report", str(tmp_path)])
    assert "(2 left out: newer ones repeat them" in printed.output


def test_command_prints_the_answer(study: Path, tmp_path: Path) -> None:
    runner = CliRunner(env={"COLUMNS": "300", "NO_COLOR": "1"})
    small = made_study(tmp_path / "small", SMALL).path
    done = runner.invoke(app, ["study", "report", str(small), "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "runs are complete" in done.output
    assert str(tmp_path / "report.html") in done.output
    done = runner.invoke(app, ["study", "report", str(study), "--out", str(tmp_path), "--json"])
    printed = json.loads(done.output)
    assert printed["complete"] == 156
    assert set(printed["best"]) == {"500kB", "1MB", "2MB"}
    assert "points a doubling" in printed["in_words"][0]["doubling"]
    assert "points less" in printed["in_words"][0]["rival"]


def test_copied_run_folders_are_enough(study: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    for run in list((study / "runs").iterdir())[:6]:
        (copied / run.name).mkdir(parents=True)
        for name in ("config.toml", "metrics.json"):
            shutil.copy(run / name, copied / run.name)
    report = write_report(copied)
    assert len(report.results.complete) == 6
    assert "has no memory.zarr" in report.page.read_text("utf-8")


def test_damaged_runs_are_skipped_and_unfinished_ones_named(tmp_path: Path) -> None:
    folder = made_study(tmp_path / "study", SMALL)
    first, second, third, *_ = sorted((folder.path / "runs").iterdir())
    (first / "metrics.json").write_text("{", "utf-8")
    (second / "config.toml").write_text("=", "utf-8")
    (cell,) = (cell for cell in StudyDefinition.parse(SMALL).expand("shards/jhmdb21") if cell.run_id == third.name)
    metrics = made_metrics(cell, [f"class {number}" for number in range(N_TASKS * CLASSES_PER_TASK)], n_learned=2)
    write_sealed(third / "metrics.json", metrics)
    report = write_report(folder.path)
    assert len(report.results.complete) == 5
    assert report.results.damaged.keys() == {first.name, second.name}
    text = Page(report.page.read_text("utf-8")).text
    assert f"{third.name}, " in text
    assert "unfinished, 2 tasks are done" in text


def test_folder_without_runs_is_refused_with_a_reason(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no runs"):
        read_results(tmp_path)
    done = CliRunner().invoke(app, ["study", "report", str(tmp_path / "nowhere")])
    assert done.exit_code == 1
    assert "error: " in done.output
    assert not (tmp_path / "nowhere").exists()


def test_reporting_loads_no_torch(tmp_path: Path) -> None:
    small = made_study(tmp_path / "small", SMALL).path
    code = f"""
import sys
sys.argv = ["vclimb", "study", "report", {str(small)!r}, "--out", {str(tmp_path)!r}]
from vclimb.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
assert "torch" not in sys.modules, "torch was loaded"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
