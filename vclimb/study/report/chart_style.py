"""Look and controls that all charts of a report share."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from vclimb.study.report.figures import Figure, printable

Spec = dict[str, Any]
"""Part of a Vega-Lite specification (https://vega.github.io/vega-lite/docs)."""

# Okabe and Ito's palette, which colour-blind readers tell apart; the light yellow last, as it is faint on paper.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#333333", "#B8A800")
# One fewer than the colours, so that the pairs of both repeat only after 56.
MARKERS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-right")
FIXED_MARKERS = (
    "M0,-1L.25,-.31L.95,-.31L.38,.12L.59,.81L0,.4L-.59,.81L-.38,.12L-.95,-.31L-.25,-.31Z",  # a star
    "M0,-1L.28,-.28L1,0L.28,.28L0,1L-.28,.28L-1,0L-.28,-.28Z",  # of four points
    "M-.5,-.87L.5,-.87L1,0L.5,.87L-.5,.87L-1,0Z",  # a hexagon
    "M-.9,-.9L0,-.3L.9,-.9L.3,0L.9,.9L0,.3L-.9,.9L-.3,0Z",  # crossed
)
"""Markers of methods that keep no exemplars."""
FIXED_SIZE = 230
"""Area of these markers: they are drawn smaller than others of the same area."""
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [1, 3], [10, 4], [4, 2, 1, 2], [12, 3, 3, 3])
INK, FAINT, RULE = "#1b1f24", "#5b6470", "#dfe3e8"
BLUES = ("#f7fbff", "#c6dbef", "#6baed6", "#2171b5", "#08306b")
"""Colours of a heat map, from low to high: even steps in lightness, so that they print in grey."""
_FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
_MAX_LEGEND_ENTRIES = 24
_LEGEND_LABEL_WIDTH = 250
FILE_WIDTH = 640
"""Width of a chart that is drawn as a file, in pixels."""
# Vega fits `width` to the legend: columns that depended on it would change after the legend's height was computed.
# The term of 0 only says when to look at the page again.
_CHART_WIDTH = f"(0 * width + (isFinite(containerSize()[0]) ? containerSize()[0] : {FILE_WIDTH}))"

# Labels of a logarithmic axis: all ticks of a short axis, else those that begin with 1, 2 or 5.
_IS_LABELLED = (
    "domain('x')[1] < 5 * domain('x')[0]"
    " || indexof([1, 2, 5], round(datum.value / pow(10, floor(log(datum.value) / LN10 + 1e-9)))) >= 0"
)
_LABELS = {
    "bytes": "replace(format(datum.value, '.3~s'), /([kMG])?$/, ' $1') + 'B'",
    "count": "format(datum.value, ',.3~f')",
}

CONFIG: Spec = {
    "aria": False,  # the page describes each chart; a description for every mark would double its size
    "background": "white",
    "font": _FONT,
    "mark": {"clip": True},
    "point": {"filled": True, "stroke": "white", "strokeWidth": 0.8, "size": 70},
    "line": {"strokeWidth": 1.8},
    "rule": {"strokeWidth": 1.4},
    "view": {"stroke": None},
    "axis": {
        "domainColor": FAINT,
        "gridColor": RULE,
        "labelColor": FAINT,
        "labelFontSize": 11,
        "tickColor": RULE,
        "titleColor": INK,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
    },
    "axisY": {"titleAlign": "left", "titleAnchor": "end", "titleAngle": 0, "titleX": -30, "titleY": -10},
    "legend": {
        "orient": "bottom",
        "layout": {"bottom": {"anchor": "start", "direction": "vertical"}},
        "labelFontSize": 11.5,
        "labelLimit": _LEGEND_LABEL_WIDTH,
        "offset": 8,
        "symbolSize": 80,
        "titleColor": FAINT,
        "titleFontSize": 11.5,
        "titleFontWeight": "normal",
    },
    "title": {"anchor": "start", "fontSize": 13, "fontWeight": 600, "color": INK, "frame": "bounds", "offset": 24},
}


def percent_axis(title: str) -> Spec:
    """Make an axis of percentages."""
    return {"title": title, "tickCount": 6}


def log_axis(figure: Figure) -> Spec:
    """Make a logarithmic axis of bytes or counts, whose labels are written out."""
    text = f"({_IS_LABELLED}) ? ({_LABELS[figure.unit]}) : ''"
    return {"title": figure.title, "labelExpr": text, "labelOverlap": "greedy", "labelSeparation": 4}


def linear_scale(domain: Sequence[float]) -> Spec:
    """Make a scale with exactly these ends, so that charts can be compared."""
    return {"domain": list(domain), "nice": False, "zero": False}


def legend(names: Sequence[str], title: str | None = None, **properties: Any) -> Spec:
    """Make a legend below a chart, in as many columns as fit the page."""
    if len(names) > _MAX_LEGEND_ENTRIES:
        title = f"{title or 'legend'}: {_MAX_LEGEND_ENTRIES} of {len(names)}"
        properties["values"] = names[:_MAX_LEGEND_ENTRIES]
    widest = min(max((6.4 * len(name) for name in names), default=0), _LEGEND_LABEL_WIDTH) + 34
    columns = {"expr": f"max(1, floor(({_CHART_WIDTH} - 45) / {widest:.0f}))"}
    return {"title": title, "columns": columns, **properties}


def scale_of(names: Sequence[str], values: Sequence[Any]) -> Spec:
    """Give each name a value, such as a colour; values repeat where there are more names."""
    return {"domain": list(names), "range": [values[number % len(values)] for number in range(len(names))]}


def heading(text: str) -> Spec:
    """Make a chart's title, in several lines where it is long."""
    lines = textwrap.wrap(printable(text), 44) or [""]
    return {"text": lines if len(lines) > 1 else lines[0]}


def zoom(*encodings: str) -> Spec:
    """Make a control that moves and scales the axes: drag, Shift and the wheel, double click to reset."""
    select = {"type": "interval", "encodings": list(encodings), "zoom": "wheel![event.shiftKey]"}
    return {"name": "zoom", "bind": "scales", "select": select}


def picked(field: str) -> Spec:
    """Make a control that shows only the entries of a legend that were clicked."""
    return {
        "name": f"{field}_picked",
        "bind": "legend",
        "select": {"type": "point", "fields": [field], "toggle": "true"},
    }


def faded(controls: Sequence[Spec]) -> Spec:
    """Make an opacity that fades what `picked` controls do not select."""
    if not controls:
        return {"value": 1}
    condition = {"test": {"and": [{"param": control["name"]} for control in controls]}, "value": 1}
    return {"condition": condition, "value": 0.08}


def tooltip() -> list[Spec]:
    """Describe a group where the pointer rests."""
    fields = {"cell": "cell", "acc_text": "Acc", "bwf_text": "BWF", "memory": "memory", "runs": "runs"}
    return [{"field": field, "type": "nominal", "title": title} for field, title in fields.items()]
