"""Answer the question of a study in a few lines: the best cell of each budget, and what the next doubling buys."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from vclimb.study.naming import size_label
from vclimb.study.report.figures import spread_text
from vclimb.study.report.group import Group
from vclimb.study.report.groups import SAME_BYTES, ReportLayout, best, budget_order

_MAX_SENTENCES = 4


@dataclass(frozen=True)
class AnswerRow:
    """What a budget buys, in words.

    Attributes:
        budget: Budget as written.
        cell: Most accurate cell, named without its budget.
        acc: Acc in percent, with the seeds' range.
        bwf: Backward forgetting in points, with the seeds' range.
        size: Measured bytes on disk.
        rival: Best cell of another value of the series, and how far behind it is.
        doubling: What the step to the next budget of the same kind buys.
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
        best: Budget -> most accurate cell.
        rows: Answer in words: a row for each budget.
        without_exemplars: Sentences about the most accurate methods that keep no exemplars.
        smallest_as_good: Sentence about a smaller memory that does as well as the best one, as far as seeds tell; may
            be empty.
    """

    best: dict[str, Group]
    rows: tuple[AnswerRow, ...]
    without_exemplars: tuple[str, ...]
    smallest_as_good: str


def answer(layout: ReportLayout) -> Answer:
    """Find the answer in all complete runs."""
    tops = {budget: top for budget in layout.budgets if (top := best(layout.at_budget(budget))) is not None}
    steps = {
        smaller: f"to {larger}: {_doubling(tops[smaller], tops[larger])}"
        for smaller, larger in pairwise(tops)
        if budget_order(smaller)[0] == budget_order(larger)[0]
    }
    rows = tuple(
        AnswerRow(
            budget=budget,
            cell=layout.name_without_budget(group),
            acc=spread_text(group.acc),
            bwf=spread_text(group.bwf),
            size=size_label(group.bytes.mean),
            rival=_rival(layout, budget, group),
            doubling=steps.get(budget, "-"),
        )
        for budget, group in tops.items()
    )
    return Answer(tops, rows, _without_exemplars(layout), _smallest_as_good(layout))


def _without_exemplars(layout: ReportLayout) -> tuple[str, ...]:
    """Compare methods that keep no exemplars, the best first, with the smallest memory of exemplars that beats them."""
    known = sorted((group for group in layout.fixed if group.acc.n), key=lambda group: -group.acc.mean)
    sentences = []
    for group in known[:_MAX_SENTENCES]:
        better = [g for g in layout.groups if g.acc.n and g.acc.mean > group.acc.mean]
        least = min((g.bytes.mean for g in better), default=0.0)
        smallest = best(g for g in better if g.bytes.mean <= least * SAME_BYTES)
        rival = (
            "no memory of exemplars is more accurate"
            if smallest is None
            else f"the smallest memory of exemplars that is more accurate: {layout.name_without_budget(smallest)}, "
            f"{size_label(smallest.bytes.mean)} ({_verdict(group, smallest)})"
        )
        sentences.append(
            f"{layout.name(group)} keeps {size_label(group.bytes.mean)} and no exemplars: Acc {spread_text(group.acc)}"
            + (f"; {rival}." if layout.groups else ".")
        )
    return tuple(sentences)


def _smallest_as_good(layout: ReportLayout) -> str:
    """Name the smallest memory that does as well as the best one; empty where the best is as small."""
    if (overall := best(layout.keeping)) is None:
        return ""
    as_good = [group for group in layout.keeping if group.acc.n and group.acc.overlaps(overall.acc)]
    smallest = min(as_good, key=lambda group: group.bytes.mean)
    if smallest.bytes.mean >= overall.bytes.mean / 1.1:
        return ""
    ratio = overall.bytes.mean / smallest.bytes.mean
    return (
        f"The smallest memory whose seeds reach those of the best one: {layout.name(smallest)}, with {ratio:.1f} "
        f"times fewer bytes ({_verdict(smallest, overall)})."
    )


def _verdict(first: Group, second: Group) -> str:
    """Say whether two cells differ by more than chance, as far as seeds tell."""
    if min(first.acc.n, second.acc.n) < 2:
        return "one seed: chance unknown"
    return f"{'within' if first.acc.overlaps(second.acc) else 'beyond'} the seeds' spread"


def _rival(layout: ReportLayout, budget: str, top: Group) -> str:
    others = [g for g in layout.at_budget(budget) if layout.series_of(g) != layout.series_of(top)]
    if (rival := best(others)) is None:
        return "-"
    behind = 100 * (top.acc.mean - rival.acc.mean)
    return f"{layout.series_values[layout.series_of(rival)]}: {behind:.1f} points less, {_verdict(rival, top)}"


def _doubling(small: Group, large: Group) -> str:
    """Word the percentage points of Acc that each doubling of the memory's measured bytes buys."""
    ratio = large.bytes.mean / small.bytes.mean if small.bytes.mean else math.nan
    doublings = math.log2(ratio) if ratio > 0 else math.nan
    if not abs(doublings) > 0.1:
        return "the memory hardly grows"
    points = 100 * (large.acc.mean - small.acc.mean) / doublings
    return f"{points:+.1f} points a doubling, {_verdict(small, large)}"
