"""A cell of a study: the settings of one run, and the name that its content gives it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from vclimb.methods.registry import METHODS
from vclimb.pipeline.errors import SettingsError
from vclimb.settings import Table, changes_no_result, flat
from vclimb.training.config import MemoryConfig, RunConfig, make_config
from vclimb.training.run_folder import FILES, file_digest

_ID_DIGITS = 12


@dataclass(frozen=True)
class Cell:
    """A run that a study needs.

    Attributes:
        run_id: 12 hexadecimal digits, a function of all that may change the result.
        config: its settings.
    """

    run_id: str
    config: RunConfig

    @classmethod
    def of(cls, table: Table) -> Cell:
        """The cell of a run's settings.

        Raises:
            SettingsError: no run could take them.
        """
        config = make_config(table)
        if not METHODS.find(config.method["name"]).replays:
            if config.consistency.weight > 0:  # K of its clips was the memory's, where it has none of its own
                frames = config.consistency.replaced(frames=config.consistency_frames)
                config = config.replaced(consistency=frames)
            # Nothing else of the memory is used: cells that differ in it alone are one.
            config = config.replaced(memory=MemoryConfig())
        elif config.memory.budget == "none":
            raise SettingsError(
                f"method {config.method['name']} replays, and memory.budget is none; give the study budgets, such as "
                '[axes] budget = ["1MB", "2MB"]'
            )
        return cls(run_id(config), config)


def run_id(config: RunConfig) -> str:
    """The name of a run: equal for equal settings, wherever the data and the files lie that they name."""
    values = {name: value for name, value in flat(config.to_table()).items() if not changes_no_result(name)}
    for name in FILES:
        if (content := file_digest(values.get(name))) is not None:
            values[name] = f"sha256:{content}"
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:_ID_DIGITS]


def distinct(cells: Iterable[Cell]) -> list[Cell]:
    """Each cell once, first those of the first seed, so that a study that is stopped early has seen all of them."""
    unique = list({cell.run_id: cell for cell in cells}.values())
    seeds = list(dict.fromkeys(cell.config.seed for cell in unique))
    return sorted(unique, key=lambda cell: seeds.index(cell.config.seed))


def settings_of(cell: Cell) -> dict[str, Any]:
    """Dotted name -> value."""
    return flat(cell.config.to_table())
