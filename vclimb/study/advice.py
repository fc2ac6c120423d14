"""Ranking of kinds of memory by the figures of a pilot, with their uncertainty. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from vclimb.study.naming import size_label

_STEPS_OF_BUDGET = 10


@dataclass(frozen=True)
class Measured:
    """Figures of one kind of memory in a pilot.

    Attributes:
        name: Kind of memory, in words.
        accuracies: Accuracy of each seed, 0 to 1.
        test_error: Standard error that follows from the number of test clips.
        bytes: Size of the memory at the whole budget, once all classes are learned.
    """

    name: str
    accuracies: tuple[float, ...]
    test_error: float
    bytes: int

    @property
    def mean(self) -> float:
        """Mean accuracy over seeds."""
        return fmean(self.accuracies)

    @property
    def spread(self) -> float:
        """Standard deviation over seeds; 0 for one seed."""
        return stdev(self.accuracies) if len(self.accuracies) > 1 else 0.0

    @property
    def error(self) -> float:
        """Standard error of the mean: of the test clips, which all seeds share, and of the seeds."""
        return math.hypot(self.test_error, self.spread / math.sqrt(len(self.accuracies)))


@dataclass(frozen=True)
class Ranking:
    """Kinds of memory in the order of their accuracy.

    Attributes:
        ordered: Kinds, the most accurate first.
        as_good: Names of the kinds within one standard error of the most accurate one, which is among them.
        cheapest: The cheapest of those, and of equally cheap ones the simplest.
    """

    ordered: tuple[Measured, ...]
    as_good: frozenset[str]
    cheapest: Measured

    @property
    def best(self) -> Measured:
        """Kind to keep: the most accurate one, and of equally accurate ones the cheapest, which is the best guess."""
        return self.ordered[0]

    def sentences(self) -> str:
        """Say what to keep, and how sure that is."""
        best, cheapest = self.best, self.cheapest
        margin = f"one standard error is {100 * best.error:.1f} points"
        if len(self.ordered) == 1:
            return f"Keep {best.name}: nothing else fits the budget."
        if len(self.as_good) == 1:
            ahead = f"{100 * (best.mean - self.ordered[1].mean):.1f} points above {self.ordered[1].name}"
            return f"Keep {best.name}: {ahead}, the next; {margin}."
        n_others = len(self.as_good) - 1
        others = "1 other is" if n_others == 1 else f"{n_others} others are"
        if len(self.as_good) == len(self.ordered) > 2:
            others = "all others are"
        tied = f"Keep {best.name}, the most accurate; {others} within noise of it ({margin})"
        if cheapest is best:
            return f"{tied}, and none is cheaper."
        behind = f"{100 * (best.mean - cheapest.mean):.1f} points behind"
        return f"{tied}. The cheapest of these is {cheapest.name}: {behind}, with {size_label(cheapest.bytes)}."


def binomial_error(accuracies: Sequence[float], counts: Sequence[int]) -> float:
    """Compute the standard error of a mean accuracy over tasks, from the numbers of their test clips.

    A clip more is counted as right, and one as wrong (Laplace), so that few clips that are all right leave a doubt.

    Args:
        accuracies: Accuracy on each task, 0 to 1.
        counts: Number of test clips of each task.
    """
    variances = []
    for accuracy, count in zip(accuracies, counts, strict=True):
        share = (accuracy * count + 1) / (count + 2)
        variances.append(share * (1 - share) / count)
    return math.sqrt(sum(variances)) / len(variances)


def rank(kinds: Sequence[Measured], budget: int) -> Ranking:
    """Order kinds by accuracy, and find the cheapest within one standard error of the most accurate.

    The most accurate kind is advised: the cheapest as good one (the rule of one standard error, Breiman et al.,
    Classification and Regression Trees, 1984) was up to 21 points below the best in whole runs (docs/study-bytes.md).
    Sizes count in tenths of the budget, since memories of exemplars never fill it exactly.

    Args:
        kinds: Measured kinds, the simplest first.
        budget: Budget in bytes of all classes.
    """
    costs = {kind.name: math.ceil(_STEPS_OF_BUDGET * kind.bytes / budget) for kind in kinds}
    ordered = sorted(kinds, key=lambda kind: (-kind.mean, costs[kind.name]))
    best = ordered[0]
    as_good = [kind for kind in kinds if best.mean - kind.mean <= best.error]
    cheapest = min(as_good, key=lambda kind: costs[kind.name])  # the first of equal ones
    return Ranking(tuple(ordered), frozenset(kind.name for kind in as_good), cheapest)
