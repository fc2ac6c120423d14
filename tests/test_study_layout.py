"""Runs become groups, lines and panels; the Pareto front and the best group of a budget are found."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path

import pytest
import vl_convert
from study_cases import BASE, CLASSES_PER_TASK, JHMDB, N_TASKS, cells, made_metrics, made_study, write_run

from vclimb.study.report.chart_data import cell_rows, log_domain
from vclimb.study.report.chart_style import log_axis
from vclimb.study.report.figures import ACC, BWF, BYTES, FRAMES, Figure
from vclimb.study.report.group import Spread
from vclimb.study.report.groups import ReportLayout
from vclimb.study.report.results import read_results


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study of J-HMDB-21 with made results; no test may change it."""
    return made_study(tmp_path_factory.mktemp("layout") / "jhmdb21", JHMDB).path


def test_front_holds_the_groups_that_no_smaller_memory_beats(study: Path) -> None:
    layout = ReportLayout.from_runs(read_results(study).complete)
    assert layout.series == "memory.frames"
    assert layout.panels == ("method.name", "consistency.weight")
    assert layout.budgets == ("500kB", "1MB", "2MB")
    assert layout.series_values == ["K 1", "K 2", "K 4", "K 8", "K 16", "K all"]
    assert len(layout.references) == 6  # finetune, without TC and with it, through each K (all: 8)
    front = layout.front
    assert front
    for group in layout.groups:
        beaten = [g for g in layout.groups if g.bytes.mean <= group.bytes.mean and g.acc.mean > group.acc.mean]
        assert (group in front) <= (not beaten)
    assert max(layout.groups, key=lambda group: group.acc.mean) in front


def test_best_of_a_budget_is_marked_once_over_all_panels(study: Path) -> None:
    layout = ReportLayout.from_runs(read_results(study).complete)
    rows = cell_rows(layout, ())
    assert len({row["panel"] for row in rows}) == 4
    for figure, choose in ((ACC, max), (BWF, min)):
        tops = [choose(layout.at_budget(b), key=lambda group: figure.spread(group).mean) for b in layout.budgets]
        assert [row["cell"] for row in rows if row[f"is_best_{figure.name}"]] == [
            layout.name(group) for group in layout.groups if group in tops
        ]


def test_groups_of_one_budget_are_drawn_apart_within_their_budget(study: Path) -> None:
    layout = ReportLayout.from_runs(read_results(study).complete)
    rows = cell_rows(layout, ())
    places = {budget: [row["bytes"] for row in rows if row["budget"] == budget] for budget in layout.budgets}
    for row, group in zip(rows, layout.groups, strict=True):
        assert row["bytes"] == pytest.approx(group.bytes.mean, rel=0.3)
    for drawn in places.values():
        assert len({round(place) for place in drawn}) == len(drawn)
    for smaller, larger in pairwise(places.values()):
        assert max(smaller) < min(larger)


def test_runs_on_two_data_sets_are_two_cells(tmp_path: Path) -> None:
    classes = [f"class {number}" for number in range(N_TASKS * CLASSES_PER_TASK)]
    (cell,) = cells({"base": BASE, "axes": {"frames": [8]}})
    for name in ("hmdb51", "ucf101"):
        write_run(tmp_path / name, cell, made_metrics(cell, classes, dataset=name))
    results = read_results(tmp_path)
    layout = ReportLayout.from_runs(results.complete)
    assert [group.acc.n for group in layout.groups] == [1, 1]
    assert {layout.name(group) for group in layout.groups} == {"data set hmdb51", "data set ucf101"}
    assert results.set_aside == []


def test_spreads_overlap_where_their_ranges_meet() -> None:
    assert Spread.from_values([0.5, 0.6]).overlaps(Spread.from_values([0.58, 0.7]))
    assert not Spread.from_values([0.5, 0.6]).overlaps(Spread.from_values([0.61, 0.7]))
    assert Spread.from_values([float("nan")]).n == 0


@pytest.mark.parametrize(
    ("figure", "values", "labels"),
    [
        (BYTES, [0.96e6, 3.99e6], {"1 MB", "2 MB", "5 MB"}),  # budgets of 1, 2 and 4 MB
        (BYTES, [0.98e6, 1.01e6], {"800 kB", "1 MB", "1.2 MB"}),
        (FRAMES, [390.0, 1800.0], {"500", "1,000", "2,000"}),
        (FRAMES, [1.0, 100.0], {"1", "10", "100"}),
    ],
)
def test_logarithmic_axes_have_enough_round_labels(figure: Figure, values: list[float], labels: set[str]) -> None:
    scale = {"type": "log", "domain": log_domain(values), "nice": False}
    x = {"field": "x", "type": "quantitative", "scale": scale, "axis": log_axis(figure)}
    table = {"values": [{"x": value} for value in values]}
    spec = {"data": table, "mark": "point", "encoding": {"x": x}, "width": 400}
    drawn = ElementTree.fromstring(vl_convert.vegalite_to_svg(json.dumps(spec))).itertext()
    texts = [text for text in drawn if text.strip() and text != figure.title]
    assert labels <= set(texts)
    assert 3 <= len(texts) <= 12
