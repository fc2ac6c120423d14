"""Rows that charts draw: one per group, and one per group and task."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from vclimb.study.naming import parts_label, size_label
from vclimb.study.report.figures import ACC, BWF, BYTES, FRAMES, Figure, printable, spread_text
from vclimb.study.report.group import Group, Spread
from vclimb.study.report.groups import ReportLayout, best, evenly
from vclimb.study.report.results import RunResult

Row = dict[str, Any]
FRONT = "Pareto front"
# Groups of equal bytes are drawn side by side, so that none hides another: over at most this share of the axis, and
# this share of the gap between two budgets.
_APART_OF_AXIS, _APART_OF_GAP = 0.11, 0.55
MAX_KINDS = 12
"""Largest number of kinds of memory that one legend names; more are drawn as colours (panels) and markers (series)."""
LABEL_WIDTH = 0.6
"""Largest width of a label in a chart, as a share of the chart's width."""
MAX_TASKS = 200
"""Largest number of tasks that a curve shows."""

CURVES: dict[str, Callable[[RunResult], list[float]]] = {
    "acc": lambda run: run.series("acc_after_each_task"),
    "forgotten": lambda run: run.forgetting,
}
"""Column of the task rows -> figure of each task."""


def cell_rows(layout: ReportLayout, front: Container[int]) -> list[Row]:
    """Make a row for each group that keeps anything. Figures in percent are None where they were not measured.

    Args:
        front: `id(group)` of the groups on the Pareto front.
    """
    factors = {figure.name: _factors(layout, figure) for figure in (BYTES, FRAMES)}
    tops = {budget: (best(groups := layout.at_budget(budget)), _least(groups)) for budget in layout.budgets}
    rows = []
    for group in layout.groups:
        row = _row(layout, group) | {
            "kind": printable(layout.name_without_budget(group)),
            "is_fixed": False,
            "panel": printable(layout.panel_of(group)),
            "series": printable(layout.series_values[layout.series_of(group)]),
            "budget": printable(group.budget),
            "is_front": id(group) in front,
            "is_best_acc": tops[group.budget][0] is group,
            "is_best_bwf": tops[group.budget][1] is group,
        }
        for figure in (BYTES, FRAMES):
            amount = figure.spread(group).mean
            row[figure.name] = amount * factors[figure.name][id(group)] if amount > 0 else None
        rows.append(row)
    return rows + [_fixed_row(layout, group, id(group) in front) for group in layout.fixed]


def _fixed_row(layout: ReportLayout, group: Group, is_front: bool) -> Row:
    """Make the row of a group that keeps no exemplars: it belongs to no budget, panel or series but its own."""
    names = dict.fromkeys(("kind", "panel", "series"), printable(layout.name_without_budget(group)))
    return _row(layout, group) | names | {"is_fixed": True, "is_front": is_front, "bytes": group.bytes.mean}


def front_rows(layout: ReportLayout, cells: Sequence[Row]) -> list[Row]:
    """Make a row for each corner of the Pareto front, and one where the front leaves the chart.

    The column `label` is empty where there is no room for a text, and where the next corner has the same.

    Args:
        cells: Rows of `cell_rows`, which say where groups are drawn.
    """
    (left, right), (low, high) = x_domain(layout, BYTES), y_domain(layout, ACC)
    front = sorted((row for row in cells if row["is_front"]), key=lambda row: float(row["acc"]))
    name = "kind" if len(layout.kinds) <= MAX_KINDS else "series"
    rows: list[Row] = []
    labelled: list[tuple[float, float, float]] = []  # places and widths as shares of the chart
    x_after, label_after = right, ""
    for row in reversed(front):  # the best first: its label is wanted most
        x_after = min(x_after, row["bytes"])  # marks stand a little apart from their bytes; the line never goes back
        x, y = math.log(row["bytes"] / left) / math.log(right / left), (row["acc"] - low) / (high - low)
        width, label = min(0.016 * len(row[name]), LABEL_WIDTH), row[name]
        align = "left" if x < LABEL_WIDTH / 2 else "right" if x > 1 - LABEL_WIDTH / 2 else "center"
        middle = x + {"left": width / 2, "right": -width / 2, "center": 0.0}[align]
        is_shown = label != label_after and all(
            abs(middle - middle2) > (width + width2) / 2 or abs(y - y2) > 0.07 for middle2, y2, width2 in labelled
        )
        if is_shown:
            labelled.append((middle, y, width))
            label_after = label  # corners of one kind in a row share a label
        rows.append({"bytes": x_after, "acc": row["acc"], "label": label if is_shown else "", "align": align})
    if front:
        rows.insert(0, {"bytes": right, "acc": front[-1]["acc"], "label": "", "align": "center"})
    return [row | {"line": FRONT} for row in reversed(rows)]


