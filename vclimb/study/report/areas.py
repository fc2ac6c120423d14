"""Mean accuracy over the logarithm of the bytes kept: one number for each curve of accuracy over bytes.

For the accuracy acc(x) of a kind of memory that keeps x bytes,

    A = 1 / (ln b - ln a) * integral of acc(x) d ln x from a to b,

which is the area under the curve divided by the width of its range. acc is measured at the budgets, and linear in ln x
between them. a and b are the ends of the range that all curves of all seeds share.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vclimb.study.naming import size_label
from vclimb.study.report.figures import spread_text
from vclimb.study.report.group import Group, Spread
from vclimb.study.report.groups import SAME_BYTES, ReportLayout

Points = list[tuple[float, float]]
"""Bytes kept and accuracy, a fraction, at each budget."""
_NOTHING = Spread.from_values(())


@dataclass(frozen=True)
class Area:
    """Mean accuracy of a kind of memory over the shared range of bytes.

    Attributes:
        kind: What the curve stands for.
        acc: Mean over the range, with the seeds' range.
        sizes: Bytes kept over all budgets and seeds; None where nothing is kept.
        note: Reason why there is no number, or how a method without a curve comes to one; empty for a curve.
    """

    kind: str
    acc: Spread
    sizes: tuple[float, float] | None
    note: str

    @property
    def in_words(self) -> str:
        """Mean in percent with the seeds' range, or why there is none."""
        return spread_text(self.acc) if self.acc.n else f"- ({self.note})"

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values."""
        acc = asdict(self.acc) if self.acc.n else None
        return {"kind": self.kind, "acc": acc, "bytes": self.sizes and list(self.sizes), "note": self.note or None}


@dataclass(frozen=True)
class Areas:
    """Mean accuracies over the range of bytes that all curves of a study share.

    Attributes:
        low: Lower end of the range in bytes; NaN where the curves share none.
        high: Upper end of the range in bytes; NaN where the curves share none.
        rows: Kinds of memory, the highest mean first.
    """

    low: float
    high: float
    rows: tuple[Area, ...]

    @property
    def range_text(self) -> str:
        """Range of bytes in words; empty where there is none."""
        return "" if math.isnan(self.low) else f"{size_label(self.low)} to {size_label(self.high)}"

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values; fractions are from 0 to 1."""
        has_range = bool(self.range_text)
        return {
            "from_bytes": self.low if has_range else None,
            "to_bytes": self.high if has_range else None,
            "kinds": [row.to_json() for row in self.rows],
        }


def areas(layout: ReportLayout) -> Areas:
    """Compute the mean accuracy of each kind of memory over the range that all curves share.

    Methods that keep no exemplars have one accuracy for all bytes from theirs on. They count where they fit the lower
    end of the range.
    """
    curves = {kind: _curves(groups) for kind, groups in layout.kinds.items()}
    low, high = shared_range([points for of_kind in curves.values() for points in of_kind.values()])
    rows = [
        Area(kind, _mean(curves[kind].values(), low, high), _sizes(groups), _reason(curves[kind], low))
        for kind, groups in layout.kinds.items()
    ]
    for group in () if math.isnan(low) else layout.without_exemplars:
        fits = not group.is_fixed or group.bytes.mean <= low * SAME_BYTES
        rows.append(
            Area(
                layout.name(group),
                group.acc if fits else _NOTHING,
                (group.bytes.low, group.bytes.high) if group.is_fixed else None,
                "level line" if fits else f"larger than {size_label(low)}",
            )
        )
    rows.sort(key=lambda row: -row.acc.mean if row.acc.n else math.inf)
    return Areas(low, high, tuple(rows))


def mean_accuracy(points: Sequence[tuple[float, float]], low: float, high: float) -> float:
    """Compute the mean accuracy of one curve over ln bytes from `low` to `high`, which lie on the curve.

    Args:
        points: Bytes kept and accuracy at each budget, in any order. Accuracies at the same bytes are averaged.
    """
    accuracies: dict[float, list[float]] = {}
    for n_bytes, accuracy in points:
        accuracies.setdefault(math.log(n_bytes), []).append(accuracy)
    places = sorted(accuracies)
    means = [sum(accuracies[place]) / len(accuracies[place]) for place in places]
    start, end = math.log(low), math.log(high)
    corners = [start, *(place for place in places if start < place < end), end]
    return float(np.trapezoid(np.interp(corners, places, means), corners)) / (end - start)


def shared_range(curves: Sequence[Sequence[tuple[float, float]]]) -> tuple[float, float]:
    """Find the bytes that all curves reach; NaN where they share no range."""
    if not curves:
        return math.nan, math.nan
    low = max(min(n_bytes for n_bytes, _ in points) for points in curves)
    high = min(max(n_bytes for n_bytes, _ in points) for points in curves)
    return (low, high) if high > low * SAME_BYTES else (math.nan, math.nan)


def _curves(groups: Sequence[Group]) -> dict[int, Points]:
    """Collect the curve of each seed that was measured at every budget of a kind, if it has more than one size."""
    points: dict[int, Points] = {}
    for group in groups:
        for run in group.runs:
            n_bytes, accuracy = run.memory("bytes_on_disk"), run.number("acc")
            if n_bytes > 0 and not math.isnan(accuracy):
                points.setdefault(run.seed, []).append((n_bytes, accuracy))
    whole = {seed: curve for seed, curve in points.items() if len(curve) == len(groups)}
    return {seed: curve for seed, curve in whole.items() if max(curve)[0] > min(curve)[0] * SAME_BYTES}


def _mean(curves: Iterable[Points], low: float, high: float) -> Spread:
    if math.isnan(low):
        return _NOTHING
    return Spread.from_values(mean_accuracy(points, low, high) for points in curves)


def _reason(curves: Mapping[int, Points], low: float) -> str:
    if not curves:
        return "no seed has runs of two sizes and at every budget"
    return "the curves share no range of bytes" if math.isnan(low) else ""


def _sizes(groups: Sequence[Group]) -> tuple[float, float] | None:
    known = [group.bytes for group in groups if group.bytes.n]
    return (min(spread.low for spread in known), max(spread.high for spread in known)) if known else None
