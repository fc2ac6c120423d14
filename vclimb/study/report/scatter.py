"""Charts of every group at once: a figure in percent over bytes or frames, with a curve for each kind of memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from vclimb.study.naming import title as setting_title
from vclimb.study.report.chart_data import FRONT, LABEL_WIDTH, MAX_KINDS
from vclimb.study.report.chart_style import (
    DASHES,
    FAINT,
    FIXED_MARKERS,
    FIXED_SIZE,
    INK,
    MARKERS,
    PALETTE,
    Spec,
    faded,
    legend,
    picked,
    scale_of,
    zoom,
)
from vclimb.study.report.encodings import LINK, layer, nominal, series_legend, shown, spread_bars, x_axis, y_axis
from vclimb.study.report.figures import BYTES, Figure
from vclimb.study.report.groups import ReportLayout


def scatter(layout: ReportLayout, x: Figure, y: Figure, with_front: bool = False) -> Spec:
    """Draw every group, and a curve for each kind of memory over its budgets; bars are the seeds' range.

    Groups that keep no exemplars are points over bytes, and level lines over frames. Those that keep nothing are level
    lines.
    """
    marks = _marks(layout, with_fixed=x is BYTES)
    levels = layout.references if x is BYTES else layout.without_exemplars
    lines = [FRONT] * with_front + shown(layout.name(group) for group in levels)
    place = {"x": x_axis(layout, x), "y": y_axis(layout, y)}
    line_legend = legend(lines, symbolStrokeColor=FAINT, symbolSize=300)
    dash = {"scale": scale_of(lines, DASHES if with_front else DASHES[1:]), "legend": line_legend, "type": "nominal"}
    layers = []
    if levels:
        encoding = {"y": place["y"], "strokeDash": {"field": "cell", **dash}, **LINK}
        filters = ["!datum.is_fixed"] if x is BYTES else []
        layers.append(layer("references", {"type": "rule", "color": FAINT}, encoding, filters))
    if with_front:
        steps = {"type": "line", "interpolate": "step-after", "color": INK, "strokeWidth": 1.2}
        layers.append(layer("front", steps, place | {"strokeDash": {"field": "line", **dash}}))
        ring = {"type": "point", "filled": False, "size": 290, "stroke": INK, "strokeWidth": 1.4}
        layers.append(layer("cells", ring, place, ["datum.is_front"]))
    picks = [picked(field) for field in marks.fields]
    drawn = {"color": marks.colour, "opacity": faded(picks)}
    curve = {"type": "line", "strokeWidth": 1.3, "strokeOpacity": 0.75}
    layers.append(layer("cells", curve, place | drawn | {"detail": nominal("kind")}, ["!datum.is_fixed"]))
    layers.append(spread_bars("cells", y.name, {"x": place["x"], **drawn}))
    points = place | drawn | {"shape": marks.shape, **LINK}
    points["size"] = {"condition": {"test": "datum.is_fixed", "value": FIXED_SIZE}, "value": 80}
    layers.append(layer("cells", {"type": "point"}, points, params=[zoom("x", "y"), *picks]))
    if with_front:
        text: Spec = {"type": "text", "dy": -16, "fontSize": 11.5, "fontWeight": 600}
        text["align"] = {"expr": "datum.align"}
        text["dx"] = {"expr": "datum.align == 'left' ? -9 : datum.align == 'right' ? 9 : 0"}
        text["limit"] = {"expr": f"{LABEL_WIDTH} * width"}
        label = place | {"text": {"field": "label", "type": "nominal"}}
        halo = {"stroke": "white", "strokeWidth": 4, "color": "white"}  # so that lines don't cross letters
        layers += [layer("front", text | colour, label) for colour in (halo, {"color": INK})]
    return {"layer": layers, "height": 340}


@dataclass(frozen=True)
class _Marks:
    """Colours and markers of groups.

    Attributes:
        fields: Columns whose legends select what is drawn.
    """

    colour: Spec
    shape: Spec
    fields: tuple[str, ...]


def _marks(layout: ReportLayout, with_fixed: bool) -> _Marks:
    """Give each kind of memory a colour and a marker: in one legend where they are few."""
    fixed = shown(layout.name_without_budget(group) for group in layout.fixed) if with_fixed else []
    kinds, series, panels = shown(layout.kinds), shown(layout.series_values), shown(layout.panel_names)
    if len(kinds) <= MAX_KINDS:
        has_one_panel = len(panels) == 1 and layout.series and not fixed
        key = legend([*kinds, *fixed], setting_title(layout.series or "") if has_one_panel else "kind of memory")
        return _Marks(
            nominal("kind", scale_of([*kinds, *fixed], PALETTE), key),
            nominal("kind", _markers(kinds, fixed), key),
            ("kind",) * (len(kinds) + len(fixed) > 1),
        )
    if len(panels) > 1:
        shapes = series_legend(layout)
        if shapes is not None:
            shapes = shapes | {"values": shapes.get("values", series)}  # fixed ones are in the legend of colours
        return _Marks(
            nominal("panel", scale_of([*panels, *fixed], PALETTE), legend([*panels, *fixed])),
            nominal("series", _markers(series, fixed), shapes),
            ("series",) * (layout.series is not None) + ("panel",),
        )
    key = legend([*series, *fixed], setting_title(layout.series or ""))
    return _Marks(
        nominal("series", scale_of([*series, *fixed], PALETTE), key),
        nominal("series", _markers(series, fixed), key),
        ("series",),
    )


def _markers(names: Sequence[str], fixed: Sequence[str]) -> Spec:
    """Give names markers; methods that keep no exemplars have others."""
    return {"domain": [*names, *fixed], "range": [*_repeated(MARKERS, names), *_repeated(FIXED_MARKERS, fixed)]}


def _repeated(values: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    return islice(cycle(values), len(names))
