"""Definition of a study, as a TOML file or a preset gives it, and its expansion to cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, Self

import tomli_w
from pydantic import Field, field_validator

from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.suggestion import suggestion
from vclimb.pipeline.system.paths import local_path
from vclimb.settings import Settings, Table, flat, from_table, merged, read_table
from vclimb.study.axes import axis_values, nested_setting, setting_name
from vclimb.study.cells import Cell, distinct
from vclimb.study.constraints import Constraints, TotalsOf
from vclimb.study.naming import BUDGET
from vclimb.study.presets import PRESETS
from vclimb.study.stored import MAX_CELLS


class StudyDefinition(Settings):
    """Runs of a study: settings that all share, and settings that vary.

    Attributes:
        name: Name of the study.
        base: Settings that all runs share, as nested tables.
        axes: Values of each setting that varies, by its dotted name; every combination is a cell.
        cells: Settings of single cells, by dotted names. Where there are axes too, each of these cells is combined with
            every combination of them.
        constraints: Budgets that all cells share.
    """

    name: str = "study"
    base: dict[str, Any] = Field(default_factory=dict)
    axes: dict[str, list[Any]] = Field(default_factory=dict)
    cells: tuple[dict[str, Any], ...] = ()
    constraints: Constraints = Constraints()

    @field_validator("axes", mode="before")
    @classmethod
    def _full_names_of_axes(cls, axes: Any) -> Any:
        if not isinstance(axes, Mapping):
            return axes
        return {setting_name(name): axis_values(name, values) for name, values in flat(axes).items()}

    @field_validator("cells", mode="before")
    @classmethod
    def _full_names_of_cells(cls, cells: Any) -> Any:
        if not isinstance(cells, tuple) or not all(isinstance(cell, Mapping) for cell in cells):
            raise SettingsError(f"cells {cells!r} is no list of tables; write each cell as [[cells]]")
        return tuple({setting_name(name): value for name, value in _flat_cell(cell).items()} for cell in cells)

    @classmethod
    def parse(cls, table: Mapping[str, Any], name: str = "study") -> Self:
        """Read the content of a study's file.

        Args:
            name: Name of the study where the file gives none.

        Raises:
            SettingsError: A name is unknown, or a value isn't allowed.
        """
        if "preset" not in table:
            return from_table(cls, {"name": name, **table})
        if (preset := PRESETS.get(chosen := str(table["preset"]))) is None:
            raise SettingsError(f"preset {chosen!r} is not known; {suggestion(chosen, PRESETS)}")
        changes = {part: value for part, value in table.items() if part != "preset"}
        preset = {**preset, "base": _without_task_counts(preset["base"], changes.get("base"))}
        return from_table(cls, {"name": name, **merged(_without_replaced_budgets(preset, changes), changes)})

    def changed(
        self,
        axes: Mapping[str, Sequence[Any]] | None = None,
        settings: Mapping[str, Any] | None = None,
        budgets: Sequence[str] = (),
        equal: Sequence[str] = (),
    ) -> Self:
        """Change parts of the definition.

        Args:
            axes: Values of further axes, or other values of the same ones. An axis of budgets replaces all budgets.
            settings: Settings of all runs, as nested tables. `memory.budget` replaces all budgets.
            budgets: Budgets that all cells share, in place of all others.
            equal: Kinds of budgets that are equal in all cells.

        Raises:
            SettingsError: A name is unknown, a value isn't allowed, or budgets are given twice.
        """
        new_axes = {setting_name(name): axis_values(name, list(values)) for name, values in (axes or {}).items()}
        settings = settings or {}
        places = {
            "budgets": bool(budgets),
            "the axis budget": BUDGET in new_axes,
            "the setting memory.budget": BUDGET in flat(settings),
        }
        is_replaced = any(places.values())
        _check_given_once({**places, "[[cells]]": is_replaced and any(BUDGET in cell for cell in self.cells)})
        base, kept_axes, constraints = _without_task_counts(self.base, settings), self.axes, self.constraints.to_table()
        if is_replaced:
            kept_axes = {name: values for name, values in kept_axes.items() if name != BUDGET}
            constraints["budgets"] = list(budgets)
        if budgets:
            base = _without_budget(base)
        if equal:
            constraints["equal"] = list(equal)
        table = {"base": merged(base, settings), "axes": {**kept_axes, **new_axes}, "constraints": constraints}
        return from_table(type(self), {**self.to_table(), **table})

    def expand(self, data: str, totals: TotalsOf | None = None) -> list[Cell]:
        """Make the cells. Settings that mean the same run make one cell.

        Args:
            data: Path or URL of the prepared data set.
            totals: Sizes of the training data; needed where a budget is a percentage.

        Raises:
            SettingsError: A cell has settings that no run takes, budgets are given twice, or they differ where the
                constraint keeps them equal.
        """
        shared = {"[constraints] budgets": bool(self.constraints.budgets)}
        cells_have_budgets = any(BUDGET in cell for cell in self.cells)
        _check_given_once({**shared, "[base] memory.budget": BUDGET in flat(self.base)})
        _check_given_once({**shared, "the axis budget": BUDGET in self.axes, "[[cells]]": cells_have_budgets})
        n_cells = max(1, len(self.cells)) * max(1, len(self.constraints.budgets))
        n_cells *= prod(len(values) for values in self.axes.values())
        if n_cells > MAX_CELLS:
            raise SettingsError(f"the study has {n_cells:,} cells; allowed: {MAX_CELLS:,}. Leave out values of an axis")
        if not self.axes and not self.cells:
            raise SettingsError("the study varies nothing; give it [axes], such as frames = [1, 8], or [[cells]]")
        base = self.base
        if isinstance(method := base.get("method"), str):  # the short form, over which no axis could be laid
            base = {**base, "method": {"name": method}}
        cells: list[Cell] = []
        for single in self.cells or ({},):
            for combination in product(*self.axes.values()):
                varied = {**single, **dict(zip(self.axes, combination, strict=True))}
                tables = [nested_setting(name, value) for name, value in varied.items()]
                table = merged(base, *tables, {"data": data})
                for constrained in self.constraints.apply(table, totals):
                    try:
                        cells.append(Cell.of(constrained))
                    except SettingsError as error:
                        where = ", ".join(f"{name} = {value!r}" for name, value in varied.items())
                        raise SettingsError(f"{error} (in the cell of {where})") from None
        cells = distinct(cells)
        self.constraints.check_balance(cell.settings for cell in cells)
        return cells

    def to_toml(self) -> str:
        """Convert to the text of a file that gives an equal study."""
        return tomli_w.dumps(self.to_table())


def read_study(source: str | Path | Mapping[str, Any]) -> StudyDefinition:
    """Read a study.

    Args:
        source: Path of a TOML file, name of a preset, or the content of a file as nested tables.

    Raises:
        SettingsError: There is no such file or preset, a name in it is unknown, or a value isn't allowed.
    """
    if isinstance(source, Mapping):
        return StudyDefinition.parse(source)
    if source in PRESETS:
        return StudyDefinition.parse({"preset": source}, str(source))
    path = local_path(source)
    if not path.exists() and path.suffix != ".toml":
        raise SettingsError(f"study {str(source)!r} is neither a file nor a preset; {suggestion(str(source), PRESETS)}")
    return StudyDefinition.parse(read_table(path), path.stem)


def _flat_cell(table: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten a cell to dotted names; a method with its own settings stays a table."""
    method = table.get("method", table.get("method.name"))
    if not isinstance(method, Mapping) or "name" not in method:
        return flat(table)
    return {"method": method, **flat(_without(table, "method", "method.name"))}


