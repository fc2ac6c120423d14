"""What is equal in all cells of a study, whatever else they vary: bytes, videos or frames of the memory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import SettingsError
from vclimb.memory.budget import MemoryBudget
from vclimb.training.values import Table, merged, suggestion

KINDS = ("bytes", "videos", "frames")
_NAMES = dict.fromkeys(("equal", "budgets", "reference_frames"))
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3})?)\s*%")


@dataclass(frozen=True)
class DataTotals:
    """What the training part of a data set holds: what a budget in percent is of."""

    videos: int
    frames: int
    bytes: int


@dataclass(frozen=True)
class Constraints:
    """Budgets that all cells share.

    Attributes:
        equal: kinds of budget that are allowed; empty: all.
        budgets: each is given to all cells; `5%` is of the training data, in each kind of `equal`. Empty: cells have
            budgets of their own, which must be of these kinds.
        reference_frames: a budget in videos is meant at so many frames each where frames are to be equal.
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

    def apply(self, table: Table, totals: DataTotals | None) -> list[Table]:
        """A cell's settings with each of the budgets; itself where there are none to give.

        Args:
            table: settings of a run.
            totals: of the data set; None where no budget is a percentage.
        """
        if not self.budgets:
            budget = table.get("memory", {}).get("budget")
            if self.equal and isinstance(budget, str) and budget != "none":
                self.check(budget)
            return [table]
        return [
            merged(table, {"memory": {"budget": budget}}) for text in self.budgets for budget in self._of(text, totals)
        ]

    def _of(self, text: str, totals: DataTotals | None) -> list[str]:
        if percent := _PERCENT.fullmatch(text.strip()):
            assert totals is not None, "the caller looks for percentages"
            share = float(percent[1]) / 100
            return [_budget(kind, share * getattr(totals, kind)) for kind in self.equal]
        budget = MemoryBudget.parse(text)
        if budget.kind == "videos" and "videos" not in self.equal and self.reference_frames and self.equal:
            return [f"{budget.amount * self.reference_frames}f"]
        return [str(budget)]

    @property
    def needs_totals(self) -> bool:
        """Whether a budget is a percentage."""
        return any(_PERCENT.fullmatch(text.strip()) for text in self.budgets)


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
