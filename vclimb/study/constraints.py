"""Budgets that all cells of a study share: equal bytes, videos or frames of the memory."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from vclimb.memory.choice.budget import MemoryBudget
from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.suggestion import suggestion
from vclimb.settings import Settings, Table, merged
from vclimb.study.naming import BUDGET, label, varied

Kind = Literal["bytes", "videos", "frames"]
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3})?)\s*%")
_EXAMPLES = {"bytes": "64MB", "videos": "2020v", "frames": "16160f"}


@dataclass(frozen=True)
class DataTotals:
    """Sizes of the training part of a scenario; a budget in percent is a share of them."""

    videos: int
    frames: int
    bytes: int


TotalsOf = Callable[[Table], DataTotals]
"""Function that measures the training part of the scenario in a table of a run's settings."""


class Constraints(Settings):
    """Budgets that all cells share.

    Attributes:
        equal: Kinds of budgets that are equal in all cells; empty: any kind, and nothing has to be equal.
        budgets: Budgets that every cell is run with. `5%` is a share of the training data of a cell's scenario, in each
            kind of `equal`. Empty: cells have their own budgets, which `check_balance` compares.
        reference_frames: Number of frames for which a video counts where frames are equal and a budget is in videos.
    """

    equal: tuple[Kind, ...] = ()
    budgets: tuple[str, ...] = ()
    reference_frames: int | None = Field(default=None, ge=1)

    @field_validator("equal", mode="before")
    @classmethod
    def _known_kinds(cls, kinds: Any) -> Any:
        for kind in kinds if isinstance(kinds, tuple) else ():
            if kind not in get_args(Kind):
                raise SettingsError(f"constraint equal {kind!r} is not known; {suggestion(str(kind), get_args(Kind))}")
        return kinds

    # Validators of this mode run from the last to the first, so that kinds are checked as a tuple.
    @field_validator("equal", "budgets", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        values = (value,) if isinstance(value, str) else value
        is_texts = isinstance(values, tuple) and all(isinstance(text, str) for text in values)
        return tuple(dict.fromkeys(values)) if is_texts else values

    @model_validator(mode="after")
    def _check_budgets(self) -> Self:
        for budget in self.budgets:
            self.check(budget)
        return self

    def check(self, budget: str) -> None:
        """Refuse a budget that can't be the same in all cells.

        Raises:
            SettingsError: The budget is of another kind, or is none at all.
        """
        if percent := _PERCENT.fullmatch(budget.strip()):
            if not 0 < float(percent[1]) <= 100:
                raise SettingsError(f"budget {budget!r} is out of range; allowed: more than 0% up to 100%")
            if not self.equal:
                raise SettingsError(
                    f"budget {budget!r} is a percentage of bytes, videos or frames; choose by equal = "
                    '"bytes", "videos" or "frames"'
                )
            return
        kind = MemoryBudget.parse(budget).kind
        allowed = {*self.equal, *(("videos",) if self.reference_frames and "frames" in self.equal else ())}
        if self.equal and kind not in allowed:
            raise SettingsError(
                f"budget {budget!r} counts {kind}, but the constraint keeps {' and '.join(self.equal)} equal; write it "
                f"in {' or '.join(self.equal)}, such as {' or '.join(_EXAMPLES[kind] for kind in self.equal)}"
            )

    def apply(self, table: Table, totals: TotalsOf | None) -> list[Table]:
        """Copy a cell's settings with each of the budgets, or with the cell's budget in the normal form.

        Args:
            table: Settings of a run.
            totals: Function that measures the training data; called where a budget is a percentage.

        Raises:
            SettingsError: The cell's budget is of another kind, or not understood.
        """
        memory = table.get("memory", {})
        if not isinstance(memory, Mapping):  # no run has such settings: making a run of them raises the error
            return [table]
        if self.budgets:
            budgets = [amount for text in self.budgets for amount in self._amounts(text, table, totals)]
        elif isinstance(text := memory.get("budget"), str):
            budgets = [self._cell_budget(text)]
        else:
            return [table]
        return [merged(table, {"memory": {"budget": budget}}) for budget in budgets]

    def check_balance(self, cells: Iterable[Mapping[str, Any]]) -> None:
        """Refuse cells of which one has a budget that another lacks, where `equal` says that budgets are equal.

        Args:
            cells: Settings of each run by their dotted names.

        Raises:
            SettingsError: There are such cells.
        """
        if not self.equal or self.budgets:
            return
        keeping = [cell for cell in cells if cell.get(BUDGET) not in (None, "none")]
        names = [name for name in varied(keeping) if name != BUDGET]
        budgets_of: dict[str, tuple[Mapping[str, Any], list[str]]] = {}
        for cell in keeping:
            others = json.dumps({name: v for name, v in cell.items() if name != BUDGET}, sort_keys=True, default=str)
            budgets_of.setdefault(others, (cell, []))[1].append(str(cell[BUDGET]))
        first, *rest = budgets_of.values() if budgets_of else [({}, [])]
        for cell, budgets in rest:
            if set(budgets) != set(first[1]):
                raise SettingsError(
                    f"the constraint keeps {' and '.join(self.equal)} equal, but cell {label(first[0], names)!r} has "
                    f"budget {' and '.join(first[1])}, and cell {label(cell, names)!r} {' and '.join(budgets)}; give "
                    "all cells the same budgets, by [constraints] budgets or an axis, or leave out equal"
                )

    def _cell_budget(self, text: str) -> str:
        if _PERCENT.fullmatch(text.strip()):
            raise SettingsError(
                f"budget {text!r} is a percentage, which [constraints] budgets (--budgets) alone may be; write it "
                "there, or an amount, such as 64MB"
            )
        budget = MemoryBudget.parse(text)
        if budget.kind != "none":
            self.check(text)
        return self._amount(budget)

    def _amounts(self, text: str, table: Table, totals: TotalsOf | None) -> list[str]:
        if percent := _PERCENT.fullmatch(text.strip()):
            if totals is None:
                raise SettingsError(
                    f"budget {text!r} is of a data set, and there is none; write an amount, such as 64MB"
                )
            share, sizes = float(percent[1]) / 100, totals(table)
            amounts = {kind: f"{share * getattr(sizes, kind):.2g}" for kind in self.equal}  # two significant digits
            return [str(MemoryBudget(kind, max(1, int(float(amount))))) for kind, amount in amounts.items()]
        return [self._amount(MemoryBudget.parse(text))]

    def _amount(self, budget: MemoryBudget) -> str:
        if budget.kind == "videos" and "videos" not in self.equal and self.reference_frames and self.equal:
            return f"{budget.amount * self.reference_frames}f"
        return str(budget)
