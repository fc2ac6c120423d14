"""Plots over tasks: accuracy after each, and what is forgotten of each."""

from __future__ import annotations

from collections.abc import Callable

from vclimb.study.naming import label
from vclimb.study.report.axes_drawn import Key, empty, framed, polyline, spread_bar
from vclimb.study.report.groups import BUDGET, Group, Layout, best
from vclimb.study.report.plots import colours, percent_label, tip
from vclimb.study.report.results import RunResult
from vclimb.study.report.svg import FAINT, Scale, colour_of, linear_scale


def over_tasks(
    layout: Layout, budget: str, title: str, curve: Callable[[RunResult], list[float]], unit: str = "%"
) -> str:
    """At a budget, the best cell of each panel, or every cell where there is one panel; and every reference."""
    shown = _of_budget(layout, budget)
    names = [label(g.settings, [one for one in layout.names_of(g) if one != BUDGET]) for g, _, _ in shown]
    keys = [Key(name, colour, mark, k) for k, (name, (_, colour, mark)) in enumerate(zip(names, shown, strict=True))]
    plot = framed(400, 250, f"{title}, {budget}", keys, budget)
    everywhere = [group for one in layout.budgets for group, _, _ in _of_budget(layout, one)]
    everything = [spread for group in everywhere for spread in group.curve(curve) if spread.n]
    values = [value for spread in everything for value in (spread.low, spread.high)]
    if not values:
        return empty(plot, "nothing was measured")
    curves = [group.curve(curve) for group, _, _ in shown]
    n_tasks = max(map(len, curves))
    xs = Scale(0.6, n_tasks + 0.4, plot.left, plot.right)
    ys = linear_scale(values, plot.bottom, plot.top)
    plot.y_axis(ys, f"{title} ({unit})", percent_label)
    step = -(-n_tasks // 12)
    plot.x_axis(xs, "task", lambda tick: f"{tick:.0f}", list(range(1, n_tasks + 1, step)))
    for number, ((group, colour, mark), line) in enumerate(zip(shown, curves, strict=True)):
        places = [(xs(task + 1), ys(s.mean), s) for task, s in enumerate(line) if s.n]
        polyline(plot.svg, [(px, py) for px, py, _ in places], colour, number)
        plot.svg.begin(tip(layout, group), group.anchor)
        for px, py, spread in places:
            spread_bar(plot.svg, px, ys, spread, colour)
            plot.svg.marker(mark, px, py, colour, 4)
        plot.svg.end()
    return plot.svg.done()


def _of_budget(layout: Layout, budget: str) -> list[tuple[Group, str, int]]:
    """What is drawn task by task: a group, its colour and its mark."""
    own = layout.at_budget(budget)
    if len(layout.panel_names) == 1:
        places = [layout.series_of(group) for group in own]
        shown = [(g, colour_of(k), k) for g, k in zip(own, places, strict=True)]
    else:
        of_panel = colours(layout)
        tops = [best(g for g in own if layout.panel_of(g) == panel) for panel in layout.panel_names]
        shown = [(top, of_panel[layout.panel_of(top)], layout.series_of(top)) for top in tops if top is not None]
    return shown + [(group, FAINT, 5 + number) for number, group in enumerate(layout.references)]
