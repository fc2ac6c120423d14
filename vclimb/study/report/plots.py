"""The plots of a study: accuracy and forgetting against what the memory costs, and over tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from vclimb.study.report.axes_drawn import Key, Plot, empty, framed, polyline, spread_bar
from vclimb.study.report.groups import Group, Layout, Spread
from vclimb.study.report.svg import (
    DASHES,
    FAINT,
    INK,
    Scale,
    colour_of,
    count_label,
    cut,
    linear_scale,
    log_scale,
    size_label,
    width_of,
)

# Points of equal bytes stand apart sideways, so that none hides another: over so much, or this share of the gap between
# two budgets.
_APART, _APART_SHARE = 46.0, 0.55


@dataclass(frozen=True)
class Figure:
    """A figure of a run that can be an axis.

    Attributes:
        name: short, for file names.
        title: with its unit.
        of: a group's.
        is_fraction: drawn in percent, on a linear axis; else a size or count, on a logarithmic one.
    """

    name: str
    title: str
    of: Callable[[Group], Spread]
    is_fraction: bool = True

    def text(self, value: float) -> str:
        """A value with its unit."""
        if self.is_fraction:
            return f"{100 * value:.1f} %"
        return size_label(value) if self.name == "bytes" else count_label(value)


ACC = Figure("acc", "Acc after the last task (%)", lambda group: group.acc)
BWF = Figure("bwf", "BWF: forgetting after the last task (points)", lambda group: group.bwf)
BYTES = Figure("bytes", "memory on disk (log scale)", lambda group: group.bytes, False)
FRAMES = Figure("frames", "frames in memory (log scale)", lambda group: group.frames, False)


def percent_label(value: float) -> str:
    return f"{100 * value:.3g}"


def tip(layout: Layout, group: Group) -> str:
    """What hovering over a group says."""
    lines = [layout.name(group), f"Acc {spread_text(group.acc)}, BWF {spread_text(group.bwf)}"]
    if group.has_memory:
        videos = group.of(lambda run: run.memory("videos")).mean
        lines.append(f"{size_label(group.bytes.mean)}, {videos:,.0f} videos, {group.frames.mean:,.0f} frames")
    lines.append(f"runs {', '.join(run.run_id for run in group.runs)}")
    return "\n".join(lines)


def spread_text(spread: Spread, unit: str = " %", scale: float = 100) -> str:
    """A mean, and the seeds' range where there are several."""
    if not spread.n:
        return "-"
    text = f"{scale * spread.mean:.1f}{unit}"
    return text if spread.n < 2 else f"{text} ({scale * spread.low:.1f} to {scale * spread.high:.1f})"


def colours(layout: Layout) -> dict[str, str]:
    """Panel -> colour."""
    return {name: colour_of(number) for number, name in enumerate(layout.panel_names)}


