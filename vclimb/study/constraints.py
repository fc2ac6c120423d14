"""What is equal in all cells of a study, whatever else they vary: bytes, videos or frames of the memory."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vclimb.memory.choice.budget import MemoryBudget
from vclimb.pipeline.errors import SettingsError
from vclimb.settings import Table, merged, suggestion
from vclimb.study.naming import label, varied

BUDGET = "memory.budget"

KINDS = ("bytes", "videos", "frames")
_NAMES = dict.fromkeys(("equal", "budgets", "reference_frames"))
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3})?)\s*%")


@dataclass(frozen=True)
class DataTotals:
    """What the training part of a scenario holds: what a budget in percent is of."""

    videos: int
    frames: int
    bytes: int


TotalsOf = Callable[[Table], DataTotals]
"""The training part of the scenario that a run's settings ask for."""


@dataclass(frozen=True)
class Constraints:
    """Budgets that all cells share.

    Attributes:
        equal: kinds of budget that are allowed; empty: all, and nothing is claimed to be equal.
        budgets: each is given to all cells; `5%` is of the training data of a cell's scenario, in each kind of `equal`.
            Empty: cells have budgets of their own, which must be of these kinds, and the same for all: see
            `check_balance`.
        reference_frames: a budget in videos, wherever it is given, is meant at so many frames each where frames are to
            be equal.
    """

    equal: tuple[str, ...] = ()
    budgets: tuple[str, ...] = ()
    reference_frames: int | None = None

    @classmethod
    def parse(cls, table: Mapping[str, Any]) -> Constraints:
        """From the table `[constraints]`.

        Raises:
            SettingsError: a name or a value isn't allowed.
        """
        for name in table:
            if name not in _NAMES:
                raise SettingsError(f"constraint {name!r} is not known; {suggestion(name, _NAMES)}")
        equal = _texts("equal", table.get("equal", []))
        for kind in equal:
            if kind not in KINDS:
                raise SettingsError(f"constraint equal {kind!r} is not known; {suggestion(kind, dict.fromkeys(KINDS))}")
        budgets = _texts("budgets", table.get("budgets", []))
        reference = table.get("reference_frames")
        if reference is not None and (type(reference) is not int or reference < 1):
            raise SettingsError(f"constraint reference_frames is {reference!r}; allowed: a whole number, 1 or more")
        constraints = cls(equal, budgets, reference)
        for budget in budgets:
            constraints.check(budget)
        return constraints

    def check(self, budget: str) -> None:
        """Refuse a budget that can't be the same in all cells.

        Raises:
            SettingsError: it is of another kind, or none at all.
        """
        if percent := _PERCENT.fullmatch(budget.strip()):
            if not 0 < float(percent[1]) <= 100:
                raise SettingsError(f"budget {budget!r} is out of range; allowed: more than 0% up to 100%")
            if not self.equal:
                raise SettingsError(
                    f'budget {budget!r} is a percentage of what? say equal = "bytes", "videos" or "frames"'
                )
            return
        kind = MemoryBudget.parse(budget).kind
        allowed = {*self.equal, *(("videos",) if self.reference_frames and "frames" in self.equal else ())}
        if self.equal and kind not in allowed:
            raise SettingsError(
                f"budget {budget!r} counts {kind}, but the constraint keeps {' and '.join(self.equal)} equal; write it "
                f"in {' or '.join(self.equal)}, such as {' or '.join(_EXAMPLES[one] for one in self.equal)}"
            )

    def apply(self, table: Table, totals: TotalsOf | None) -> list[Table]:
        """A cell's settings with each of the budgets, or with its own, written as all studies write it.

        Args:
            table: settings of a run.
            totals: asked where a budget is a percentage.

        Raises:
            SettingsError: its own budget is of another kind, or not understood.
        """
        memory = table.get("memory", {})
        if not isinstance(memory, Mapping):  # the settings of no run: whoever makes one of them says why
            return [table]
        if self.budgets:
            budgets = [one for text in self.budgets for one in self._of(text, table, totals)]
        elif isinstance(own := memory.get("budget"), str):
            budgets = [self._own(own)]
        else:
            return [table]
        return [merged(table, {"memory": {"budget": budget}}) for budget in budgets]

    def check_balance(self, cells: Iterable[Mapping[str, Any]]) -> None:
        """Refuse cells of which one has a budget that another lacks: nothing would be equal between them.

        Args:
            cells: settings of each run, dotted name -> value.

        Raises:
            SettingsError: there are such cells, and `equal` says that budgets are equal.
        """
        if not self.equal or self.budgets:
            return
        keeping = [cell for cell in cells if cell.get(BUDGET) not in (None, "none")]
        names = [name for name in varied(keeping) if name != BUDGET]
        found: dict[str, tuple[Mapping[str, Any], list[str]]] = {}
        for cell in keeping:
            others = json.dumps({name: v for name, v in cell.items() if name != BUDGET}, sort_keys=True, default=str)
            found.setdefault(others, (cell, []))[1].append(str(cell[BUDGET]))
        first, *rest = found.values() if found else [({}, [])]
        for cell, budgets in rest:
            if set(budgets) != set(first[1]):
                raise SettingsError(
                    f"the constraint keeps {' and '.join(self.equal)} equal, but cell {label(first[0], names)!r} has "
                    f"budget {' and '.join(first[1])}, and cell {label(cell, names)!r} {' and '.join(budgets)}; give "
                    "all cells the same budgets, by [constraints] budgets or an axis, or leave out equal"
                )

    def _own(self, text: str) -> str:
        if _PERCENT.fullmatch(text.strip()):
            raise SettingsError(
                f"budget {text!r} is a percentage, which [constraints] budgets (--budgets) alone may be; write it "
                "there, or an amount, such as 64MB"
            )
        budget = MemoryBudget.parse(text)
        if budget.kind != "none":
            self.check(text)
        return self._amount(budget)

    def _of(self, text: str, table: Table, totals: TotalsOf | None) -> list[str]:
        if percent := _PERCENT.fullmatch(text.strip()):
            if totals is None:
                raise SettingsError(
                    f"budget {text!r} is of a data set, and there is none; write an amount, such as 64MB"
                )
            share, of = float(percent[1]) / 100, totals(table)
            return [_budget(kind, share * getattr(of, kind)) for kind in self.equal]
        return [self._amount(MemoryBudget.parse(text))]

    def _amount(self, budget: MemoryBudget) -> str:
        if budget.kind == "videos" and "videos" not in self.equal and self.reference_frames and self.equal:
            return f"{budget.amount * self.reference_frames}f"
        return str(budget)


_EXAMPLES = {"bytes": "64MB", "videos": "2020v", "frames": "16160f"}


def _budget(kind: str, amount: float) -> str:
    """A budget of two significant digits: what is read is what is meant."""
    rounded = max(1, int(float(f"{amount:.2g}")))
    return str(MemoryBudget(kind, rounded))  # type: ignore[arg-type]


def _texts(name: str, value: Any) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not all(isinstance(one, str) for one in values):
        raise SettingsError(f"constraint {name} is {value!r}; allowed: a text, or a list of texts")
    return tuple(dict.fromkeys(values))
