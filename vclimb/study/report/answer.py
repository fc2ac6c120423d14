"""Answer the question of a study in a few lines: the best cell of each budget, and what the next doubling buys."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from vclimb.study.naming import size_label
from vclimb.study.report.figures import spread_text
from vclimb.study.report.groups import Group, ReportLayout, best, budget_order


@dataclass(frozen=True)
class Doubling:
    """Step from the best cell of a budget to the best cell of the next larger budget.

    Attributes:
        smaller: Smaller budget, as written.
        larger: Larger budget, as written.
        doublings: Number of doublings of the memory's measured bytes.
        points: Percentage points of Acc that each doubling buys.
        verdict: Whether the difference is larger than the seeds' spread, in words.
    """

    smaller: str
    larger: str
    doublings: float
    points: float
    verdict: str


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
        doublings: Steps from each budget to the next of its kind.
        frugal: Smallest memory whose seeds reach those of the best cell; None where the best is as small.
    """

    best: dict[str, Group]
    doublings: tuple[Doubling, ...]
    frugal: Group | None


def answer(layout: ReportLayout) -> Answer:
    """Find the answer in all complete runs."""
    tops = {budget: top for budget in layout.budgets if (top := best(layout.at_budget(budget))) is not None}
    steps = [
        _doubling(smaller, tops[smaller], larger, tops[larger])
        for smaller, larger in pairwise(tops)
        if budget_order(smaller)[0] == budget_order(larger)[0]
    ]
    overall = best(layout.groups)
    frugal = None
    if overall is not None:
        as_good = [group for group in layout.groups if group.acc.n and group.acc.overlaps(overall.acc)]
        smallest = min(as_good, key=lambda group: group.bytes.mean)
        frugal = smallest if smallest.bytes.mean < overall.bytes.mean / 1.1 else None
    return Answer(tops, tuple(steps), frugal)


def answer_rows(layout: ReportLayout, answer: Answer) -> list[AnswerRow]:
    """Put the answer into words, a row for each budget."""
    steps = {step.smaller: step for step in answer.doublings}
    return [
        AnswerRow(
            budget=budget,
            cell=layout.name_without_budget(group),
            acc=spread_text(group.acc),
            bwf=spread_text(group.bwf),
            size=size_label(group.bytes.mean),
            rival=_rival(layout, budget, group),
            doubling=_step(steps[budget]) if budget in steps else "-",
        )
        for budget, group in answer.best.items()
    ]


def frugal_sentence(layout: ReportLayout, answer: Answer) -> str:
    """Name the smaller memory that does as well as the best, as far as seeds tell; empty if there is none."""
    overall = best(layout.groups)
    if answer.frugal is None or overall is None:
        return ""
    ratio = overall.bytes.mean / answer.frugal.bytes.mean
    return (
        f"The smallest memory whose seeds reach those of the best one: {layout.name(answer.frugal)}, with {ratio:.1f} "
        f"times fewer bytes ({verdict(answer.frugal, overall)})."
    )


def verdict(first: Group, second: Group) -> str:
    """Say whether two cells differ by more than chance, as far as seeds tell."""
    if min(first.acc.n, second.acc.n) < 2:
        return "one seed: chance unknown"
    if first.acc.overlaps(second.acc):
        return "within the seeds' spread"
    return "beyond the seeds' spread"


def _rival(layout: ReportLayout, budget: str, top: Group) -> str:
    others = [g for g in layout.at_budget(budget) if layout.series_of(g) != layout.series_of(top)]
    rival = best(others)
    if rival is None:
        return "-"
    behind = 100 * (top.acc.mean - rival.acc.mean)
    return f"{layout.series_values[layout.series_of(rival)]}: {behind:.1f} points less, {verdict(rival, top)}"


def _step(step: Doubling) -> str:
    if math.isnan(step.points):
        return f"to {step.larger}: the memory hardly grows"
    return f"to {step.larger}: {step.points:+.1f} points a doubling, {step.verdict}"


def _doubling(smaller: str, small_group: Group, larger: str, large_group: Group) -> Doubling:
    gain = 100 * (large_group.acc.mean - small_group.acc.mean)
    ratio = large_group.bytes.mean / small_group.bytes.mean if small_group.bytes.mean else math.nan
    doublings = math.log2(ratio) if ratio > 0 else math.nan
    points = gain / doublings if abs(doublings) > 0.1 else math.nan
    return Doubling(smaller, larger, doublings, points, verdict(small_group, large_group))
