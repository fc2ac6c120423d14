"""Layers, axes and scales that charts of a study have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from vclimb.study.naming import title as setting_title
from vclimb.study.report.chart_data import x_domain, y_domain
from vclimb.study.report.chart_style import (
    DASHES,
    Spec,
    legend,
    linear_scale,
    log_axis,
    percent_axis,
    scale_of,
    tooltip,
)
from vclimb.study.report.figures import Figure, printable
from vclimb.study.report.groups import ReportLayout

LINK: Spec = {"href": {"field": "href", "type": "nominal"}, "tooltip": tooltip()}


def layer(table: str, mark: Spec, encoding: Spec, filters: Sequence[Any] = (), params: Sequence[Spec] = ()) -> Spec:
    """Make a layer that draws the rows of a table which filters let through."""
    layer: Spec = {"data": {"name": table}, "mark": mark, "encoding": encoding}
    layer["transform"] = [{"filter": condition} for condition in filters]
    return layer | ({"params": list(params)} if params else {})


def spread_bars(table: str, column: str, encoding: Spec, filters: Sequence[Any] = ()) -> Spec:
    """Draw the seeds' range as a vertical bar, where seeds differ."""
    ends = {"y": {"field": f"{column}_low", "type": "quantitative"}, "y2": {"field": f"{column}_high"}}
    return layer(table, {"type": "rule"}, encoding | ends, [*filters, f"isValid(datum.{column}_low)"])


def nominal(field: str, scale: Spec | None = None, key: Spec | None = None) -> Spec:
    """Encode a name, with the scale and the legend of its channel if any."""
    encoding: Spec = {"field": field, "type": "nominal"}
    return encoding if scale is None else encoding | {"scale": scale, "legend": key}


def dashes(field: str, names: Sequence[str]) -> Spec:
    """Draw lines in dashes, without a legend: the legend of their markers would draw these in dashes too."""
    return nominal(field, scale_of([*names, ""], DASHES))  # scales of the same domain would share their legend


def x_axis(layout: ReportLayout, figure: Figure) -> Spec:
    """Encode bytes or counts on a logarithmic axis."""
    scale = {"type": "log", "domain": list(x_domain(layout, figure)), "nice": False}
    return {"field": figure.name, "type": "quantitative", "scale": scale, "axis": log_axis(figure)}


def y_axis(layout: ReportLayout, figure: Figure) -> Spec:
    """Encode a figure in percent."""
    scale = linear_scale(y_domain(layout, figure))
    return {"field": figure.name, "type": "quantitative", "scale": scale, "axis": percent_axis(figure.title)}


def shown(texts: Iterable[str]) -> list[str]:
    """Make names printable, as tables hold them."""
    return [printable(text) for text in texts]


def series_legend(layout: ReportLayout) -> Spec | None:
    """Make the legend of the setting that lines stand for."""
    return legend(shown(layout.series_values), setting_title(layout.series)) if layout.series else None
