"""A study as it was asked for: a TOML file, a preset, or flags; and the cells that come of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import tomli_w

from pipeline.errors import SettingsError
from vclimb.study.axes import nested, setting_name
from vclimb.study.cells import Cell, distinct
from vclimb.study.constraints import Constraints, DataTotals
from vclimb.study.presets import PRESETS, preset_table
from vclimb.training.config import read_table
from vclimb.training.values import Table, flat, merged, parse_assignment, suggestion

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
            return cls.parse(merged({**preset, "base": _beneath(preset["base"], own.get("base"))}, own), name)
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
            axes: `frames=1,2,4`: in place of the axis of that name.
            assignments: `training.epochs=10`, for [base].
            budgets: in place of the constraint's.
            equal: in place of the constraint's.

        Raises:
            SettingsError: one isn't understood.
        """
        above = merged(*(parse_assignment(text) for text in assignments))
        base = merged(_beneath(self.base, above), above)
        given = dict(parse_axis(text) for text in axes)
        limits = self.constraints
        if budgets or equal:
            kept = budgets or limits.budgets
            table = {"equal": list(equal or limits.equal), "budgets": list(kept)}
            if limits.reference_frames is not None:
                table["reference_frames"] = limits.reference_frames  # type: ignore[assignment]
            limits = Constraints.parse(table)
        return Study(self.name, base, {**self.axes, **given}, self.cells, limits)

    def expand(self, data: str, totals: DataTotals | None = None) -> list[Cell]:
        """The cells, each once.

        Args:
            data: the prepared data set.
            totals: of it; needed where a budget is a percentage.

        Raises:
            SettingsError: no run could take the settings of one.
        """
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
                tables = [nested(name, value) for name, value in varied.items()]
                table = merged(_with_method(self.base), *tables, {"data": data})
                for constrained in self.constraints.apply(table, totals):
                    try:
                        cells.append(Cell.of(constrained))
                    except SettingsError as error:
                        where = ", ".join(f"{name} = {value!r}" for name, value in varied.items())
                        raise SettingsError(f"{error} (in the cell of {where})") from None
        return distinct(cells)

    def to_toml(self) -> str:
        """As a file that gives the same study."""
        limits = self.constraints
        constraints: Table = {"equal": list(limits.equal), "budgets": list(limits.budgets)}
        if limits.reference_frames is not None:
            constraints["reference_frames"] = limits.reference_frames
        table: Table = {"name": self.name, "base": self.base, "axes": self.axes}
        if self.cells:
            table["cells"] = [merged(*(nested(name, value) for name, value in cell.items())) for cell in self.cells]
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
    parts = [flat(parse_assignment(f"value={one}"))["value"] for one in values.split(",")]
    return setting_name(name.strip()), parts


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


def _with_method(base: Table) -> Table:
    """`method = "icarl"` is short for a table with its name, over which an axis can be laid."""
    return {**base, "method": {"name": base["method"]}} if isinstance(base.get("method"), str) else base
