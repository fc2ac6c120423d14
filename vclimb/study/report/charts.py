"""Charts of a study as Vega-Lite specifications, over the tables of `chart_data`.

Charts name their tables (`cells`, `references`, `front`, `tasks`): the page holds each table once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vclimb.study.naming import title as setting_title
from vclimb.study.report.chart_data import FRONT, linear_domain, x_domain, y_domain
from vclimb.study.report.chart_style import (
    BLUES,
    DASHES,
    FAINT,
    INK,
    MARKERS,
    PALETTE,
    Spec,
    faded,
    heading,
    legend,
    linear_scale,
    log_axis,
    percent_axis,
    picked,
    scale_of,
    tooltip,
    zoom,
)
from vclimb.study.report.figures import Figure, printable
from vclimb.study.report.groups import Group, ReportLayout

_LINK: Spec = {"href": {"field": "href", "type": "nominal"}, "tooltip": tooltip()}
TASK_TITLES = {"acc": "Acc after each task (%)", "forgotten": "forgotten of each task (points)"}
"""Column of the task rows -> title of its axis."""


def scatter(layout: ReportLayout, x: Figure, y: Figure, with_front: bool = False) -> Spec:
    """Draw every group: colours are panels, markers are the series, bars are the seeds' range."""
    series, panels = _names(layout.series_values), _names(layout.panel_names)
    lines = [FRONT] * with_front + _names(layout.name(group) for group in layout.references)
    shape = _nominal("series", scale_of(series, MARKERS), _series_legend(layout))
    if len(panels) > 1:
        colour = _nominal("panel", scale_of(panels, PALETTE), legend(panels))
    else:
        colour = _nominal("series", scale_of(series, PALETTE), _series_legend(layout))
    picks = [picked("series")] * (layout.series is not None) + [picked("panel")] * (len(panels) > 1)
    place = {"x": _x(layout, x), "y": _y(layout, y)}
    line_legend = legend(lines, symbolStrokeColor=FAINT, symbolSize=300)
    dash = {"scale": scale_of(lines, DASHES), "legend": line_legend, "type": "nominal"}
    layers = []
    if layout.references:
        encoding = {"y": place["y"], "strokeDash": {"field": "cell", **dash}, **_LINK}
        layers.append(_layer("references", {"type": "rule", "color": FAINT}, encoding))
    if with_front:
        steps = {"type": "line", "interpolate": "step-after", "color": INK}
        layers.append(_layer("front", steps, place | {"strokeDash": {"field": "line", **dash}}))
        ring = {"type": "point", "filled": False, "size": 290, "stroke": INK, "strokeWidth": 1.4}
        layers.append(_layer("cells", ring, place, ["datum.is_front"]))
    opacity = faded(picks)
    layers.append(_spread_bars("cells", y.name, {"x": place["x"], "color": colour, "opacity": opacity}))
    points = place | {"color": colour, "shape": shape, "opacity": opacity, **_LINK}
    layers.append(_layer("cells", {"type": "point"}, points, params=[zoom("x", "y"), *picks]))
    if with_front:
        text = {"type": "text", "dy": -16, "fontSize": 11.5, "fontWeight": 600, "color": INK}
        layers.append(_layer("front", text, place | {"text": {"field": "label", "type": "nominal"}}))
    return {"layer": layers, "height": 320}


def series_lines(layout: ReportLayout, panel: str, x: Figure, y: Figure) -> Spec:
    """Draw a line for each value of the series, over budgets, in one panel. All panels have the same axes."""
    series = _names(layout.series_values)
    pick, key = picked("series"), _series_legend(layout)
    place = {"x": _x(layout, x), "y": _y(layout, y)}
    common = {"color": _nominal("series", scale_of(series, PALETTE), key), "opacity": faded([pick])}
    filters = [{"field": "panel", "equal": printable(panel)}]
    layers = [
        _layer(
            "references",
            {"type": "rule", "color": FAINT, "strokeDash": DASHES[1 + number % (len(DASHES) - 1)]},
            {"y": place["y"], **_LINK},
            [f"datum.number === {number}"],
        )
        for number in range(len(layout.references))
    ]
    dash = {"strokeDash": _dash("series", series)}
    shape = _nominal("series", scale_of(series, MARKERS), key)
    layers += [
        _layer("cells", {"type": "line"}, place | common | dash, filters),
        _spread_bars("cells", y.name, {"x": place["x"], **common}, filters),
        _layer("cells", {"type": "point"}, place | common | {"shape": shape, **_LINK}, filters, [zoom("x", "y"), pick]),
    ]
    return {"layer": layers, "height": 240, "title": heading(panel)}


def dots(layout: ReportLayout, budget: str, figure: Figure) -> Spec:
    """Draw the groups of one budget: a row for each value of the series, a colour for each panel."""
    series, panels = _names(layout.series_values), _names(layout.panel_names)
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
        "color": _nominal("panel", scale_of(panels, PALETTE), key),
        "opacity": faded(picks),
    }
    filters: list[Any] = [{"field": "budget", "equal": printable(budget)}]
    bars = common | {"x": x | {"field": f"{figure.name}_low"}, "x2": {"field": f"{figure.name}_high"}}
    shape = _nominal("panel", scale_of(panels, MARKERS), key)
    points = common | {"x": x | {"field": figure.name}, "shape": shape, **_LINK}
    layers = [
        _layer("cells", {"type": "rule"}, bars, [*filters, f"isValid(datum.{figure.name}_low)"]),
        _layer("cells", {"type": "point"}, points, filters, [zoom("x"), *picks]),
    ]
    return {"layer": layers, "height": len(series) * max(28, 13 * len(panels)), "title": heading(budget)}


