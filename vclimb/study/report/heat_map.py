"""A heat map: frames per video (or what else varies) by budget."""

from __future__ import annotations

import math

from vclimb.study.naming import value_text
from vclimb.study.report.groups import BUDGET, Group, Layout
from vclimb.study.report.plots import Figure, tip
from vclimb.study.report.svg import FAINT, INK, Svg, cut, width_of

# From pale to dark blue, even in lightness: it prints, and the colour-blind see it.
_STOPS = ((247, 251, 255), (198, 219, 239), (107, 174, 214), (33, 113, 181), (8, 48, 107))
_CELL_HEIGHT, _HEAD = 34.0, 66.0


def heat_map(layout: Layout, panel: str, figure: Figure) -> str:
    """A panel's figure, rows the series and columns the budgets. The best of each budget, of all panels, is framed."""
    rows, columns = layout.series_values, list(layout.budgets)
    left = min(130.0, 18 + max(width_of(name, 12) for name in rows))
    width = 400.0
    cell = (width - left - 8) / max(1, len(columns))
    svg = Svg(width, _HEAD + _CELL_HEIGHT * len(rows) + 8, f"{figure.title}: {panel}")
    svg.text(4, 14, cut(panel, 13, width - 8), 13, weight=600)
    svg.text(left + (width - left - 8) / 2, 34, f"budget; cells: {figure.title}", 11.5, "middle", FAINT)
    for column, budget in enumerate(columns):
        svg.text(left + cell * (column + 0.5), 54, cut(budget, 12, cell - 2), 12, "middle")
    everything = [figure.of(g).mean for g in layout.groups if figure.of(g).n]
    low, high = (min(everything), max(everything)) if everything else (0.0, 1.0)
    own = [g for g in layout.groups if layout.panel_of(g) == panel]
    for row, name in enumerate(rows):
        y = _HEAD - 6 + _CELL_HEIGHT * row
        svg.text(left - 6, y + _CELL_HEIGHT / 2 + 4, cut(name, 12, left - 8), 12, "end")
        for column, budget in enumerate(columns):
            found = [g for g in own if layout.series_of(g) == row and value_text(g.settings.get(BUDGET)) == budget]
            _cell(svg, layout, figure, found, (left + cell * column, y, cell), (low, high))
    return svg.done()


def _cell(
    svg: Svg,
    layout: Layout,
    figure: Figure,
    found: list[Group],
    place: tuple[float, float, float],
    limits: tuple[float, float],
) -> None:
    x, y, width = place
    if not found or not figure.of(found[0]).n:
        svg.add("rect", x=x, y=y, width=width - 2, height=_CELL_HEIGHT - 2, fill="#f3f4f6")
        svg.text(x + width / 2, y + _CELL_HEIGHT / 2 + 4, "-", 12, "middle", FAINT)
        return
    group, spread = found[0], figure.of(found[0])
    colour, is_dark = _colour(spread.mean, limits)
    svg.begin(tip(layout, group), group.anchor)
    svg.add("rect", x=x, y=y, width=width - 2, height=_CELL_HEIGHT - 2, fill=colour)
    rivals = [figure.of(g).mean for g in layout.at_budget(str(group.settings.get(BUDGET))) if figure.of(g).n]
    top = max(rivals) if figure.name == "acc" else min(rivals)
    if spread.mean == top:
        svg.add(
            "rect",
            x=x + 1.5,
            y=y + 1.5,
            width=width - 5,
            height=_CELL_HEIGHT - 5,
            fill="none",
            stroke="#D55E00",
            stroke_width=2.5,
        )
    ink = "#fff" if is_dark else INK
    has_spread = spread.n > 1 and width > 52
    middle = y + _CELL_HEIGHT / 2
    svg.text(
        x + width / 2 - 1, middle + (-1 if has_spread else 4), f"{100 * spread.mean:.1f}", 12.5, "middle", ink, 600
    )
    if has_spread:
        svg.text(
            x + width / 2 - 1, middle + 11, f"{100 * spread.low:.1f} to {100 * spread.high:.1f}", 9.5, "middle", ink
        )
    svg.end()


def _colour(value: float, limits: tuple[float, float]) -> tuple[str, bool]:
    low, high = limits
    share = 0.5 if math.isclose(low, high) else (value - low) / (high - low)
    place = min(max(share, 0.0), 1.0) * (len(_STOPS) - 1)
    number = min(int(place), len(_STOPS) - 2)
    red, green, blue = (
        round(a + (b - a) * (place - number)) for a, b in zip(_STOPS[number], _STOPS[number + 1], strict=True)
    )
    return f"#{red:02x}{green:02x}{blue:02x}", 0.299 * red + 0.587 * green + 0.114 * blue < 140
