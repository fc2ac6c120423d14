"""Complete runs that differ only in their seed, and their figures over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vclimb.memory.store.index_nodes import INDEX, PARTS
from vclimb.study.naming import BUDGET, shortened
from vclimb.study.report.results import RunResult


@dataclass(frozen=True)
class Spread:
    """Mean and range of a figure over seeds; NaN where it was never measured.

    Attributes:
        mean: Arithmetic mean over the seeds.
        low: Lowest value of a seed.
        high: Highest value of a seed.
        n: Number of seeds with a value.
    """

    mean: float
    low: float
    high: float
    n: int

    @classmethod
    def from_values(cls, values: Iterable[float]) -> Spread:
        """Summarise one value per seed, without those that are NaN."""
        known = [value for value in values if not math.isnan(value)]
        if not known:
            return cls(math.nan, math.nan, math.nan, 0)
        return cls(sum(known) / len(known), min(known), max(known), len(known))

    def overlaps(self, other: Spread) -> bool:
        """Tell whether the ranges of two groups meet; then their difference may be chance."""
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True)
class Group:
    """Complete runs that differ only in their seed: a cell of the study.

    Attributes:
        runs: Runs, sorted by seed.
    """

    runs: tuple[RunResult, ...]

    @property
    def settings(self) -> Mapping[str, Any]:
        """Settings of the first run, by dotted name."""
        return self.runs[0].settings

    @property
    def budget(self) -> str:
        """Budget as it is written in the settings."""
        return str(self.settings.get(BUDGET))

    @property
    def anchor(self) -> str:
        """Id of the group's row in the page's table."""
        return f"cell-{self.runs[0].run_id}"

    @property
    def run_ids(self) -> str:
        """Names of the runs, shortened where there are many."""
        return shortened(", ".join(run.run_id for run in self.runs), 300)

    @property
    def keeps_exemplars(self) -> bool:
        """Whether the method keeps exemplars."""
        return self.runs[0].has_memory

    @property
    def has_budget(self) -> bool:
        """Whether what is kept follows from a budget: exemplars, or statistics whose size the budget sets."""
        return self.keeps_exemplars or (self.bytes.n > 0 and self.settings.get(BUDGET, "none") != "none")

    @property
    def is_fixed(self) -> bool:
        """Whether the method keeps something, but no exemplars, so that its bytes don't depend on a budget."""
        return not self.has_budget and self.bytes.n > 0

    @cached_property
    def acc(self) -> Spread:
        """Acc after the last task, a fraction."""
        return self.spread(lambda run: run.number("acc"))

    @cached_property
    def bwf(self) -> Spread:
        """Backward forgetting after the last task, a fraction."""
        return self.spread(lambda run: run.number("bwf"))

    @cached_property
    def bytes(self) -> Spread:
        """Size of the memory on disk in bytes: of all that the method keeps between tasks."""
        return self.spread(lambda run: run.memory("bytes_on_disk"))

    @cached_property
    def parts(self) -> dict[str, float]:
        """Mean bytes of each part of the memory, such as `exemplars` or `statistics`, that takes any."""
        means = {part: sum(run.part_bytes(part) for run in self.runs) / len(self.runs) for part in (*PARTS, INDEX)}
        return {part: n_bytes for part, n_bytes in means.items() if n_bytes > 0}

    @cached_property
    def frames(self) -> Spread:
        """Number of frames in the memory."""
        return self.spread(lambda run: run.memory("frames"))

    def spread(self, figure: Callable[[RunResult], float]) -> Spread:
        """Summarise any figure over the seeds."""
        return Spread.from_values(figure(run) for run in self.runs)

    def curve(self, figures: Callable[[RunResult], list[float]]) -> list[Spread]:
        """Summarise a figure of each task over the seeds."""
        return [Spread.from_values(values) for values in zip(*map(figures, self.runs), strict=False)]