def scatter(layout: Layout, x: Figure, y: Figure, with_front: bool = False) -> str:
    """Every cell: colours are panels, marks are the series, bars are the seeds' range."""
    groups = [g for g in layout.groups if x.of(g).mean > 0 and y.of(g).n]
    of_panel = colours(layout)
    many = len(layout.panel_names) > 1
    keys = [Key(name, colour) for name, colour in of_panel.items()] if many else []
    if layout.series:
        plain = FAINT if many else None
        keys += [Key(name, plain or colour_of(k), k) for k, name in enumerate(layout.series_values)]
    if with_front and groups:
        keys.append(Key("Pareto front", INK, None, 0))
    keys += _reference_keys(layout)
    plot = framed(500, 350, f"{y.title} against {x.title}", keys)
    svg = plot.svg
    if not groups:
        return empty(plot, "no run with a memory has ended")
    xs = log_scale([x.of(g).mean for g in groups], plot.left, plot.right)
    ys = _y_scale(plot, [y.of(g) for g in [*groups, *layout.references]], y)
    plot.y_axis(ys, y.title, percent_label)
    plot.x_axis(xs, x.title, x.text)
    _references(layout, plot, ys, y)
    room = _room(layout, x, xs)
    place = {id(g): (_dodged(xs(x.of(g).mean), layout, g, room), ys(y.of(g).mean)) for g in groups}
    front = [g for g in layout.front if id(g) in place] if with_front else []
    if front:
        steps = [f"{place[id(front[0])][0]:.1f},{place[id(front[0])][1]:.1f}"]
        for before, after in pairwise(front):
            x1, y1 = place[id(after)][0], place[id(before)][1]
            steps += [f"{x1:.1f},{y1:.1f}", f"{x1:.1f},{place[id(after)][1]:.1f}"]
        steps.append(f"{plot.right:.1f},{place[id(front[-1])][1]:.1f}")
        svg.add("polyline", points=" ".join(steps), fill="none", stroke=INK, stroke_width=1.6)
    for group in groups:
        colour = of_panel[layout.panel_of(group)] if many else colour_of(layout.series_of(group))
        px, py = place[id(group)]
        svg.begin(tip(layout, group), group.anchor)
        spread_bar(svg, px, ys, y.of(group), colour)
        if group in front:
            svg.add("circle", cx=px, cy=py, r=9, fill="none", stroke=INK, stroke_width=1.4)
        svg.marker(layout.series_of(group), px, py, colour)
        svg.end()
    _name_front(layout, plot, [(g, *place[id(g)]) for g in front])
    return svg.done()


def series_lines(layout: Layout, panel: str, x: Figure, y: Figure, scales: Sequence[Group]) -> str:
    """A panel: a line for each value of the series, over budgets.

    Args:
        scales: groups whose values set the axes, so that panels can be compared.
    """
    groups = [g for g in layout.groups if layout.panel_of(g) == panel and x.of(g).mean > 0 and y.of(g).n]
    of_series = layout.series_values
    keys = [Key(name, colour_of(k), k, k) for k, name in enumerate(of_series)] if layout.series else []
    plot = framed(400, 270, f"{y.title} against {x.title}: {panel}", keys, panel)
    shown = [g for g in scales if x.of(g).mean > 0 and y.of(g).n]
    if not groups:
        return empty(plot, "no run has ended")
    xs = log_scale([x.of(g).mean for g in shown], plot.left, plot.right)
    ys = _y_scale(plot, [y.of(g) for g in [*shown, *layout.references]], y)
    plot.y_axis(ys, y.title, percent_label)
    plot.x_axis(xs, x.title, x.text)
    _references(layout, plot, ys, y)
    room = _room(layout, x, xs)
    for number in range(len(of_series)):
        line = sorted((g for g in groups if layout.series_of(g) == number), key=lambda g: x.of(g).mean)
        places = [(_dodged(xs(x.of(g).mean), layout, g, room / 2), ys(y.of(g).mean)) for g in line]
        colour = colour_of(number)
        polyline(plot.svg, places, colour, number)
        for group, (px, py) in zip(line, places, strict=True):
            plot.svg.begin(tip(layout, group), group.anchor)
            spread_bar(plot.svg, px, ys, y.of(group), colour)
            plot.svg.marker(number, px, py, colour)
            plot.svg.end()
    return plot.svg.done()


