"""Content of a report's page: escaped names, failed runs, limits, pictures of memories, published figures."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from study_cases import CLASSES_PER_TASK, N_TASKS, SMALL, Page, made_metrics, made_study, write_run

from vclimb.memory.store.stored_class import MEMORY_NAME
from vclimb.study.definition import StudyDefinition
from vclimb.study.naming import varied
from vclimb.study.report import chart_data, chart_set
from vclimb.study.report import page as page_module
from vclimb.study.report.groups import ReportLayout
from vclimb.study.report.published import published
from vclimb.study.report.results import read_results
from vclimb.study.report.write import write_report

HOSTILE = """<script>alert(1)</script> "quoted' & 🎬 ]]> <!-- </title></svg> {{ 7 * 7 }}"""


def test_failed_runs_are_named_where_no_run_is_complete(tmp_path: Path) -> None:
    folder = made_study(tmp_path / "study", SMALL)
    for run in (folder.path / "runs").iterdir():
        shutil.rmtree(run)
    folder.log("0123456789ab").write_text(f"some line\nerror: {HOSTILE}\n", "utf-8")
    folder.record_failure("0123456789ab", HOSTILE, 1, {"method.name": HOSTILE, "seed": 3})
    report = write_report(folder.path)
    page = Page(report.page.read_text("utf-8"))
    assert HOSTILE in page.text
    assert "0123456789ab" in page.text
    assert page.charts == []
    assert page.tags.count("script") == 1


def test_names_are_escaped_everywhere(tmp_path: Path) -> None:
    place = tmp_path / "<script>alert(2)<" / 'it\'s "here" & 🎬'
    classes = [f"{HOSTILE} {number}" for number in range(N_TASKS * CLASSES_PER_TASK)]
    cells = StudyDefinition.parse(SMALL).expand(f"shards/{HOSTILE}")
    for cell in cells:
        metrics = made_metrics(cell, classes, dataset=HOSTILE)
        metrics["device"] = metrics["scenario"]["name"] = metrics["scenario"]["origin"] = HOSTILE
        run = write_run(place / "runs" / cell.run_id, cell, metrics)
        text = (run / "config.toml").read_text("utf-8")
        # A name that no command would take, but a file may hold.
        codec = HOSTILE if cell.config.memory.frames == 1 else "plain"
        text = text.replace('codec = "auto"', f"codec = {json.dumps(codec, ensure_ascii=False)}")
        (run / "config.toml").write_text(text, "utf-8")
    report = write_report(place)
    page = Page(report.page.read_text("utf-8"))
    assert page.tags.count("script") == 4
    assert page.tags.count("title") == 1
    assert not any(mark in page.scripts[0] + page.scripts[1] for mark in "<>&")
    assert f"{HOSTILE} 0" in page.text
    assert place.name in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert {row["panel"] for row in page.tables["cells"]} == {HOSTILE, "plain"}
    for path in report.plots:
        root = ElementTree.fromstring(path.read_text("utf-8"))
        assert not [element for element in root.iter() if element.tag.endswith("script")]
    assert "<script>alert(1)</script>" in "".join(ElementTree.fromstring(report.plots[0].read_text("utf-8")).itertext())


def test_page_of_a_large_study_says_what_it_leaves_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, limit in (("MAX_SETTINGS", 3), ("MAX_LISTED", 5)):
        monkeypatch.setattr(page_module, name, limit)
    monkeypatch.setattr(chart_set, "MAX_PANELS", 2)
    compared: list[int] = []

    def counted(settings: Sequence[Mapping[str, Any]]) -> list[str]:
        compared.append(len(settings))
        return varied(settings)

    monkeypatch.setattr(page_module, "varied", counted)
    table = {**SMALL, "axes": {"frames": [1, 8], "training.learning_rate": [0.001, 0.002, 0.004]}}
    folder = made_study(tmp_path, table)
    cells = folder.cells()
    settings = next(iter(cells.values()))
    waiting = {f"waiting{number:04d}": {**settings, "seed": number} for number in range(3000)}
    with folder.held():
        folder.write_study("", {**cells, **waiting})
    report = write_report(tmp_path)
    page = Page(report.page.read_text("utf-8"))
    assert compared == [3012]  # settings are compared once, not for each cell
    assert page.text.count(": not begun") == 5
    assert len([name for name in page.charts if name.startswith("acc-bytes-panel")]) == 2
    assert len([name for name in page.ids if name.startswith("settings-")]) == 3
    assert len([name for name in page.ids if name.startswith("cell-")]) == 12
    for words in ("2,995 runs that were not begun", "9 cells' settings", "panels of 1 of 3 kinds"):
        assert words in page.text
        assert words in " ".join(report.left_out)
    assert len(pq.read_table(report.tables[0])) == 12


