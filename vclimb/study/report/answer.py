"""The answer of a study in a few lines: the best cell for each budget, and what the next doubling buys."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from vclimb.study.naming import label
from vclimb.study.report.groups import BUDGET, Group, Layout, best, budget_order
from vclimb.study.report.plots import spread_text
from vclimb.study.report.svg import size_label


@dataclass(frozen=True)
class Doubling:
    """From the best cell of a budget to that of the next larger one.

    Attributes:
        of: the smaller budget.
        to: the larger one.
        doublings: of the memory's bytes, as they were measured.
        points: percentage points of Acc that each doubling buys.
        verdict: whether seeds lie further apart than that.
    """

    of: str
    to: str
    doublings: float
    points: float
    verdict: str


@dataclass(frozen=True)
class Row:
    """What a budget buys, in words.

    Attributes:
        budget: as it was asked for.
        cell: the most accurate one, without its budget.
        acc: percent, with the seeds' range.
        bwf: points, the same.
        size: bytes on disk, measured.
        rival: the best of another value of the series, and how far behind it is.
        doubling: what the step to the next budget of this kind buys.
    """

    budget: str
    cell: str
    acc: str
    bwf: str
    size: str
    rival: str
    doubling: str


@dataclass(frozen=True)
class Answer:
    """What memory buys.

    Attributes:
        best: budget -> the most accurate cell.
        doublings: from each budget to the next of its kind.
        frugal: the smallest memory whose seeds reach those of the best cell of all; None where that is the best.
    """

    best: dict[str, Group]
    doublings: tuple[Doubling, ...]
    frugal: Group | None


def answer(layout: Layout) -> Answer:
    """Of all complete runs."""
    tops = {budget: top for budget in layout.budgets if (top := best(layout.at_budget(budget))) is not None}
    steps = [
        _doubling(small, tops[small], large, tops[large])
        for small, large in pairwise(tops)
        if budget_order(small)[0] == budget_order(large)[0]
    ]
    overall = best(layout.groups)
    frugal = None
    if overall is not None:
        reaching = [g for g in layout.groups if g.acc.n and g.acc.overlaps(overall.acc)]
        smallest = min(reaching, key=lambda group: group.bytes.mean)
        frugal = smallest if smallest.bytes.mean < overall.bytes.mean / 1.1 else None
    return Answer(tops, tuple(steps), frugal)


def rows(layout: Layout, found: Answer) -> list[Row]:
    """A row for each budget."""
    steps = {step.of: step for step in found.doublings}
    return [
        Row(
            budget,
            label(group.settings, [name for name in layout.names_of(group) if name != BUDGET]),
            spread_text(group.acc),
            spread_text(group.bwf),
            size_label(group.bytes.mean),
            _rival(layout, budget, group),
            _step(steps[budget]) if budget in steps else "-",
        )
        for budget, group in found.best.items()
    ]


def frugal_sentence(layout: Layout, found: Answer) -> str:
    """Which smaller memory does as well as the best one, as far as seeds tell; empty if none does."""
    overall = best(layout.groups)
    if found.frugal is None or overall is None:
        return ""
    saved = overall.bytes.mean / found.frugal.bytes.mean
    return (
        f"The smallest memory whose seeds reach those of the best one: {layout.name(found.frugal)}, with {saved:.1f} "
        f"times fewer bytes ({verdict(found.frugal, overall)})."
    )


def _rival(layout: Layout, budget: str, top: Group) -> str:
    others = [g for g in layout.at_budget(budget) if layout.series_of(g) != layout.series_of(top)]
    rival = best(others)
    if rival is None:
        return "-"
    behind = 100 * (top.acc.mean - rival.acc.mean)
    return f"{layout.series_values[layout.series_of(rival)]}: {behind:.1f} points less, {verdict(rival, top)}"


def _step(step: Doubling) -> str:
    if math.isnan(step.points):
        return f"to {step.to}: the memory hardly grows"
    return f"to {step.to}: {step.points:+.1f} points a doubling, {step.verdict}"


def verdict(one: Group, other: Group) -> str:
    """Whether two cells' difference is more than chance, as far as seeds tell."""
    if min(one.acc.n, other.acc.n) < 2:
        return "one seed: chance unknown"
    if one.acc.overlaps(other.acc):
        return "within the seeds' spread"
    return "beyond the seeds' spread"


def _doubling(small: str, of: Group, large: str, to: Group) -> Doubling:
    gain = 100 * (to.acc.mean - of.acc.mean)
    ratio = to.bytes.mean / of.bytes.mean if of.bytes.mean else math.nan
    doublings = math.log2(ratio) if ratio > 0 else math.nan
    each = gain / doublings if abs(doublings) > 0.1 else math.nan
    return Doubling(small, large, doublings, each, verdict(of, to))
