"""Pictures as SVG, with every text escaped. They stand alone: styles are attributes, and no script is needed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

# Okabe and Ito's palette, which the colour-blind tell apart; the light yellow last, as it is faint on paper.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#333333", "#B8A800")
MARKERS = ("circle", "square", "triangle", "diamond", "down", "plus", "cross", "star")
DASHES = ("", "6 3", "2 2", "8 3 2 3", "1 3", "10 4", "4 2 1 2", "12 3 3 3")
INK, FAINT, RULE = "#1b1f24", "#5b6470", "#dfe3e8"
FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"


class Svg:
    """A picture being drawn.

    Args:
        width: in user units, about pixels.
        height: the same.
        title: what it shows, for those who can't see it.
    """

    def __init__(self, width: float, height: float, title: str) -> None:
        self.width, self.height, self.title = width, height, title
        self._parts: list[str] = []
        self._closing = ""

    def add(self, tag: str, text: str | None = None, **attributes: object) -> None:
        """Draw an element. Names of attributes have `_` for `-`."""
        given = "".join(
            f' {name.rstrip("_").replace("_", "-")}="{_attribute(value)}"'
            for name, value in attributes.items()
            if value is not None
        )
        body = "/>" if text is None else f">{clean(text)}</{tag}>"
        self._parts.append(f"<{tag}{given}{body}")

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float = 12,
        anchor: str = "start",
        fill: str = INK,
        weight: int | None = None,
        **more: object,
    ) -> None:
        """Write a line of text."""
        self.add("text", text, x=x, y=y, font_size=size, text_anchor=anchor, fill=fill, font_weight=weight, **more)

    def begin(self, tip: str, link: str | None = None) -> None:
        """Begin what belongs to a run: hovering shows the tip."""
        opening = f'<a href="#{_attribute(link)}">' if link else "<g>"
        self._parts.append(f'<g class="tip" tabindex="-1">{opening}<title>{clean(tip)}</title>')
        self._closing = "</a></g>" if link else "</g></g>"

    def end(self) -> None:
        """End it."""
        self._parts.append(self._closing)

    def marker(self, kind: int, x: float, y: float, colour: str, size: float = 5, hollow: bool = False) -> None:
        """Draw a mark of a kind, on a white rim so that those that overlap are told apart; hollow from the ninth on."""
        hollow = hollow or (kind // len(MARKERS)) % 2 == 1
        fill, stroke, width = ("#fff", colour, 1.6) if hollow else (colour, "#fff", 0.9)
        name = MARKERS[kind % len(MARKERS)]
        if name == "circle":
            self.add("circle", cx=x, cy=y, r=size, fill=fill, stroke=stroke, stroke_width=width)
            return
        points = " ".join(f"{x + size * dx:.1f},{y + size * dy:.1f}" for dx, dy in _SHAPES[name])
        self.add("polygon", points=points, fill=fill, stroke=stroke, stroke_width=width)

    def done(self) -> str:
        """The picture."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {self.height:g}" role="img" '
            f'aria-label="{_attribute(self.title)}" font-family="{_attribute(FONT)}">'
            f"{''.join(self._parts)}</svg>"
        )


@dataclass(frozen=True)
class Scale:
    """From values to places on an axis.

    Attributes:
        low: value at `start`.
        high: value at `end`.
        start: place.
        end: place.
        is_log: whether equal ratios are equally far apart.
    """

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.is_log:
            low, high, value = math.log10(low), math.log10(high), math.log10(max(value, 1e-300))
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + (self.end - self.start) * share

    def ticks(self, most: int = 6) -> list[float]:
        """Round values within, few enough to be read."""
        if not self.is_log:
            return _linear_ticks(self.low, self.high, most)
        exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)

        def of(*digits: int) -> list[float]:
            return [d * 10.0**e for e in exponents for d in digits if self.low <= d * 10.0**e <= self.high]

        found = next((ticks for ticks in (of(1, 2, 5), of(1, 3)) if len(ticks) <= most), of(1))
        if len(found) < 3:  # budgets are often doubled: 1, 2 and 4 MB
            found = max(found, of(1, 2, 4), key=len)
        return found if len(found) >= 2 else _linear_ticks(self.low, self.high, most)