def test_long_texts_are_cut_and_stay_different(tmp_path: Path) -> None:
    folder = made_study(tmp_path, SMALL, [f"{'x' * 3_000}{n}" for n in range(N_TASKS * CLASSES_PER_TASK)])
    for number, config in enumerate(sorted(folder.path.glob("runs/*/config.toml"))):
        text, n_changed = re.subn(
            'codec = ".*"', rf'codec = "{"y" * 3_000}{number % 3}\\t\\u007f"', config.read_text("utf-8")
        )
        assert n_changed == 1
        config.write_text(text, "utf-8")
    folder.log("0123456789ab").write_text("z" * 60_000 + "\nlast\x00", "utf-8")
    folder.record_failure("0123456789ab", "z" * 60_000, 1, {"method.name": "z" * 3_000})
    report = write_report(folder.path)
    page = Page(report.page.read_text("utf-8"))
    assert len({row["cell"] for row in page.tables["cells"]}) == len(report.layout.groups) > 3
    assert max(len(row["cell"]) for row in page.tables["cells"]) < 400
    assert "3,000 characters" in page.text
    assert "60,000 characters" in page.text
    assert not re.search(r"[yz]{30000}|x{400}|[\x00\x7f]", page.text)
    assert {row["memory.codec"] for row in pq.read_table(report.tables[0]).to_pylist()} >= {f"{'y' * 3_000}0\t\x7f"}


def test_charts_of_a_wide_study_show_the_best_and_say_what_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {"MAX_SERIES": 3, "MAX_ALL_BUDGETS": 2, "MAX_REFERENCES": 1, "MAX_TASKS": 4}
    for name, limit in limits.items():
        monkeypatch.setattr(chart_set, name, limit)
    monkeypatch.setattr(chart_data, "MAX_TASKS", 4)
    monkeypatch.setattr(page_module, "MAX_ANSWERS", 2)
    table: dict[str, Any] = {"base": {"scenario": {"tasks": 2}}, "constraints": {"budgets": ["1MB", "2MB", "3MB"]}}
    table["axes"] = {"method": ["naive", "finetune"], "training.learning_rate": [0.001 * n for n in range(1, 6)]}
    report = write_report(made_study(tmp_path, table).path)
    page = Page(report.page.read_text("utf-8"))
    assert {row["budget"] for row in page.tables["cells"]} == {"1MB", "3MB"}
    assert len({row["series"] for row in page.tables["cells"]}) == 3
    assert len(page.tables["references"]) == 1
    assert {row["task"] for row in page.tables["tasks"]} == {1, 3, 5, 7}
    shown = {row["cell"]: row["is_front"] for row in page.tables["cells"]}
    best = max(report.layout.groups, key=lambda group: group.acc.mean)
    assert shown[report.layout.name(best)]
    for words in (
        "in charts, 2 of 5 lines",
        "in charts, 1 of 3 budgets",
        "in charts, 4 cells without a memory",
        "all but 4 of 7 tasks",
        "1 budgets in the first table",
    ):
        assert words in page.text
        assert words in " ".join(report.left_out)
    assert len([name for name in page.ids if name.startswith("cell-")]) == 20  # the table has them all


def test_memories_are_shown_where_their_files_are_at_hand(tmp_path: Path, memory_path: Path) -> None:
    folder = made_study(tmp_path / "study", SMALL)
    run = sorted((folder.path / "runs").iterdir())[0]
    shutil.copytree(memory_path, run / MEMORY_NAME)
    report = write_report(folder.path)
    page = Page(report.page.read_text("utf-8"))
    assert page.sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    (run / MEMORY_NAME / "zarr.json").write_text("{", "utf-8")
    assert "it can't be read" in Page(write_report(folder.path).page.read_text("utf-8")).text


@pytest.mark.parametrize(
    ("origin", "n_classes", "frames", "theirs"),
    [
        ("the benchmark's task file UCF101_data", 101, 8, {81.12, 80.97, 9.51}),
        ("the benchmark's task file Kinetics_data", 400, "all", {32.04, 36.54}),
        ("made from data set ucf101", 101, 8, set()),
        ("the benchmark's task file X", 42, 8, set()),
    ],
)
def test_published_figures_stand_beside_ours(
    tmp_path: Path, origin: str, n_classes: int, frames: Any, theirs: set[float]
) -> None:
    videos = {101: 2020, 400: 8000}.get(n_classes, 100)
    table = {"base": {"method": "icarl"}, "axes": {"frames": [frames]}, "constraints": {"budgets": [f"{videos}v"]}}
    (cell,) = StudyDefinition.parse(table).expand("shards/x")
    metrics = made_metrics(cell, [f"c{n}" for n in range(n_classes)], n_tasks=10)
    metrics["scenario"] |= {"origin": origin}
    write_run(tmp_path / "runs" / cell.run_id, cell, metrics)
    groups = ReportLayout.from_runs(read_results(tmp_path).complete).groups
    rows = published(groups)
    assert theirs <= {row.acc for row in rows}
    assert bool(rows) == bool(theirs)
    if theirs:
        assert {row.name for row in rows if row.ours} == {
            f"icarl, {'all frames' if frames == 'all' else f'K {frames}'}"
        }
        assert "(theirs)" in Page(write_report(tmp_path).page.read_text("utf-8")).text
