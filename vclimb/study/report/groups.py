"""Runs that differ in their seed alone, as one: means, and how far seeds lie apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vclimb.memory.choice.budget import MemoryBudget
from vclimb.pipeline.errors import SettingsError
from vclimb.study.naming import label, short, value_text, varied
from vclimb.study.report.results import RunResult, newest

BUDGET = "memory.budget"
# What lines are drawn of, first found first; what else varies gets panels.
_SERIES = (
    "memory.frames",
    "memory.codec",
    "memory.frame_choice",
    "memory.video_choice",
    "method.name",
    "consistency.weight",
)
SAME_BYTES = 1.02
"""Memories whose bytes differ by less than this factor count as equally large: no budget is ever filled to the byte."""


@dataclass(frozen=True)
class Spread:
    """A figure over seeds.

    Attributes:
        mean: of them.
        low: the lowest.
        high: the highest.
        n: seeds.
    """

    mean: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Of the values that were measured; NaN where none was."""
        known = [value for value in values if not math.isnan(value)]
        if not known:
            return cls(math.nan, math.nan, math.nan, 0)
        return cls(sum(known) / len(known), min(known), max(known), len(known))

    def overlaps(self, other: Spread) -> bool:
        """Whether the seeds' ranges meet: then the difference may be chance."""
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True)
class Group:
    """Complete runs that differ in their seed alone.

    Attributes:
        runs: by seed.
    """

    runs: tuple[RunResult, ...]

    @property
    def settings(self) -> Mapping[str, Any]:
        return self.runs[0].settings

    @property
    def anchor(self) -> str:
        """A name for links."""
        return f"cell-{self.runs[0].run_id}"

    @property
    def has_memory(self) -> bool:
        return self.runs[0].has_memory

    @cached_property
    def acc(self) -> Spread:
        return self.of(lambda run: run.number("acc"))

    @cached_property
    def bwf(self) -> Spread:
        return self.of(lambda run: run.number("bwf"))

    @cached_property
    def bytes(self) -> Spread:
        return self.of(lambda run: run.memory("bytes_on_disk"))

    @cached_property
    def frames(self) -> Spread:
        return self.of(lambda run: run.memory("frames"))

    def of(self, figure: Callable[[RunResult], float]) -> Spread:
        """Any figure of its runs."""
        return Spread.of(figure(run) for run in self.runs)

    def curve(self, series: Callable[[RunResult], list[float]]) -> list[Spread]:
        """A figure after each task."""
        return [Spread.of(values) for values in zip(*map(series, self.runs), strict=False)]


@dataclass(frozen=True)
class Layout:
    """How groups are set out in plots.

    Attributes:
        groups: with a memory.
        references: of methods that keep none: one line each, wherever it can be drawn.
        names: settings that differ, in the order of people's interest.
        series: the setting that lines and markers are of; None: nothing varies.
        panels: settings that panels and colours are of.
        budgets: texts, the smallest first of each kind.
    """

    groups: tuple[Group, ...]
    references: tuple[Group, ...]
    names: tuple[str, ...]
    series: str | None
    panels: tuple[str, ...]
    budgets: tuple[str, ...]

    @classmethod
    def of(cls, runs: Sequence[RunResult]) -> Layout:
        """Of complete runs. Of several with the same settings and seed, the newest alone is a seed."""
        of_key: dict[str, list[RunResult]] = {}
        for run in newest(runs):
            of_key.setdefault(run.key, []).append(run)
        groups = [Group(tuple(sorted(of, key=lambda run: run.seed))) for of in of_key.values()]
        names = varied([group.settings for group in groups])
        replaying = tuple(group for group in groups if group.has_memory)
        own = varied([group.settings for group in replaying])
        series = _series(own, replaying)
        panels = tuple(name for name in own if name not in (series, BUDGET))
        budgets = {str(group.settings.get(BUDGET)): None for group in replaying}
        layout = cls(
            replaying,
            tuple(group for group in groups if not group.has_memory),
            tuple(names),
            series,
            panels,
            tuple(sorted(budgets, key=budget_order)),
        )
        order = {name: [value_text(v) for v in layout.values(name)] for name in own}
        ordered = sorted(
            replaying, key=lambda group: [order[name].index(value_text(group.settings.get(name))) for name in own]
        )
        return cls(tuple(ordered), layout.references, layout.names, series, panels, layout.budgets)

    def values(self, name: str) -> list[Any]:
        """Values of a setting: numbers by size, `all` last, others as they come."""
        found = list({value_text(g.settings.get(name)): g.settings.get(name) for g in self.groups}.values())
        if name == BUDGET:
            return sorted(found, key=lambda value: budget_order(str(value)))
        if any(isinstance(value, int | float) for value in found):
            return sorted(found, key=lambda value: (not isinstance(value, int | float), value if value != "all" else 0))
        return found

    @cached_property  # asked for with every mark
    def series_values(self) -> list[str]:
        """Names of the lines."""
        return [short(self.series, value) for value in self.values(self.series)] if self.series else [""]

    def series_of(self, group: Group) -> int:
        """Number of a group's line."""
        name = short(self.series, group.settings.get(self.series)) if self.series else ""
        return self.series_values.index(name)

    @cached_property
    def panel_names(self) -> list[str]:
        """Names of the panels; one without a name where nothing but the series varies."""
        return list(dict.fromkeys(self.panel_of(group) for group in self.groups)) or [""]

    def panel_of(self, group: Group) -> str:
        """Name of a group's panel."""
        return label(group.settings, self.panels) if self.panels else ""

    def name(self, group: Group) -> str:
        """A group in a few words."""
        return label(group.settings, self.names_of(group))

    def names_of(self, group: Group) -> list[str]:
        """Settings that say what a group is: not those of a memory that its method doesn't keep."""
        return [name for name in self.names if group.has_memory or not name.startswith("memory.")]

    def at_budget(self, budget: str) -> list[Group]:
        """Groups of a budget."""
        return [group for group in self.groups if str(group.settings.get(BUDGET)) == budget]

    @cached_property
    def front(self) -> list[Group]:
        """The Pareto front: no other memory is as small and more accurate. The smallest first."""
        known = [g for g in self.groups if not math.isnan(g.acc.mean + g.bytes.mean)]
        best = [
            group
            for group in known
            if not any(
                other.bytes.mean <= group.bytes.mean * SAME_BYTES
                and (other.acc.mean, -other.bytes.mean) > (group.acc.mean, -group.bytes.mean)
                for other in known
                if other is not group
            )
        ]
        return sorted(best, key=lambda group: group.bytes.mean)


def _series(names: Sequence[str], groups: Sequence[Group]) -> str | None:
    """The setting that lines are of: the first of `_SERIES` that takes several values, rather than one of two."""
    candidates = [name for name in _SERIES if name in names] or [name for name in names if name != BUDGET]
    n_values = {name: len({value_text(g.settings.get(name)) for g in groups}) for name in candidates}
    return next((name for name in candidates if n_values[name] > 2), next(iter(candidates), None))


def budget_order(text: str) -> tuple[str, int]:
    """Budgets of one kind side by side, the smallest first."""
    try:
        budget = MemoryBudget.parse(text)
    except SettingsError:
        return ("", 0)
    return (budget.kind, budget.amount)


def best(groups: Iterable[Group]) -> Group | None:
    """The most accurate one."""
    known = [group for group in groups if not math.isnan(group.acc.mean)]
    return max(known, key=lambda group: group.acc.mean, default=None)