def colour_of(number: int) -> str:
    """A colour by number; paler from the ninth on."""
    colour = PALETTE[number % len(PALETTE)]
    if (number // len(PALETTE)) % 2 == 0:
        return colour
    parts = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return "#" + "".join(f"{round(255 - 0.5 * (255 - part)):02x}" for part in parts)


def log_scale(values: list[float], start: float, end: float) -> Scale:
    """A logarithmic axis with room around the values; all above 0."""
    low, high = min(values), max(values)
    room = max(1.25, (high / low) ** 0.07)
    return Scale(low / room, high * room, start, end, is_log=True)


def linear_scale(
    values: list[float], start: float, end: float, least: float = 0.05, floor: float | None = None
) -> Scale:
    """A linear axis with room around the values.

    Args:
        least: the shortest span that is drawn, so that chance doesn't look like a mountain.
        floor: the axis doesn't go below.
    """
    low, high = min(values), max(values)
    room = max((high - low) * 0.08, (least - (high - low)) / 2)
    low, high = low - room, high + room
    return Scale(max(low, floor) if floor is not None else low, high, start, end)


def clean(text: str) -> str:
    """Text for XML: escaped, and without what XML has no place for."""
    return escape(
        "".join(letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}" for letter in text)
    )


def width_of(text: str, size: float) -> float:
    """About how wide a text is."""
    return sum(size * (1.0 if ord(letter) > 0x2E80 else 0.56) for letter in text)


def cut(text: str, size: float, width: float) -> str:
    """A text that fits, its end cut off if need be."""
    if width_of(text, size) <= width:
        return text
    while text and width_of(text + "…", size) > width:
        text = text[:-1]
    return text + "…"


def size_label(n_bytes: float) -> str:
    """Bytes as they stand on an axis."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= factor * 0.9995:
            return f"{n_bytes / factor:.3g} {unit}"
    return f"{n_bytes:.3g} B"


def count_label(count: float) -> str:
    """A count as it stands on an axis."""
    return f"{count:,.0f}"


def _attribute(value: object) -> str:
    text = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return clean(text)


def _linear_ticks(low: float, high: float, most: int) -> list[float]:
    span = high - low
    if span <= 0:
        return [low]
    step = 10.0 ** math.floor(math.log10(span / most))
    step = next(step * factor for factor in (1, 2, 2.5, 5, 10, 20) if span / (step * factor) <= most)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _star() -> list[tuple[float, float]]:
    return [
        (r * math.sin(math.pi * k / 5), -r * math.cos(math.pi * k / 5))
        for k in range(10)
        for r in [(1.35, 0.55)[k % 2]]
    ]


_SHAPES: dict[str, list[tuple[float, float]]] = {
    "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    "triangle": [(0, -1.2), (1.15, 0.85), (-1.15, 0.85)],
    "down": [(0, 1.2), (1.15, -0.85), (-1.15, -0.85)],
    "diamond": [(0, -1.35), (1.2, 0), (0, 1.35), (-1.2, 0)],
    "plus": [
        (-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4), (1.2, 0.4), (0.4, 0.4),
        (0.4, 1.2), (-0.4, 1.2), (-0.4, 0.4), (-1.2, 0.4), (-1.2, -0.4), (-0.4, -0.4),
    ],
    "cross": [
        (0, -0.55), (0.6, -1.15), (1.15, -0.6), (0.55, 0), (1.15, 0.6), (0.6, 1.15),
        (0, 0.55), (-0.6, 1.15), (-1.15, 0.6), (-0.55, 0), (-1.15, -0.6), (-0.6, -1.15),
    ],
    "star": _star(),
}  # fmt: skip
