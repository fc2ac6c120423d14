"""A study as it was asked for: a TOML file, a preset, or flags; and the cells that come of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import tomli_w

from vclimb.pipeline.errors import SettingsError
from vclimb.settings import Table, flat, merged, parse_assignment, suggestion
from vclimb.study.axes import nested_setting, separated, setting_name
from vclimb.study.cells import Cell, distinct, settings_of
from vclimb.study.constraints import BUDGET, Constraints, TotalsOf
from vclimb.study.presets import PRESETS, preset_table
from vclimb.training.config import read_table

_NAMES = dict.fromkeys(("name", "preset", "base", "axes", "cells", "constraints"))
MAX_CELLS = 10_000


@dataclass(frozen=True)
class Study:
    """What a study varies.

    Attributes:
        name: of the study.
        base: settings that all runs share.
        axes: setting -> values; every combination is a cell.
        cells: settings of further cells; with axes too, each of them takes every combination.
        constraints: what is equal in all cells.
    """

    name: str
    base: Table = field(default_factory=dict)
    axes: dict[str, list[Any]] = field(default_factory=dict)
    cells: tuple[dict[str, Any], ...] = ()
    constraints: Constraints = field(default_factory=Constraints)

    @classmethod
    def parse(cls, table: Mapping[str, Any], name: str = "study") -> Study:
        """From the content of a study's file.

        Args:
            name: where the file gives none.

        Raises:
            SettingsError: a name in it isn't known, or a value isn't allowed.
        """
        for one in table:
            if one not in _NAMES:
                raise SettingsError(f"{one!r} is not part of a study; {suggestion(one, _NAMES)}")
        if "preset" in table:
            preset = preset_table(str(table["preset"]))
            own = {one: value for one, value in table.items() if one != "preset"}
            preset = _without_budgets({**preset, "base": _beneath(preset["base"], own.get("base"))}, own)
            return cls.parse(merged(preset, own), name)
        for part, kind in (("base", Mapping), ("axes", Mapping), ("constraints", Mapping), ("cells", list)):
            if not isinstance(table.get(part, kind() if kind is list else {}), kind):
                raise SettingsError(f"{part!r} of a study is {table[part]!r}; write [{part}] or [[cells]]")
        cells = table.get("cells", [])
        if not all(isinstance(cell, Mapping) for cell in cells):
            raise SettingsError("'cells' of a study is a list of tables; write each as [[cells]]")
        return cls(
            name=str(table.get("name", name)),
            base=dict(table.get("base", {})),
            axes={setting_name(one): _values(one, values) for one, values in flat(table.get("axes", {})).items()},
            cells=tuple({setting_name(one): value for one, value in _flat(cell).items()} for cell in cells),
            constraints=Constraints.parse(table.get("constraints", {})),
        )

    def with_flags(
        self,
        axes: Sequence[str] = (),
        assignments: Sequence[str] = (),
        budgets: Sequence[str] = (),
        equal: Sequence[str] = (),
    ) -> Study:
        """With what flags say on top.

        Args:
            axes: `frames=1,2,4`: in place of the axis of that name; `budget=1MB,2MB` also of the constraint's budgets.
            assignments: `training.epochs=10`, for [base]; `memory.budget=1MB` in place of all budgets.
            budgets: in place of all budgets.
            equal: in place of the constraint's.

        Raises:
            SettingsError: one isn't understood, or budgets are given twice.
        """
        above = merged(*(parse_assignment(text) for text in assignments))
        given = dict(parse_axis(text) for text in axes)
        by = {
            "--budgets": bool(budgets),
            "--axis budget": BUDGET in given,
            "--set memory.budget": BUDGET in flat(above),
        }
        _check_once({**by, "[[cells]]": any(by.values()) and self._own_budgets})
        base, below, limits = _beneath(self.base, above), self.axes, self.constraints
        kept = budgets or (() if any(by.values()) else limits.budgets)
        if budgets:
            base = _without_budget(base)
        if any(by.values()):
            below = {name: values for name, values in below.items() if name != BUDGET}
        if any(by.values()) or equal:
            table: Table = {"equal": list(equal or limits.equal), "budgets": list(kept)}
            if limits.reference_frames is not None:
                table["reference_frames"] = limits.reference_frames
            limits = Constraints.parse(table)
        return Study(self.name, merged(base, above), {**below, **given}, self.cells, limits)

    @property
    def _own_budgets(self) -> bool:
        """Whether a cell that is listed has a budget of its own."""
        return any(BUDGET in cell for cell in self.cells)

    def expand(self, data: str, totals: TotalsOf | None = None) -> list[Cell]:
        """The cells, each once.

        Args:
            data: the prepared data set.
            totals: of its scenarios; needed where a budget is a percentage.

        Raises:
            SettingsError: no run could take the settings of one, budgets are given twice, or the constraint says that
                they are equal and they are not.
        """
        shared = {"[constraints] budgets": bool(self.constraints.budgets)}
        _check_once({**shared, "[base] memory.budget": BUDGET in flat(self.base)})
        _check_once({**shared, "the axis budget": BUDGET in self.axes, "[[cells]]": self._own_budgets})
        n_cells = max(1, len(self.cells)) * max(1, len(self.constraints.budgets))
        for values in self.axes.values():
            n_cells *= len(values)
        if n_cells > MAX_CELLS:
            raise SettingsError(f"the study has {n_cells:,} cells; allowed: {MAX_CELLS:,}. Leave out values of an axis")
        if not self.axes and not self.cells:
            raise SettingsError("the study varies nothing; give it [axes], such as frames = [1, 8], or [[cells]]")
        cells: list[Cell] = []
        for own in self.cells or ({},):
            for combination in product(*self.axes.values()):
                varied = {**own, **dict(zip(self.axes, combination, strict=True))}
                tables = [nested_setting(name, value) for name, value in varied.items()]
                table = merged(_with_method(self.base), *tables, {"data": data})
                for constrained in self.constraints.apply(table, totals):
                    try:
                        cells.append(Cell.of(constrained))
                    except SettingsError as error:
                        where = ", ".join(f"{name} = {value!r}" for name, value in varied.items())
                        raise SettingsError(f"{error} (in the cell of {where})") from None
        found = distinct(cells)
        self.constraints.check_balance(settings_of(cell) for cell in found)
        return found

    def to_toml(self) -> str:
        """As a file that gives the same study."""
        limits = self.constraints
        constraints: Table = {"equal": list(limits.equal), "budgets": list(limits.budgets)}
        if limits.reference_frames is not None:
            constraints["reference_frames"] = limits.reference_frames
        table: Table = {"name": self.name, "base": self.base, "axes": self.axes}
        if self.cells:
            table["cells"] = [
                merged(*(nested_setting(name, value) for name, value in cell.items())) for cell in self.cells
            ]
        return tomli_w.dumps({**table, "constraints": constraints})


def read_study(source: str) -> Study:
    """A study from its file, or a preset by name.

    Raises:
        SettingsError: it is neither, or says what isn't allowed.
    """
    if source in PRESETS:
        return Study.parse({"preset": source}, source)
    path = Path(source)
    if not path.exists() and path.suffix != ".toml":
        raise SettingsError(f"study {source!r} is neither a file nor a preset; {suggestion(source, PRESETS)}")
    return Study.parse(read_table(path), path.stem)


def parse_axis(text: str) -> tuple[str, list[Any]]:
    """`frames=1,2,all` as the axis's setting and its values.

    Raises:
        SettingsError: there is no `=`, no value, or no such setting.
    """
    name, equals, values = text.partition("=")
    if not equals or not values.strip():
        raise SettingsError(f"--axis {text!r} is no axis; write name=value,value, such as frames=1,8,all")
    parts = separated(values)
    if not all(parts):
        raise SettingsError(
            f"--axis {text!r} lacks a value, or a quote or a bracket that closes; write name=value,value, such as "
            'frames=1,8,all or method=naive,{name="ewc", strength=3e3}'
        )
    return setting_name(name.strip()), [parse_assignment(f"value={part}")["value"] for part in parts]


def _values(name: str, values: Any) -> list[Any]:
    if not isinstance(values, list) or not values:
        raise SettingsError(f"axis {name!r} is {values!r}; it needs a list of values, such as [1, 8]")
    return values


def _flat(table: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted name -> value; a method that is named with settings of its own stays a table."""
    method = table.get("method")
    if not isinstance(method, Mapping) or "name" not in method:
        return flat(table)
    return {"method": method, **flat({name: value for name, value in table.items() if name != "method"})}


