"""Group runs that differ only in their seed, and arrange the groups for charts and tables."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from vclimb.memory.choice.budget import MemoryBudget
from vclimb.memory.store.index_nodes import INDEX, PARTS
from vclimb.pipeline.errors import SettingsError
from vclimb.study.naming import BUDGET, label, short, shortened, value_text, varied
from vclimb.study.report.results import RunResult, newest

ValueT = TypeVar("ValueT")

# Settings that lines may stand for, the preferred first. All other settings that vary get panels.
_SERIES = (
    "memory.frames",
    "memory.codec",
    "memory.frame_choice",
    "memory.video_choice",
    "method.name",
    "consistency.weight",
)
MAX_NAMES = 60
"""Largest number of settings that describe a group."""
SAME_BYTES = 1.02
"""Factor below which two memories count as equally large: no budget is ever filled to the byte."""


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
    def has_memory(self) -> bool:
        """Whether the method keeps exemplars."""
        return self.runs[0].has_memory

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


@dataclass(frozen=True)
class ReportLayout:
    """Arrangement of a study's groups: which setting is drawn as lines, which as panels.

    Attributes:
        groups: Groups that keep exemplars, in the order of the axes' values.
        references: Groups that keep none; charts draw each as a level line.
        names: Settings that differ between groups, in the order of interest.
        series: Setting that lines and markers stand for; None where no setting varies.
        panels: Settings that panels and colours stand for.
        budgets: Budgets as written, sorted by kind and size.
    """

    groups: tuple[Group, ...]
    references: tuple[Group, ...]
    names: tuple[str, ...]
    series: str | None
    panels: tuple[str, ...]
    budgets: tuple[str, ...]

    @classmethod
    def from_runs(cls, runs: Sequence[RunResult]) -> ReportLayout:
        """Arrange complete runs. Of several runs with the same settings and seed only the newest counts."""
        runs_of: dict[str, list[RunResult]] = {}
        for run in newest(runs):
            runs_of.setdefault(run.key, []).append(run)
        groups = [Group(tuple(sorted(seeds, key=lambda run: run.seed))) for seeds in runs_of.values()]
        replaying = [group for group in groups if group.has_memory]
        names = varied([group.settings for group in replaying])[:MAX_NAMES]
        series = _series(names, replaying)
        orders = {name: _places(_ordered_values(name, replaying)) for name in names}
        replaying.sort(key=lambda group: [orders[name][repr(group.settings.get(name))] for name in names])
        return cls(
            groups=tuple(replaying),
            references=tuple(group for group in groups if not group.has_memory),
            names=tuple(varied([group.settings for group in groups])[:MAX_NAMES]),
            series=series,
            panels=tuple(name for name in names if name not in (series, BUDGET)),
            budgets=tuple(sorted({group.budget for group in replaying}, key=budget_order)),
        )

    @cached_property
    def series_values(self) -> list[str]:
        """Names of the lines; one empty name where no setting varies."""
        if self.series is None:
            return [""]
        return list(dict.fromkeys(short(self.series, value) for value in _ordered_values(self.series, self.groups)))

    @cached_property
    def series_places(self) -> dict[str, int]:
        """Number of each line, by its name."""
        return {name: place for place, name in enumerate(self.series_values)}

    @cached_property
    def panel_names(self) -> list[str]:
        """Names of the panels; one empty name where only the series and the budget vary."""
        return list(dict.fromkeys(self.panel_of(group) for group in self.groups)) or [""]

    def series_of(self, group: Group) -> int:
        """Look up the number of a group's line."""
        return self.series_places[short(self.series, group.settings.get(self.series)) if self.series else ""]

    def panel_of(self, group: Group) -> str:
        """Name a group's panel."""
        return label(group.settings, self.panels) if self.panels else ""

    def name(self, group: Group) -> str:
        """Name a group in a few words: the settings that set it apart."""
        return label(group.settings, self.names_of(group))

    def name_without_budget(self, group: Group) -> str:
        """Name a group where its budget is known from the context."""
        return label(group.settings, [name for name in self.names_of(group) if name != BUDGET])

    def names_of(self, group: Group) -> list[str]:
        """Select the settings that describe a group: none of a memory where its method keeps none."""
        return [name for name in self.names if group.has_memory or not name.startswith("memory.")]

    @cached_property
    def by_budget(self) -> dict[str, list[Group]]:
        """Groups of each budget."""
        groups: dict[str, list[Group]] = {budget: [] for budget in self.budgets}
        for group in self.groups:
            groups[group.budget].append(group)
        return groups

    def at_budget(self, budget: str) -> list[Group]:
        """Select the groups of one budget."""
        return self.by_budget[budget]

    @cached_property
    def front(self) -> list[Group]:
        """Pareto front, sorted by bytes: groups that no memory of at most the same size (`SAME_BYTES`) beats in Acc."""
        known = sorted(
            (group for group in self.groups if not math.isnan(group.acc.mean + group.bytes.mean)),
            key=lambda group: group.bytes.mean,
        )
        sizes = [group.bytes.mean for group in known]
        tops: list[Group] = []  # the best of each prefix; of equal accuracies the smaller memory, which comes first
        for group in known:
            tops.append(group if not tops or group.acc.mean > tops[-1].acc.mean else tops[-1])
        return [group for group in known if tops[bisect_right(sizes, group.bytes.mean * SAME_BYTES) - 1] is group]


def budget_order(text: str) -> tuple[str, int]:
    """Sort budgets by kind, then by size."""
    try:
        budget = MemoryBudget.parse(text)
    except SettingsError:
        return ("", 0)
    return (budget.kind, budget.amount)


def evenly(values: Sequence[ValueT], count: int) -> list[ValueT]:
    """Choose at most `count` values, evenly over all of them, with the first and the last."""
    if len(values) <= count:
        return list(values)
    return [values[round(place * (len(values) - 1) / (count - 1))] for place in range(count)]


def best(groups: Iterable[Group]) -> Group | None:
    """Select the most accurate group; None where none was measured."""
    known = [group for group in groups if not math.isnan(group.acc.mean)]
    return max(known, key=lambda group: group.acc.mean, default=None)


def _series(names: Sequence[str], groups: Sequence[Group]) -> str | None:
    """Choose the setting that lines stand for: the first of `_SERIES` with over two values, else the first at all."""
    candidates = [name for name in _SERIES if name in names] or [name for name in names if name != BUDGET]
    n_values = {name: len({value_text(group.settings.get(name)) for group in groups}) for name in candidates}
    return next((name for name in candidates if n_values[name] > 2), next(iter(candidates), None))


def _ordered_values(name: str, groups: Iterable[Group]) -> list[Any]:
    """List a setting's values: numbers by size, then `all`, other values as they come."""
    values = list({repr(value): value for group in groups for value in [group.settings.get(name)]}.values())
    if name == BUDGET:
        return sorted(values, key=lambda value: budget_order(str(value)))
    numbers = sorted(value for value in values if isinstance(value, int | float))
    return [*numbers, *(value for value in values if not isinstance(value, int | float))]


def _places(values: Sequence[Any]) -> dict[str, int]:
    return {repr(value): place for place, value in enumerate(values)}
