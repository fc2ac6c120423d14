"""Group runs that differ only in their seed, and arrange the groups for charts and tables."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from vclimb.memory.choice.budget import MemoryBudget
from vclimb.pipeline.errors import SettingsError
from vclimb.study.naming import BUDGET, label, short, value_text, varied
from vclimb.study.report.group import Group
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
class ReportLayout:
    """Arrangement of a study's groups: which setting is drawn as lines, which as panels.

    Attributes:
        groups: Groups that keep exemplars, in the order of the axes' values.
        fixed: Groups that keep something else alone, such as statistics: each has one number of bytes, whatever the
            budget.
        references: Groups that keep nothing; charts draw each as a level line.
        names: Settings that differ between groups, in the order of interest.
        series: Setting that lines and markers stand for; None where no setting varies.
        panels: Settings that panels and colours stand for.
        budgets: Budgets as written, sorted by kind and size.
    """

    groups: tuple[Group, ...]
    fixed: tuple[Group, ...]
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
        replaying = [group for group in groups if group.has_budget]
        names = varied([group.settings for group in replaying])[:MAX_NAMES]
        series = _series(names, replaying)
        orders = {name: _places(_ordered_values(name, replaying)) for name in names}
        replaying.sort(key=lambda group: [orders[name][repr(group.settings.get(name))] for name in names])
        return cls(
            groups=tuple(replaying),
            fixed=tuple(group for group in groups if group.is_fixed),
            references=tuple(group for group in groups if not (group.has_budget or group.is_fixed)),
            names=tuple(varied([group.settings for group in groups])[:MAX_NAMES]),
            series=series,
            panels=tuple(name for name in names if name not in (series, BUDGET)),
            budgets=tuple(sorted({group.budget for group in replaying}, key=budget_order)),
        )

    @property
    def keeping(self) -> tuple[Group, ...]:
        """Groups that keep anything between tasks."""
        return (*self.groups, *self.fixed)

    @property
    def without_exemplars(self) -> tuple[Group, ...]:
        """Groups that keep no exemplars."""
        return (*self.fixed, *self.references)

    @property
    def every_group(self) -> tuple[Group, ...]:
        """All groups, in the order of tables."""
        return (*self.groups, *self.fixed, *self.references)

    @cached_property
    def kinds(self) -> dict[str, list[Group]]:
        """Groups that differ only in their budget, sorted by bytes: a curve for each kind of memory."""
        kinds: dict[str, list[Group]] = {}
        for group in self.groups:
            kinds.setdefault(self.name_without_budget(group), []).append(group)
        return {name: sorted(groups, key=lambda group: group.bytes.mean) for name, groups in kinds.items()}

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
        ignored = set() if group.keeps_exemplars else {name for name in self.names if name.startswith("memory.")}
        if group.has_budget:
            ignored.discard(BUDGET)
        return [name for name in self.names if name not in ignored]

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
            (group for group in self.keeping if not math.isnan(group.acc.mean + group.bytes.mean)),
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
