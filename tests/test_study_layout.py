"""How runs become cells, lines and panels: what is a seed of what, the front, and the best of a budget."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from study_cases import BASE, CLASSES_PER_TASK, JHMDB, N_TASKS, cells, made_metrics, made_study, write_run

from vclimb.study.report.groups import Layout, Spread
from vclimb.study.report.heat_map import heat_map
from vclimb.study.report.plots import ACC, BWF, tip
from vclimb.study.report.results import read_results
from vclimb.study.report.svg import log_scale


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study of J-HMDB-21 with made results; nobody may change it."""
    return made_study(tmp_path_factory.mktemp("layout") / "jhmdb21", JHMDB).path


def test_front_holds_what_nothing_smaller_beats(study: Path) -> None:
    layout = Layout.of(read_results(study).complete)
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


def test_names_of_lines_and_the_front_are_found_once(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout.of(read_results(study).complete)
    calls: list[str] = []
    values = Layout.values

    def counted(self: Layout, name: str) -> list[Any]:
        calls.append(name)
        return values(self, name)

    monkeypatch.setattr(Layout, "values", counted)
    assert {layout.series_of(group) for group in layout.groups} == set(range(6))
    assert calls == ["memory.frames"]
    assert layout.front is layout.front


def test_the_best_of_a_budget_is_framed_in_one_panel_alone(study: Path) -> None:
    layout = Layout.of(read_results(study).complete)
    assert len(layout.panel_names) == 4
    for figure, best in ((ACC, max), (BWF, min)):
        framed = []
        for name in layout.panel_names:
            for link in ElementTree.fromstring(heat_map(layout, name, figure)).iter():
                if any(part.get("stroke-width") == "2.5" for part in link):
                    framed += [part.text for part in link if part.tag.endswith("title")]
        tops = [best(layout.at_budget(b), key=lambda group: figure.of(group).mean) for b in layout.budgets]
        assert sorted(framed, key=str) == sorted(tip(layout, group) for group in tops)


def test_runs_of_two_data_sets_are_no_seeds_of_one_cell(tmp_path: Path) -> None:
    classes = [f"class {number}" for number in range(N_TASKS * CLASSES_PER_TASK)]
    (cell,) = cells({"base": BASE, "axes": {"frames": [8]}})
    for name in ("hmdb51", "ucf101"):
        write_run(tmp_path / name, cell, made_metrics(cell, classes, dataset=name))
    results = read_results(tmp_path)
    layout = Layout.of(results.complete)
    assert [group.acc.n for group in layout.groups] == [1, 1]
    assert {layout.name(group) for group in layout.groups} == {"data set hmdb51", "data set ucf101"}
    assert results.set_aside == []


def test_a_difference_within_the_seeds_spread_is_said_to_be() -> None:
    assert Spread.of([0.5, 0.6]).overlaps(Spread.of([0.58, 0.7]))
    assert not Spread.of([0.5, 0.6]).overlaps(Spread.of([0.61, 0.7]))
    assert Spread.of([float("nan")]).n == 0


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.96e6, 3.99e6], [1e6, 2e6, 4e6]),  # budgets of 1, 2 and 4 MB
        ([390.0, 1800.0], [500, 1000, 2000]),
        ([1.0, 100.0], [1, 3, 10, 30, 100]),
    ],
)
def test_logarithmic_axes_have_round_ticks_enough_to_read_them_by(values: list[float], ticks: list[float]) -> None:
    assert log_scale(values, 0, 1).ticks() == pytest.approx(ticks)