def heat_map(layout: ReportLayout, panel: str, figure: Figure) -> Spec:
    """Draw a panel's figure: rows are the series, columns the budgets. The best of each budget has a frame."""
    series, budgets = _names(layout.series_values), _names(layout.budgets)
    name = figure.name
    means = [100 * spread.mean for group in layout.groups if (spread := figure.spread(group)).n] or [0.0, 100.0]
    low, high = min(means), max(max(means), min(means) + 1)
    plain = {"ticks": False, "domain": False, "grid": False}
    place = {
        "x": _nominal("budget", {"domain": budgets})
        | {"axis": {"title": "budget", "orient": "top", "labelAngle": 0, "labelOverlap": "greedy", **plain}},
        "y": _nominal("series", {"domain": series})
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
    ranges = _layer("cells", range_text, place | {"text": _nominal("range"), "color": ink}, filters)
    ranges["transform"] += [
        {"filter": f"isValid(datum.{name}_low)"},
        {"calculate": f"format(datum.{name}_low, '.1f') + ' to ' + format(datum.{name}_high, '.1f')", "as": "range"},
    ]
    value = {"field": name, "type": "quantitative", "format": ".1f"}
    frame = {"type": "rect", "filled": False, "stroke": PALETTE[1], "strokeWidth": 2.5}
    layers = [
        _layer(
            "cells", {"type": "rect", "stroke": "white", "strokeWidth": 2}, place | {"color": colour, **_LINK}, filters
        ),
        _layer("cells", frame, place, [*filters, f"datum.is_best_{name}"]),
        _layer("cells", mean, place | {"text": value, "color": ink}, filters),
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
    names = _names(layout.name_without_budget(group) for group in groups)
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
        "color": _nominal("name", scale_of(names, colours), key),
        "opacity": faded([pick]),
    }
    axis = percent_axis(TASK_TITLES[column])
    y = {"y": {"field": column, "type": "quantitative", "scale": linear_scale(domain), "axis": axis}}
    shape = {"shape": _nominal("name", scale_of(names, markers), key)}
    filters: list[Any] = [{"field": "at", "equal": printable(budget)}, f"isValid(datum.{column})"]
    points = {"type": "point", "size": 45}
    layers = [
        _layer("tasks", {"type": "line"}, common | y | {"strokeDash": _dash("name", names)}, filters),
        _spread_bars("tasks", column, common, filters),
        _layer("tasks", points, common | y | shape | _LINK, filters, [zoom("x", "y"), pick]),
    ]
    return {"layer": layers, "height": 220, "title": heading(budget)}


def _layer(table: str, mark: Spec, encoding: Spec, filters: Sequence[Any] = (), params: Sequence[Spec] = ()) -> Spec:
    layer: Spec = {"data": {"name": table}, "mark": mark, "encoding": encoding}
    layer["transform"] = [{"filter": condition} for condition in filters]
    return layer | ({"params": list(params)} if params else {})


def _spread_bars(table: str, column: str, encoding: Spec, filters: Sequence[Any] = ()) -> Spec:
    """Draw the seeds' range as a vertical bar, where seeds differ."""
    ends = {"y": {"field": f"{column}_low", "type": "quantitative"}, "y2": {"field": f"{column}_high"}}
    return _layer(table, {"type": "rule"}, encoding | ends, [*filters, f"isValid(datum.{column}_low)"])


def _nominal(field: str, scale: Spec | None = None, key: Spec | None = None) -> Spec:
    encoding: Spec = {"field": field, "type": "nominal"}
    return encoding if scale is None else encoding | {"scale": scale, "legend": key}


def _dash(field: str, names: Sequence[str]) -> Spec:
    """Draw lines in dashes, without a legend: the legend of their markers would draw these in dashes too."""
    return _nominal(field, scale_of([*names, ""], DASHES))  # scales of the same domain would share their legend


def _x(layout: ReportLayout, figure: Figure) -> Spec:
    scale = {"type": "log", "domain": list(x_domain(layout, figure)), "nice": False}
    return {"field": figure.name, "type": "quantitative", "scale": scale, "axis": log_axis(figure)}


def _y(layout: ReportLayout, figure: Figure) -> Spec:
    scale = linear_scale(y_domain(layout, figure))
    return {"field": figure.name, "type": "quantitative", "scale": scale, "axis": percent_axis(figure.title)}


def _names(texts: Any) -> list[str]:
    return [printable(text) for text in texts]


def _series_legend(layout: ReportLayout) -> Spec | None:
    return legend(_names(layout.series_values), setting_title(layout.series)) if layout.series else None


def _mark(layout: ReportLayout, group: Group) -> tuple[str, str]:
    """Choose colour and marker of a group that is drawn task by task."""
    if not group.has_memory:
        number = layout.references.index(group)
        return FAINT, MARKERS[(5 + number) % len(MARKERS)]
    series = layout.series_of(group)
    number = layout.panel_names.index(layout.panel_of(group)) if len(layout.panel_names) > 1 else series
    return PALETTE[number % len(PALETTE)], MARKERS[series % len(MARKERS)]