def dots(layout: Layout, budget: str, y: Figure) -> str:
    """At a budget, a row for each value of the series: which of them is best?"""
    groups = [g for g in layout.at_budget(budget) if y.of(g).n]
    of_panel = colours(layout)
    many = len(layout.panel_names) > 1
    keys = [Key(name, colour, k) for k, (name, colour) in enumerate(of_panel.items())] if many else []
    names = layout.series_values
    left = min(150.0, 16 + max(width_of(name, 12) for name in names))
    plot = framed(500, 66 + 30 * len(names), f"{y.title}, {budget}", keys, budget, left)
    if not groups:
        return empty(plot, "no run has ended")
    spreads = [y.of(g) for g in groups]
    xs = linear_scale([v for s in spreads for v in (s.low, s.high)], plot.left + 10, plot.right - 6)
    plot.x_axis(xs, y.title, percent_label)
    step = (plot.bottom - plot.top) / len(names)
    for number, name in enumerate(names):
        middle = plot.top + step * (number + 0.5)
        plot.svg.text(plot.left - 4, middle + 4, cut(name, 12, plot.left - 8), 12, "end")
        row = [g for g in groups if layout.series_of(g) == number]
        for place, group in enumerate(row):
            py = middle + (place - (len(row) - 1) / 2) * min(7.0, step / (len(row) + 1))
            spread, which = y.of(group), layout.panel_names.index(layout.panel_of(group))
            colour = of_panel[layout.panel_of(group)]
            plot.svg.begin(tip(layout, group), group.anchor)
            plot.svg.add("line", x1=xs(spread.low), x2=xs(spread.high), y1=py, y2=py, stroke=colour, stroke_width=1.6)
            plot.svg.marker(which, xs(spread.mean), py, colour)
            plot.svg.end()
    return plot.svg.done()


def _y_scale(plot: Plot, spreads: Sequence[Spread], y: Figure) -> Scale:
    values = [v for s in spreads if s.n for v in (s.low, s.high)]
    return linear_scale(values, plot.bottom, plot.top, floor=0 if y is ACC else None)


def _room(layout: Layout, x: Figure, xs: Scale) -> float:
    """How far apart points of one budget may stand, in user units."""
    middles = []
    for budget in layout.budgets:
        places = [xs(x.of(g).mean) for g in layout.at_budget(budget) if x.of(g).mean > 0]
        middles += [sorted(places)[len(places) // 2]] if places else []
    gaps = [after - before for before, after in pairwise(sorted(middles)) if after > before]
    return min([_APART, *(_APART_SHARE * gap for gap in gaps)])


def _dodged(x: float, layout: Layout, group: Group, room: float) -> float:
    n_series, n_panels = len(layout.series_values), len(layout.panel_names)
    place = layout.series_of(group) * n_panels + layout.panel_names.index(layout.panel_of(group))
    n_places = n_series * n_panels
    return x + (place - (n_places - 1) / 2) / max(1, n_places - 1) * min(room, 9.0 * n_places)


def _reference_keys(layout: Layout) -> list[Key]:
    return [Key(layout.name(g), FAINT, None, 1 + k) for k, g in enumerate(layout.references)]


def _references(layout: Layout, plot: Plot, ys: Scale, y: Figure) -> None:
    """Methods without a memory: a line across, whatever the memory of others costs."""
    for number, group in enumerate(layout.references):
        if (spread := y.of(group)).n:
            plot.svg.begin(tip(layout, group), group.anchor)
            level = ys(spread.mean)
            plot.svg.add(
                "line",
                x1=plot.left,
                x2=plot.right,
                y1=level,
                y2=level,
                stroke=FAINT,
                stroke_width=1.6,
                stroke_dasharray=DASHES[1 + number % 6],
            )
            plot.svg.end()


def _name_front(layout: Layout, plot: Plot, front: Sequence[tuple[Group, float, float]]) -> None:
    """Write what the cells on the front are, where there is room."""
    taken: list[tuple[float, float, float, float]] = []
    for group, x, y in reversed(front):
        name = layout.series_values[layout.series_of(group)]
        width = width_of(name, 11.5)
        left = min(max(x - width / 2, plot.left + 2), plot.right - width)
        box = (left - 2, y - 25, left + width + 2, y - 11)
        if name and box[1] > plot.top - 14 and not any(_meet(box, other) for other in taken):
            taken.append(box)
            plot.svg.text(left, y - 14, name, 11.5, weight=600, paint_order="stroke", stroke="#fff", stroke_width=3)


def _meet(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