def _beneath(base: Table, above: Any) -> Table:
    """Settings over which others are laid: a scenario from a file takes the place of one that is dealt out."""
    scenario = above.get("scenario") if isinstance(above, Mapping) else None
    if not isinstance(scenario, Mapping) or "file" not in scenario or not isinstance(base.get("scenario"), Mapping):
        return base
    kept = {name: value for name, value in base["scenario"].items() if name not in ("tasks", "base", "step")}
    return {**base, "scenario": kept}


def _without_budget(base: Table) -> Table:
    memory = base.get("memory")
    if not isinstance(memory, Mapping):
        return base
    return {**base, "memory": {name: value for name, value in memory.items() if name != "budget"}}


def _without_budgets(preset: Table, own: Table) -> Table:
    """A preset, without the budgets whose place those of a file take."""
    limits, axes, base = (own.get(part, {}) for part in ("constraints", "axes", "base"))
    by_limits = isinstance(limits, Mapping) and "budgets" in limits
    by_axis = isinstance(axes, Mapping) and not {"budget", BUDGET}.isdisjoint(flat(axes))
    by_base = isinstance(base, Mapping) and BUDGET in flat(base)
    if by_limits:
        preset = {**preset, "base": _without_budget(preset["base"])}
    if (by_axis or by_base) and "constraints" in preset:
        kept = {name: value for name, value in preset["constraints"].items() if name != "budgets"}
        preset = {**preset, "constraints": kept}
    return preset


def _check_once(given: Mapping[str, bool]) -> None:
    """Refuse budgets that are given in two places: one would go unused, and nobody be told.

    Raises:
        SettingsError: they are.
    """
    places = [place for place, is_given in given.items() if is_given]
    if len(places) > 1:
        raise SettingsError(f"budgets are given twice, by {' and by '.join(places)}; leave all but one of them out")


def _with_method(base: Table) -> Table:
    """`method = "icarl"` is short for a table with its name, over which an axis can be laid."""
    return {**base, "method": {"name": base["method"]}} if isinstance(base.get("method"), str) else base
