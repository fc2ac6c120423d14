"""Charts of a study as Vega-Lite specifications, over the tables of `chart_data`.

Charts name their tables (`cells`, `references`, `front`, `tasks`): the page holds each table once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vclimb.study.report.chart_data import linear_domain
from vclimb.study.report.chart_style import (
    BLUES,
    DASHES,
    FAINT,
    FIXED_MARKERS,
    FIXED_SIZE,
    INK,
    MARKERS,
    PALETTE,
    Spec,
    faded,
    heading,
    legend,
    linear_scale,
    percent_axis,
    picked,
    scale_of,
    zoom,
)
from vclimb.study.report.encodings import (
    LINK,
    dashes,
    layer,
    nominal,
    series_legend,
    shown,
    spread_bars,
    x_axis,
    y_axis,
)
from vclimb.study.report.figures import Figure, printable
from vclimb.study.report.group import Group
from vclimb.study.report.groups import ReportLayout

TASK_TITLES = {"acc": "Acc after each task (%)", "forgotten": "forgotten of each task (points)"}
"""Column of the task rows -> title of its axis."""


def series_lines(layout: ReportLayout, panel: str, x: Figure, y: Figure) -> Spec:
    """Draw a line for each value of the series, over budgets, in one panel. All panels have the same axes."""
    series = shown(layout.series_values)
    pick, key = picked("series"), series_legend(layout)
    place = {"x": x_axis(layout, x), "y": y_axis(layout, y)}
    common = {"color": nominal("series", scale_of(series, PALETTE), key), "opacity": faded([pick])}
    filters = [{"field": "panel", "equal": printable(panel)}]
    layers = [
        layer(
            "references",
            {"type": "rule", "color": FAINT, "strokeDash": DASHES[1 + number % (len(DASHES) - 1)]},
            {"y": place["y"], **LINK},
            [f"datum.number === {number}"],
        )
        for number in range(len(layout.references))
    ]
    dash = {"strokeDash": dashes("series", series)}
    shape = nominal("series", scale_of(series, MARKERS), key)
    fixed = {"type": "point", "color": FAINT, "shape": FIXED_MARKERS[0], "size": FIXED_SIZE}
    layers += [
        layer("cells", {"type": "line"}, place | common | dash, filters),
        spread_bars("cells", y.name, {"x": place["x"], **common}, filters),
        layer("cells", fixed, place | LINK, ["datum.is_fixed"]),
        layer("cells", {"type": "point"}, place | common | {"shape": shape, **LINK}, filters, [zoom("x", "y"), pick]),
    ]
    return {"layer": layers, "height": 240, "title": heading(panel)}


def dots(layout: ReportLayout, budget: str, figure: Figure) -> Spec:
    """Draw the groups of one budget: a row for each value of the series, a colour for each panel."""
    series, panels = shown(layout.series_values), shown(layout.panel_names)
    has_panels = len(panels) > 1
    key = legend(panels) if has_panels else None
    picks = [picked("panel")] * has_panels
    scale = linear_scale(linear_domain(figure.spread(group) for group in layout.at_budget(budget)))
    x = {"type": "quantitative", "scale": scale, "axis": percent_axis(figure.title)}
    common = {
        "y": {
            "field": "series",
            "type": "nominal",
            "sort": series,
            "axis": {"title": None, "labelLimit": 150, "grid": True, "labelFontSize": 12},
        },
        "yOffset": {"field": "panel", "type": "nominal", "sort": panels},
        "color": nominal("panel", scale_of(panels, PALETTE), key),
        "opacity": faded(picks),
    }
    filters: list[Any] = [{"field": "budget", "equal": printable(budget)}]
    bars = common | {"x": x | {"field": f"{figure.name}_low"}, "x2": {"field": f"{figure.name}_high"}}
    shape = nominal("panel", scale_of(panels, MARKERS), key)
    points = common | {"x": x | {"field": figure.name}, "shape": shape, **LINK}
    layers = [
        layer("cells", {"type": "rule"}, bars, [*filters, f"isValid(datum.{figure.name}_low)"]),
        layer("cells", {"type": "point"}, points, filters, [zoom("x"), *picks]),
    ]
    return {"layer": layers, "height": len(series) * max(28, 13 * len(panels)), "title": heading(budget)}


def heat_map(layout: ReportLayout, panel: str, figure: Figure) -> Spec:
    """Draw a panel's figure: rows are the series, columns the budgets. The best of each budget has a frame."""
    series, budgets = shown(layout.series_values), shown(layout.budgets)
    name = figure.name
    means = [100 * spread.mean for group in layout.groups if (spread := figure.spread(group)).n] or [0.0, 100.0]
    low, high = min(means), max(max(means), min(means) + 1)
    plain = {"ticks": False, "domain": False, "grid": False}
    place = {
        "x": nominal("budget", {"domain": budgets})
        | {"axis": {"title": "budget", "orient": "top", "labelAngle": 0, "labelOverlap": "greedy", **plain}},
        "y": nominal("series", {"domain": series})
        | {"axis": {"title": None, "labelLimit": 120, "labelFontSize": 12, "labelPadding": 6, **plain}},
    }
    steps = [low + (high - low) * number / (len(BLUES) - 1) for number in range(len(BLUES))]
    colour = {"field": name, "type": "quantitative", "scale": {"domain": steps, "range": list(BLUES)}, "legend": None}
    is_dark = f"datum.{name} > {low + 0.55 * (high - low)}"
    ink = {"condition": {"test": is_dark, "value": "white"}, "value": INK}
    filters: list[Any] = [{"field": "panel", "equal": printable(panel)}, f"isValid(datum.{name})"]
    # Ranges are written where columns are wide enough; the mean then stands higher.
    has_room = f"width > {66 * len(budgets)}"
    mean: Spec = {"type": "text", "fontSize": 12.5, "fontWeight": 600}
    mean["dy"] = {"expr": f"{has_room} && isValid(datum.{name}_low) ? -5 : 0"}
    range_text = {"type": "text", "fontSize": 9.5, "dy": 8, "opacity": {"expr": f"{has_room} ? 1 : 0"}}
    ranges = layer("cells", range_text, place | {"text": nominal("range"), "color": ink}, filters)
    ranges["transform"] += [
        {"filter": f"isValid(datum.{name}_low)"},
        {"calculate": f"format(datum.{name}_low, '.1f') + ' to ' + format(datum.{name}_high, '.1f')", "as": "range"},
    ]
    value = {"field": name, "type": "quantitative", "format": ".1f"}
    frame = {"type": "rect", "filled": False, "stroke": PALETTE[1], "strokeWidth": 2.5}
    layers = [
        layer(
            "cells", {"type": "rect", "stroke": "white", "strokeWidth": 2}, place | {"color": colour, **LINK}, filters
        ),
        layer("cells", frame, place, [*filters, f"datum.is_best_{name}"]),
        layer("cells", mean, place | {"text": value, "color": ink}, filters),
        ranges,
    ]
    return {"layer": layers, "height": 38 * len(series), "title": heading(panel)}