def _without_task_counts(base: Any, changes: Any) -> Any:
    """Remove the numbers of tasks and classes from a scenario that is replaced by one from a file."""
    scenario = changes.get("scenario") if isinstance(changes, Mapping) else None
    if not isinstance(scenario, Mapping) or "file" not in scenario or not isinstance(base.get("scenario"), Mapping):
        return base
    return {**base, "scenario": _without(base["scenario"], "tasks", "base", "step")}


def _without_budget(base: Table) -> Table:
    memory = base.get("memory")
    return {**base, "memory": _without(memory, "budget")} if isinstance(memory, Mapping) else base


def _without_replaced_budgets(preset: Table, changes: Table) -> Table:
    """Remove those budgets of a preset that a file replaces."""
    given = {part: table for part in ("constraints", "axes", "base") if isinstance(table := changes.get(part), Mapping)}
    if "budgets" in given.get("constraints", {}):
        preset = {**preset, "base": _without_budget(preset["base"])}
    budgets_elsewhere = {"budget", BUDGET} & flat(given.get("axes", {})).keys() or BUDGET in flat(given.get("base", {}))
    if budgets_elsewhere and "constraints" in preset:
        preset = {**preset, "constraints": _without(preset["constraints"], "budgets")}
    return preset


def _without(table: Mapping[str, Any], *names: str) -> Table:
    return {name: value for name, value in table.items() if name not in names}


def _check_given_once(places: Mapping[str, bool]) -> None:
    """Refuse budgets in two places, of which one would silently be unused."""
    given = [place for place, is_given in places.items() if is_given]
    if len(given) > 1:
        raise SettingsError(f"budgets are given twice, by {' and by '.join(given)}; leave all but one of them out")
