"""What a study will take: its runs' time, from those that have ended or by a rule that is said; and their memories."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from vclimb.study.cells import Cell
from vclimb.study.folder import StudyFolder
from vclimb.training.config import RunConfig
from vclimb.training.plan import PlannedMemory, RunPlan, plan_run

ASSUMED_CLIPS_PER_SECOND = 100.0
_RULE = "assumed {rate:g} training clips a second, as no run has ended; --rate takes what `vclimb bench` measures"


@dataclass(frozen=True)
class CellEstimate:
    """What a run is expected to take.

    Attributes:
        cell: the run.
        state: `complete`, `failed`, `begun` or `to do`.
        clips: that are trained on, twice where temporal consistency looks at each again.
        memory: videos, frames and bytes after the last task; None for methods that keep none.
        seconds: of the run; 0 if it is complete, or failed and isn't tried again.
    """

    cell: Cell
    state: str
    clips: int
    memory: PlannedMemory | None
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """What a study is expected to take.

    Attributes:
        cells: an estimate of each.
        rule: how the time was found, as a sentence.
        jobs: runs at a time.
    """

    cells: tuple[CellEstimate, ...]
    rule: str
    jobs: int

    @property
    def seconds(self) -> float:
        """Until the last run ends."""
        left = [one.seconds for one in self.cells]
        return max(sum(left) / self.jobs, max(left, default=0.0))

    @property
    def memory_bytes(self) -> int:
        """Of all memories together."""
        return sum(one.memory.bytes for one in self.cells if one.memory)

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "cells": [
                {
                    "run": one.cell.run_id,
                    "state": one.state,
                    "settings": one.cell.config.to_table(),
                    "training_clips": one.clips,
                    "memory": one.memory and asdict(one.memory),
                    "seconds": one.seconds,
                }
                for one in self.cells
            ],
            "seconds": self.seconds,
            "seconds_from": self.rule,
            "memory_bytes": self.memory_bytes,
            "jobs": self.jobs,
        }


def estimate(
    cells: Sequence[Cell], folder: StudyFolder, jobs: int, rate: float | None, retry_failed: bool = False
) -> Estimate:
    """Estimate a study; nothing is trained and nothing written.

    Args:
        rate: training clips a second of one run; None: from runs of the study that have ended, else a rule.
        retry_failed: runs that failed are tried again; else nothing of them is left to do.

    Raises:
        VclimbError: a cell couldn't be run.
    """
    failed = folder.failures()
    plans: dict[str, RunPlan] = {}
    states, clips, memories = [], [], []
    for cell in cells:
        plan = _plan(cell.config, plans)
        clips.append(plan.training_clips * _passes(cell.config))
        memories.append(plan.tasks[-1].memory)
        if folder.is_complete(cell.run_id):
            states.append("complete")
        elif cell.run_id in failed:
            states.append("failed")
        else:
            states.append("begun" if folder.run(cell.run_id).exists() else "to do")
    measured = _measured(cells, clips, folder)
    rule = f"from {len(measured)} runs of this study that have ended: their training clips a second, all phases counted"
    if rate is not None:
        rule = f"at {rate:g} training clips a second, as --rate says"
    elif not measured:
        rule = _RULE.format(rate=ASSUMED_CLIPS_PER_SECOND)
    speed = rate or (1 / median(measured) if measured else ASSUMED_CLIPS_PER_SECOND)
    done = ("complete",) if retry_failed else ("complete", "failed")
    rows = tuple(
        CellEstimate(cell, state, n, memory, 0.0 if state in done else n / speed)
        for cell, state, n, memory in zip(cells, states, clips, memories, strict=True)
    )
    return Estimate(rows, rule, jobs)


def _passes(config: RunConfig) -> int:
    return 2 if 0 < config.consistency.weight < 1 else 1


def _plan(config: RunConfig, plans: dict[str, RunPlan]) -> RunPlan:
    """The plan of a run; those that differ in nothing that it depends on share it."""
    alike = config.replaced(seed=0, consistency=config.consistency.replaced(weight=0.0))
    key = json.dumps(alike.to_table(), sort_keys=True)
    if key not in plans:
        plans[key] = plan_run(alike)
    return plans[key]


def _measured(cells: Sequence[Cell], clips: Sequence[int], folder: StudyFolder) -> list[float]:
    """Seconds for each training clip, of runs that have ended."""
    found = []
    for cell, n_clips in zip(cells, clips, strict=True):
        if folder.is_complete(cell.run_id) and n_clips:
            metrics = json.loads(Path(folder.run(cell.run_id) / "metrics.json").read_text("utf-8"))
            found.append(sum(metrics["seconds"].values()) / n_clips)
    return found
