"""What plots share: a frame with axes, grid lines, units, and a legend above."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vclimb.study.report.groups import Spread
from vclimb.study.report.svg import DASHES, FAINT, INK, RULE, Scale, Svg, cut, width_of

LEGEND_ROW = 17.0
_LEGEND_SIZE = 11.5


@dataclass(frozen=True)
class Key:
    """An entry of a legend.

    Attributes:
        name: of it.
        colour: of line and mark.
        marker: kind of mark; None: a patch of colour.
        dash: kind of line; None: no line.
    """

    name: str
    colour: str
    marker: int | None = None
    dash: int | None = None


@dataclass(frozen=True)
class Plot:
    """A frame to draw in.

    Attributes:
        svg: the picture.
        left: of the frame, in user units.
        right: of it.
        top: of it.
        bottom: of it.
    """

    svg: Svg
    left: float
    right: float
    top: float
    bottom: float

    def x_axis(
        self, scale: Scale, name: str, label: Callable[[float], str], ticks: Sequence[float] | None = None
    ) -> None:
        """Draw the axis below."""
        last = -1e9
        for tick in scale.ticks() if ticks is None else ticks:
            x = scale(tick)
            text = label(tick)
            self.svg.add("line", x1=x, x2=x, y1=self.top, y2=self.bottom, stroke=RULE)
            if x - width_of(text, 11) / 2 > last + 4:
                self.svg.text(x, self.bottom + 15, text, 11, "middle", FAINT)
                last = x + width_of(text, 11) / 2
        self.svg.add("line", x1=self.left, x2=self.right, y1=self.bottom, y2=self.bottom, stroke=FAINT)
        self.svg.text((self.left + self.right) / 2, self.bottom + 32, name, 12, "middle")

    def y_axis(self, scale: Scale, name: str, label: Callable[[float], str]) -> None:
        """Draw the axis to the left, its name above it."""
        for tick in scale.ticks():
            y = scale(tick)
            self.svg.add("line", x1=self.left, x2=self.right, y1=y, y2=y, stroke=RULE)
            self.svg.text(self.left - 6, y + 4, label(tick), 11, "end", FAINT)
        self.svg.text(4, self.top - 8, name, 12)


def framed(width: float, height: float, title: str, keys: Sequence[Key], heading: str = "", left: float = 44) -> Plot:
    """A new picture with a heading, a legend, and a frame below them."""
    rows = legend_rows(keys, width - 8)
    top = 26 + (20 if heading else 0) + LEGEND_ROW * len(rows) + (4 if rows else 0)
    svg = Svg(width, height + top - 26, title)
    y = 4.0
    if heading:
        svg.text(4, 14, cut(heading, 13, width - 8), 13, weight=600)
        y += 20
    for row in rows:
        x = 4.0
        for key in row:
            _draw_key(svg, key, x, y + 8)
            x += _key_width(key)
        y += LEGEND_ROW
    return Plot(svg, left, width - 14, top, top - 26 + height - 40)


def spread_bar(svg: Svg, x: float, scale: Scale, spread: Spread, colour: str) -> None:
    """The seeds' range."""
    if spread.n < 2 or spread.low == spread.high:
        return
    low, high = scale(spread.low), scale(spread.high)
    svg.add(
        "path",
        d=f"M{x:.1f} {low:.1f}V{high:.1f}M{x - 3:.1f} {low:.1f}h6M{x - 3:.1f} {high:.1f}h6",
        stroke=colour,
        stroke_width=1.3,
        fill="none",
    )


def polyline(svg: Svg, places: Sequence[tuple[float, float]], colour: str, dash: int) -> None:
    """A line through places."""
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    svg.add(
        "polyline",
        points=points,
        fill="none",
        stroke=colour,
        stroke_width=1.8,
        stroke_dasharray=DASHES[dash % len(DASHES)] or None,
    )


def empty(plot: Plot, why: str) -> str:
    """A frame in which nothing is drawn, and why."""
    plot.svg.text((plot.left + plot.right) / 2, (plot.top + plot.bottom) / 2, why, 13, "middle", FAINT)
    return plot.svg.done()


def legend_rows(keys: Sequence[Key], width: float) -> list[list[Key]]:
    """Entries in as many rows as they need."""
    rows: list[list[Key]] = []
    used = 0.0
    for key in keys:
        if not rows or used + _key_width(key) > width:
            rows.append([])
            used = 0.0
        rows[-1].append(key)
        used += _key_width(key)
    return rows


def _key_width(key: Key) -> float:
    return (30 if key.dash is not None else 16) + min(width_of(key.name, _LEGEND_SIZE), 230) + 12


def _draw_key(svg: Svg, key: Key, x: float, y: float) -> None:
    width = 26 if key.dash is not None else 12
    if key.dash is not None:
        svg.add(
            "line",
            x1=x,
            x2=x + width,
            y1=y,
            y2=y,
            stroke=key.colour,
            stroke_width=2,
            stroke_dasharray=DASHES[key.dash % len(DASHES)] or None,
        )
    if key.marker is not None:
        svg.marker(key.marker, x + width / 2, y, key.colour, 4.5)
    elif key.dash is None:
        svg.add("rect", x=x, y=y - 5, width=11, height=10, fill=key.colour, rx=2)
    svg.text(x + width + 4, y + 4, cut(key.name, _LEGEND_SIZE, 230), _LEGEND_SIZE, fill=INK)
