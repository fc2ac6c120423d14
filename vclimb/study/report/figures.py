"""Figures that charts and tables show: their titles, their axes, and their values as text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vclimb.study.report.group import Group, Spread


@dataclass(frozen=True)
class Figure:
    """A figure of a group that can be an axis.

    Attributes:
        name: Short name for files and columns.
        title: Title of the axis, with the unit.
        spread: Function that returns a group's values over seeds.
        unit: `percent` (fractions on a linear axis), or `bytes` or `count` (on a logarithmic axis).
    """

    name: str
    title: str
    spread: Callable[[Group], Spread]
    unit: str


ACC = Figure("acc", "Acc after the last task (%)", lambda group: group.acc, "percent")
BWF = Figure("bwf", "BWF: forgetting after the last task (points)", lambda group: group.bwf, "percent")
BYTES = Figure("bytes", "bytes kept between tasks (log scale)", lambda group: group.bytes, "bytes")
FRAMES = Figure("frames", "frames in memory (log scale)", lambda group: group.frames, "count")


def spread_text(spread: Spread, unit: str = " %") -> str:
    """Write a mean of fractions in percent, with the seeds' range where there are several seeds."""
    if not spread.n:
        return "-"
    text = f"{100 * spread.mean:.1f}{unit}"
    return text if spread.n < 2 else f"{text} ({100 * spread.low:.1f} to {100 * spread.high:.1f})"


def printable(text: str) -> str:
    """Replace characters that pages and XML have no place for, as in names of files and classes."""
    text = text.expandtabs(4)
    if text.replace("\n", " ").isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}" for letter in text)