def reference_rows(layout: ReportLayout) -> list[Row]:
    """Make a row for each group without exemplars, those that keep nothing first."""
    groups = [*layout.references, *layout.fixed]
    return [_row(layout, group) | {"number": n, "is_fixed": group.is_fixed} for n, group in enumerate(groups)]


def task_rows(layout: ReportLayout, budget: str, groups: Sequence[Group]) -> list[Row]:
    """Make a row for each task of each group that is drawn task by task at a budget."""
    rows = []
    for group in groups:
        texts = {name: value for name, value in _row(layout, group).items() if isinstance(value, str)}
        texts |= {"at": printable(budget), "name": printable(layout.name_without_budget(group))}
        curves = {name: group.curve(curve) for name, curve in CURVES.items()}
        for task in evenly(range(max(map(len, curves.values()))), MAX_TASKS):
            row: Row = texts | {"task": task + 1}
            for name, curve in curves.items():
                if task < len(curve):
                    row |= _percent(name, curve[task])
            rows.append(row)
    return rows


def linear_domain(spreads: Iterable[Spread], floor: float | None = None) -> tuple[float, float]:
    """Choose the ends of an axis in percent.

    Args:
        spreads: Fractions that the axis must show.
        floor: Percentage below which the axis never begins.
    """
    values = [100 * value for spread in spreads if spread.n for value in (spread.low, spread.high)] or [0.0, 100.0]
    low, high = min(values), max(values)
    room = max((high - low) * 0.08, (5 - (high - low)) / 2)  # at least 5 points: noise must not look like a mountain
    return (low - room if floor is None else max(low - room, floor)), high + room


def log_domain(values: Iterable[float]) -> tuple[float, float]:
    """Choose the ends of a logarithmic axis; values that are not above 0 are left out."""
    known = [value for value in values if value > 0] or [1.0, 10.0]
    low, high = min(known), max(known)
    room = max(1.3, (high / low) ** 0.1)
    return low / room, high * room


def _row(layout: ReportLayout, group: Group) -> Row:
    memory = ""
    if group.keeps_exemplars:
        videos = group.spread(lambda run: run.memory("videos")).mean
        memory = f"{size_label(group.bytes.mean)}, {videos:,.0f} videos, {group.frames.mean:,.0f} frames"
    elif group.parts:
        memory = f"{size_label(group.bytes.mean)}: {parts_label(group.parts)}"
    return {
        "cell": printable(layout.name(group)),
        **_percent("acc", group.acc),
        **_percent("bwf", group.bwf),
        "acc_text": spread_text(group.acc),
        "bwf_text": spread_text(group.bwf),
        "memory": memory or "none",
        "runs": printable(group.run_ids),
        "href": f"#{group.anchor}",
    }


def _percent(name: str, spread: Spread) -> Row:
    """Make the columns of a figure: its mean, and its range where seeds differ."""
    if not spread.n:
        return {name: None}
    row = {name: round(100 * spread.mean, 3)}
    if spread.n > 1 and spread.low < spread.high:
        row |= {f"{name}_low": round(100 * spread.low, 3), f"{name}_high": round(100 * spread.high, 3)}
    return row


def _least(groups: Iterable[Group]) -> Group | None:
    known = [group for group in groups if BWF.spread(group).n]
    return min(known, key=lambda group: group.bwf.mean, default=None)


def _factors(layout: ReportLayout, figure: Figure) -> dict[int, float]:
    """Choose the factor by which each group is moved along a logarithmic axis. Keys are `id(group)`."""
    amounts = {id(group): figure.spread(group).mean for group in layout.groups}
    low, high = log_domain(amounts.values())
    middles = []
    for budget in layout.budgets:
        known = [math.log(amount) for g in layout.at_budget(budget) if (amount := amounts[id(g)]) > 0]
        middles += [median(known)] if known else []
    gaps = [after - before for before, after in pairwise(sorted(middles)) if after - before > 0.01]
    panels = {name: number for number, name in enumerate(layout.panel_names)}
    n_places = len(layout.series_values) * len(panels)
    of_axis = min(_APART_OF_AXIS, 0.02 * n_places) * math.log(high / low)
    width = min([of_axis, *(_APART_OF_GAP * gap for gap in gaps)])
    factors = {}
    for group in layout.groups:
        place = layout.series_of(group) * len(panels) + panels[layout.panel_of(group)]
        factors[id(group)] = math.exp(width * (place / (n_places - 1) - 0.5)) if n_places > 1 else 1.0
    return factors


def y_domain(layout: ReportLayout, figure: Figure) -> tuple[float, float]:
    """Choose one axis of a figure in percent for all charts of a study."""
    return linear_domain(map(figure.spread, layout.every_group), floor=0 if figure is ACC else None)


def x_domain(layout: ReportLayout, figure: Figure) -> tuple[float, float]:
    """Choose one logarithmic axis for all charts of a study."""
    return log_domain(figure.spread(group).mean for group in layout.keeping)