def over_tasks(
    layout: ReportLayout, budget: str, groups: Sequence[Group], column: str, domain: Sequence[float]
) -> Spec:
    """Draw a figure of each task for some groups of one budget.

    Args:
        groups: Groups to draw; references among them are grey.
        column: Column of the task rows: `acc` or `forgotten`.
        domain: Ends of the vertical axis, the same for all budgets.
    """
    names = shown(layout.name_without_budget(group) for group in groups)
    colours, markers = zip(*(_mark(layout, group) for group in groups), strict=True)
    pick, key = picked("name"), legend(names)
    n_tasks = max((len(run.series("acc_after_each_task")) for group in groups for run in group.runs), default=1)
    common = {
        "x": {
            "field": "task",
            "type": "quantitative",
            "scale": linear_scale([0.6, n_tasks + 0.4]),
            "axis": {"title": "task", "format": "d", "tickMinStep": 1, "tickCount": min(n_tasks, 12)},
        },
        "color": nominal("name", scale_of(names, colours), key),
        "opacity": faded([pick]),
    }
    axis = percent_axis(TASK_TITLES[column])
    y = {"y": {"field": column, "type": "quantitative", "scale": linear_scale(domain), "axis": axis}}
    shape = {"shape": nominal("name", scale_of(names, markers), key)}
    filters: list[Any] = [{"field": "at", "equal": printable(budget)}, f"isValid(datum.{column})"]
    points = {"type": "point", "size": 45}
    layers = [
        layer("tasks", {"type": "line"}, common | y | {"strokeDash": dashes("name", names)}, filters),
        spread_bars("tasks", column, common, filters),
        layer("tasks", points, common | y | shape | LINK, filters, [zoom("x", "y"), pick]),
    ]
    return {"layer": layers, "height": 220, "title": heading(budget)}


def _mark(layout: ReportLayout, group: Group) -> tuple[str, str]:
    """Choose colour and marker of a group that is drawn task by task."""
    if not group.has_budget:
        number = layout.without_exemplars.index(group)
        return FAINT, MARKERS[(5 + number) % len(MARKERS)]
    series = layout.series_of(group)
    number = layout.panel_names.index(layout.panel_of(group)) if len(layout.panel_names) > 1 else series
    return PALETTE[number % len(PALETTE)], MARKERS[series % len(MARKERS)]
