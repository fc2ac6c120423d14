"""Choose the charts of a report, and draw them as files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import vl_convert

from vclimb.study.report.chart_data import (
    CURVES,
    MAX_TASKS,
    Row,
    cell_rows,
    front_rows,
    linear_domain,
    reference_rows,
    task_rows,
)
from vclimb.study.report.chart_style import CONFIG, FILE_WIDTH, Spec
from vclimb.study.report.charts import dots, heat_map, over_tasks, series_lines
from vclimb.study.report.figures import ACC, BWF, BYTES, FRAMES
from vclimb.study.report.group import Group
from vclimb.study.report.groups import ReportLayout, best, evenly
from vclimb.study.report.part_bars import bars_of, part_bars, part_rows
from vclimb.study.report.scatter import scatter

MAX_PANELS, MAX_BUDGETS, MAX_CURVES = 12, 8, 16
MAX_SERIES, MAX_ALL_BUDGETS, MAX_REFERENCES, MAX_POINTS = 24, 24, 16, 5000
"""What all charts together show at most of lines, budgets, cells without a memory, and cells."""
_VERSION = vl_convert.get_vegalite_versions()[-1]  # the newest, which the page's library is of as well
_SCHEMA = f"https://vega.github.io/schema/vega-lite/v{_VERSION}.json"


@dataclass(frozen=True)
class ReportChart:
    """A chart of a report.

    Attributes:
        name: Name of its file, without the suffix.
        spec: Vega-Lite specification without its data.
        title: What the chart shows, for readers who can't see it.
    """

    name: str
    spec: Spec
    title: str


@dataclass(frozen=True)
class ChartSet:
    """All charts of a report.

    Attributes:
        sections: Section of the page -> its charts.
        tables: Name of a table -> the rows that charts draw.
        left_out: Sentences that say which charts were left out.
    """

    sections: dict[str, list[ReportChart]]
    tables: dict[str, list[Row]]
    left_out: list[str]

    def __iter__(self) -> Iterator[ReportChart]:
        return (chart for charts in self.sections.values() for chart in charts)

    def to_svg(self, chart: ReportChart) -> str:
        """Draw a chart as a picture of its own, with all texts escaped."""
        spec = chart.spec | {"datasets": self._drawn_rows(chart.spec), "width": FILE_WIDTH}
        # Vega shortens texts by UTF-16 units, and vl-convert fails on half of a pair, as of an emoji.
        text = re.sub("[^\u0000-\uffff]", "\N{REPLACEMENT CHARACTER}", json.dumps(spec, ensure_ascii=False))
        return vl_convert.vegalite_to_svg(text, vl_version=_VERSION)

    def _drawn_rows(self, spec: Spec) -> dict[str, list[Row]]:
        """Select the rows that the equality filters of a chart let through: reading all rows takes most of the time."""
        selected: dict[str, list[Row]] = {}
        for layer in spec["layer"]:
            name, filters = layer["data"]["name"], [step.get("filter") for step in layer["transform"]]
            equal = {step["field"]: step["equal"] for step in filters if isinstance(step, dict)}
            rows = [row for row in self.tables[name] if all(row[field] == value for field, value in equal.items())]
            selected[name] = max(selected.get(name, []), rows, key=len)
        return selected


def draw_charts(whole: ReportLayout) -> ChartSet:
    """Choose and specify the charts of a study; none where no complete run keeps anything between tasks."""
    if not whole.keeping:
        return ChartSet({}, {}, [])
    layout = _readable(whole)
    panels, budgets = _chosen_panels(layout), _chosen_budgets(layout)
    cells = cell_rows(layout, {id(group) for group in whole.front})
    bars, n_bars_left = bars_of(layout)
    curves = {budget: _groups_by_task(layout, budget) for _, budget in budgets}
    tables = {
        "cells": cells,
        "references": reference_rows(layout),
        "front": front_rows(layout, cells),
        "parts": part_rows(bars),
        "tasks": [row for budget, groups in curves.items() for row in task_rows(layout, budget, groups)],
    }
    sections = {
        "front": [
            _chart(
                "acc-bytes", scatter(layout, BYTES, ACC, with_front=True), "Acc against all bytes kept between tasks"
            )
        ],
        "parts": [_chart("bytes-by-part", part_bars(bars), "What the bytes are, by part")],
        "others": [
            _chart(f"{y.name}-{x.name}", scatter(layout, x, y), f"{y.name.capitalize()} against {x.name}")
            for x, y in ((FRAMES, ACC), (BYTES, BWF), (FRAMES, BWF))
            if layout.groups or x is BYTES
        ],
    }
    if len(layout.budgets) > 1 and layout.series:
        for y in (ACC, BWF):
            sections[f"lines-{y.name}"] = [
                _chart(
                    f"{y.name}-bytes-panel{n}", series_lines(layout, panel, BYTES, y), f"{y.title} over bytes: {panel}"
                )
                for n, panel in panels
            ]
        for figure in (ACC, BWF):
            sections[f"heat-{figure.name}"] = [
                _chart(f"heat-{figure.name}-panel{n}", heat_map(layout, panel, figure), f"{figure.title}: {panel}")
                for n, panel in panels
            ]
    elif layout.series:
        sections["dots"] = [
            _chart(f"dots-{figure.name}-{n}", dots(layout, budget, figure), f"{figure.title} at {budget}")
            for n, budget in budgets
            for figure in (ACC, BWF)
        ]
    for section, stem, column in (("tasks", "acc-tasks", "acc"), ("forgetting", "forgetting", "forgotten")):
        spreads = [s for groups in curves.values() for group in groups for s in group.curve(CURVES[column])]
        domain = linear_domain(spreads)
        sections[section] = [
            _chart(f"{stem}-{n}", over_tasks(layout, budget, curves[budget], column, domain), f"{section}, {budget}")
            for n, budget in budgets
        ]
    left_out = [*_cells_left_out(whole, layout), *_left_out(layout, len(panels), len(budgets))]
    if n_bars_left:
        left_out.append(f"{n_bars_left:,} of {len(bars) + n_bars_left:,} bars of bytes by part, the least accurate")
    return ChartSet(sections, tables, left_out)


def _readable(layout: ReportLayout) -> ReportLayout:
    """Select what charts can show: the lines and cells with the highest accuracies, and an even choice of budgets."""
    tops: dict[int, float] = {}
    for group in layout.groups:
        series = layout.series_of(group)
        tops[series] = max(tops.get(series, 0.0), _accuracy(group))
    kept_series = set(sorted(tops, key=lambda series: -tops[series])[:MAX_SERIES])
    kept_budgets = set(evenly(layout.budgets, MAX_ALL_BUDGETS))
    groups = [g for g in layout.groups if g.budget in kept_budgets and layout.series_of(g) in kept_series]
    most_accurate = {id(group) for group in sorted(groups, key=_accuracy, reverse=True)[:MAX_POINTS]}
    groups = [group for group in groups if id(group) in most_accurate]
    present = {group.budget for group in groups}
    return replace(
        layout,
        groups=tuple(groups),
        fixed=tuple(sorted(layout.fixed, key=_accuracy, reverse=True)[:MAX_REFERENCES]),
        references=tuple(sorted(layout.references, key=_accuracy, reverse=True)[:MAX_REFERENCES]),
        budgets=tuple(budget for budget in layout.budgets if budget in present),
    )


def _accuracy(group: Group) -> float:
    return group.acc.mean if group.acc.n else 0.0


def _chart(name: str, chart: Spec, title: str) -> ReportChart:
    return ReportChart(name, {"$schema": _SCHEMA, "width": "container", **chart, "config": CONFIG}, title)


def _chosen_panels(layout: ReportLayout) -> list[tuple[int, str]]:
    """Number and name of the panels to draw: where there are too many, those with the most accurate groups."""
    numbered = list(enumerate(layout.panel_names))
    if len(numbered) <= MAX_PANELS:
        return numbered
    tops: dict[str, float] = {}
    for group in layout.groups:
        name = layout.panel_of(group)
        tops[name] = max(tops.get(name, 0.0), _accuracy(group))
    return sorted(sorted(numbered, key=lambda panel: -tops[panel[1]])[:MAX_PANELS])


def _chosen_budgets(layout: ReportLayout) -> list[tuple[int, str]]:
    """Number and text of the budgets to draw one by one: where there are too many, an even choice of all sizes."""
    return evenly(list(enumerate(layout.budgets)), MAX_BUDGETS)


def _groups_by_task(layout: ReportLayout, budget: str) -> list[Group]:
    """Select the groups to draw task by task: the best of each panel, or all groups of a single panel; references."""
    groups: Iterable[Group] = layout.at_budget(budget)
    if len(layout.panel_names) > 1:
        members: dict[str, list[Group]] = {}
        for group in groups:
            members.setdefault(layout.panel_of(group), []).append(group)
        groups = [top for group in members.values() if (top := best(group)) is not None]
    groups = list(groups)
    if len(groups) > MAX_CURVES:
        kept = {id(group) for group in sorted(groups, key=_accuracy, reverse=True)[:MAX_CURVES]}
        groups = [group for group in groups if id(group) in kept]
    return [*groups, *layout.without_exemplars]


def _cells_left_out(whole: ReportLayout, drawn: ReportLayout) -> Iterator[str]:
    if lines := len(whole.series_values) - len(drawn.series_values):
        yield f"in charts, {lines:,} of {len(whole.series_values):,} lines, the least accurate"
    if budgets := len(whole.budgets) - len(drawn.budgets):
        yield f"in charts, {budgets:,} of {len(whole.budgets):,} budgets, evenly chosen"
    if references := len(whole.references) - len(drawn.references):
        yield f"in charts, {references:,} cells without a memory, the least accurate"
    if fixed := len(whole.fixed) - len(drawn.fixed):
        yield f"in charts, {fixed:,} cells without exemplars, the least accurate"
    if cells := len(whole.groups) - len(drawn.groups):
        yield f"in charts, {cells:,} of {len(whole.groups):,} cells with a memory"
    runs = [run for group in drawn.groups for run in group.runs]
    n_tasks = max((len(run.series("acc_after_each_task")) for run in runs), default=0)
    if n_tasks > MAX_TASKS:
        yield f"in charts task by task, all but {MAX_TASKS} of {n_tasks:,} tasks"


def _left_out(layout: ReportLayout, n_panels: int, n_budgets: int) -> Iterator[str]:
    n_kinds = len(layout.panel_names)
    if n_panels < n_kinds and layout.series and len(layout.budgets) > 1:
        yield f"panels of {n_kinds - n_panels} of {n_kinds} kinds of cells, the least accurate"
    if n_budgets < len(layout.budgets):
        yield f"charts task by task of {len(layout.budgets) - n_budgets} of {len(layout.budgets)} budgets"
    drawn = [{layout.panel_of(g) if n_kinds > 1 else id(g) for g in layout.at_budget(b)} for b in layout.budgets]
    if max(map(len, drawn), default=0) > MAX_CURVES:
        yield f"in charts task by task, all but the {MAX_CURVES} most accurate cells of a budget"
