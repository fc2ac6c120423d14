"""Cells of a study: the settings of one run each, and a name that follows from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vclimb.memory.choice.budget import MemoryBudget
from vclimb.memory.feature_codec import keeps_features, parse_feature_codec
from vclimb.memory.settings import AUTO
from vclimb.methods.registry import parse_method
from vclimb.pipeline.errors import SettingsError
from vclimb.settings import Table, changes_no_result, flat
from vclimb.study.naming import meaningful
from vclimb.training.config import MemoryConfig, RunConfig, make_config
from vclimb.training.memory_settings import AUTO_FEATURES
from vclimb.training.run_folder import FILES, file_digest

_ID_DIGITS = 12


@dataclass(frozen=True)
class Cell:
    """Run of a study.

    Attributes:
        run_id: Name of the run: 12 hexadecimal digits, a function of all settings that may change the result.
        config: Settings of the run.
        limit: Largest budget in bytes that the study gives a method without exemplars, whose bytes don't depend on the
            budget: it is run once, without a budget. None: the method keeps exemplars, or no budget is in bytes.
    """

    run_id: str
    config: RunConfig
    limit: MemoryBudget | None = None

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """Settings by their dotted names."""
        return meaningful(flat(self.config.to_table()))

    @classmethod
    def of(cls, table: Table) -> Cell:
        """Make the cell of a table of settings.

        Settings that the method ignores get their defaults, so that cells which differ in them alone are equal.

        Raises:
            SettingsError: No run takes these settings.
        """
        config = make_config(table)
        limit = None
        method, method_config = parse_method(config.method)
        if method.fills_budget(method_config) and config.memory.budget != "none":
            config = config.replaced(memory=MemoryConfig(budget=config.memory.budget))
        elif not method.replays:
            if config.has_down_sampled_clips:  # the down-sampled clip has the memory's K by default
                frames = config.consistency.replaced(frames=config.consistency_frames)
                config = config.replaced(consistency=frames)
            budget = MemoryBudget.parse(config.memory.budget)
            limit = budget if budget.kind == "bytes" else None
            config = config.replaced(memory=MemoryConfig())
        elif config.memory.budget == "none":
            raise SettingsError(
                f"method {config.method['name']} replays, and memory.budget is none; give the study budgets, such as "
                '[axes] budget = ["1MB", "2MB"]'
            )
        elif method.replays_features:
            config = config.replaced(memory=_of_features(config.memory))
        return cls(run_id(config), config, limit)


def _of_features(memory: MemoryConfig) -> MemoryConfig:
    """Give a codec of features its full name, and the settings that matter to frames alone their defaults."""
    codec = AUTO_FEATURES if memory.codec == AUTO else memory.codec
    if keeps_features(codec):
        codec = str(parse_feature_codec(codec))
        if parse_feature_codec(codec).of_frames:
            return memory.replaced(codec=codec, cache=MemoryConfig().cache)
    of_frames = MemoryConfig()
    return memory.replaced(
        codec=codec, frames=of_frames.frames, frame_choice=of_frames.frame_choice, cache=of_frames.cache
    )


def run_id(config: RunConfig) -> str:
    """Name a run by its settings. Files count by their bytes, wherever they and the data set lie."""
    values = {name: value for name, value in flat(config.to_table()).items() if not changes_no_result(name)}
    for name in FILES:
        if (content := file_digest(values.get(name))) is not None:
            values[name] = f"sha256:{content}"
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:_ID_DIGITS]


def distinct(cells: Iterable[Cell]) -> list[Cell]:
    """List each cell once, ordered by seed, so that a study which is stopped early has results for every setting."""
    unique: dict[str, Cell] = {}
    for cell in cells:
        known = unique.get(cell.run_id)
        if known is None or known.limit is None or (cell.limit and cell.limit.amount > known.limit.amount):
            unique[cell.run_id] = cell
    order: dict[int, int] = {}
    return sorted(unique.values(), key=lambda cell: order.setdefault(cell.config.seed, len(order)))
