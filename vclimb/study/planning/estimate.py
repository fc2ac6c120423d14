"""Estimate of a study: time of its runs, from those that are complete or by a stated rule, and their memories."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from vclimb.pipeline.system.progress import progress_bar
from vclimb.study.cells import Cell
from vclimb.study.folder import StudyFolder
from vclimb.study.naming import SEED, duration, head, parts_label, size_label, value_text, varied
from vclimb.study.running.preflight import check_limit
from vclimb.study.running.sharing import runs_that_take
from vclimb.training.config import RunConfig
from vclimb.training.expected_memory import PlannedMemory
from vclimb.training.plan import RunPlan, RunPlanner
from vclimb.training.run_folder import RunFolder
from vclimb.training.scenarios import MatchedScenarios

ASSUMED_CLIPS_PER_SECOND = 100.0
FORWARD_CLIPS = 3
"""Number of clips that are only evaluated, in the time of one that is trained on: backward passes cost two more."""
_RULE = "assumed {rate:g} training clips a second, as no run is complete; --rate takes what `vclimb bench` measures"


@dataclass(frozen=True)
class CellEstimate:
    """Estimate of one run.

    Attributes:
        cell: Cell of the run.
        state: `complete`, `failed`, `begun` or `to do`.
        clips: Number of clips trained on; temporal consistency counts each clip twice.
        memory: Numbers of videos, frames and bytes after the last task; None for methods that keep none.
        seconds: Duration of the run; 0 for a run that is complete, or failed and isn't tried again.
    """

    cell: Cell
    state: str
    clips: int
    memory: PlannedMemory | None
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """Estimate of a study.

    Attributes:
        cells: Estimates of the runs.
        rule: Source of the durations, as a sentence.
        jobs: Number of runs at a time.
        first_tasks_taken: Number of runs that take the training of the first task from another run.
    """

    cells: tuple[CellEstimate, ...]
    rule: str
    jobs: int
    first_tasks_taken: int = 0

    @property
    def seconds(self) -> float:
        """Time until the last run ends."""
        left = [cell.seconds for cell in self.cells]
        return max(sum(left) / self.jobs, max(left, default=0.0))

    @property
    def memory_bytes(self) -> int:
        """Size of all memories together."""
        return sum(cell.memory.bytes for cell in self.cells if cell.memory)

    @property
    def time(self) -> str:
        """Time until the last run ends, in words."""
        return duration(self.seconds)

    def to_table(self) -> list[dict[str, str]]:
        """Convert to rows of texts by their headings: what sets each run apart, its memory, clips and time."""
        settings = [estimated.cell.settings for estimated in self.cells]
        names = [*varied(settings), SEED]
        keeps_more = any(estimated.memory and len(estimated.memory.parts) > 2 for estimated in self.cells)
        rows = []
        for estimated, values in zip(self.cells, settings, strict=True):
            memory = estimated.memory
            rows.append(
                {
                    "run": estimated.cell.run_id,
                    **{head(name): value_text(values.get(name)) for name in names},
                    "videos": f"{memory.videos:,}" if memory else "-",
                    "frames": f"{memory.frames:,}" if memory else "-",
                    "bytes": size_label(memory.bytes) if memory else "-",
                    **({"bytes by part": parts_label(memory.parts) if memory else "-"} if keeps_more else {}),
                    "clips": f"{estimated.clips:,}",
                    "time": duration(estimated.seconds) if estimated.seconds else "-",
                    "state": estimated.state,
                }
            )
        return rows

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values."""
        return {
            "cells": [
                {
                    "run": estimated.cell.run_id,
                    "state": estimated.state,
                    "settings": estimated.cell.config.to_table(),
                    "training_clips": estimated.clips,
                    "memory": estimated.memory and asdict(estimated.memory),
                    "seconds": estimated.seconds,
                }
                for estimated in self.cells
            ],
            "seconds": self.seconds,
            "seconds_from": self.rule,
            "memory_bytes": self.memory_bytes,
            "jobs": self.jobs,
            "first_tasks_taken": self.first_tasks_taken,
        }


def estimate(
    cells: Sequence[Cell],
    scenarios: MatchedScenarios,
    folder: StudyFolder,
    jobs: int,
    rate: float | None,
    retry_failed: bool = False,
    progress: bool | None = None,
    shared: Mapping[str, str] | None = None,
) -> Estimate:
    """Estimate a study, as `Study.estimate` describes.

    Args:
        shared: Run -> group of the runs that share the training of the first task, where the run shares it.
    """
    failed = folder.failures()
    planner, plans = RunPlanner(scenarios), dict[str, RunPlan]()
    states, clips, work, first_task, memories = [], list[int](), list[float](), list[int](), []
    with progress_bar("runs", progress) as bar:
        for cell in bar.track(cells, description="planning"):
            plan = _plan(cell.config, planner, plans)
            check_limit(cell, scenarios)
            passes = 2 if 0 < cell.config.consistency.weight < 1 else 1  # a clip, and the same down-sampled
            clips.append(plan.training_clips * passes)
            work.append(clips[-1] + plan.forward_clips / FORWARD_CLIPS)
            first_task.append(plan.tasks[0].clips * passes)
            memories.append(plan.tasks[-1].memory)
            states.append(_state(cell.run_id, folder, cell.run_id in failed))
    measured = _seconds_per_clip(cells, work, folder)
    rule = f"from {len(measured)} complete runs of this study: their training clips a second, all phases counted"
    if rate is not None:
        rule = f"at {rate:g} training clips a second, as --rate says"
    elif not measured:
        rule = _RULE.format(rate=ASSUMED_CLIPS_PER_SECOND)
    speed = rate or (1 / median(measured) if measured else ASSUMED_CLIPS_PER_SECOND)
    done = ("complete",) if retry_failed else ("complete", "failed")
    left = [cell.run_id for cell, state in zip(cells, states, strict=True) if state not in done]
    taking = runs_that_take(shared or {}, left, folder)
    work = [
        n - (of_first if cell.run_id in taking else 0)
        for cell, n, of_first in zip(cells, work, first_task, strict=True)
    ]
    rows = tuple(
        CellEstimate(cell, state, n, memory, 0.0 if state in done else n_work / speed)
        for cell, state, n, n_work, memory in zip(cells, states, clips, work, memories, strict=True)
    )
    return Estimate(rows, rule, jobs, len(taking))


def _state(run_id: str, folder: StudyFolder, has_failed: bool) -> str:
    if folder.is_complete(run_id):
        return "complete"
    if has_failed:
        return "failed"
    return "begun" if folder.run(run_id).exists() else "to do"


def _plan(config: RunConfig, planner: RunPlanner, plans: dict[str, RunPlan]) -> RunPlan:
    """Plan a run. Runs that differ only in what a plan doesn't depend on share it."""
    settings = config.to_table()
    settings["consistency"].pop("weight")
    key = json.dumps({name: value for name, value in settings.items() if name != "seed"}, sort_keys=True)
    if key not in plans:
        alike = config.replaced(seed=0, consistency=config.consistency.replaced(weight=0.0))
        plans[key] = planner.plan(alike)
    return plans[key]


def _seconds_per_clip(cells: Sequence[Cell], work: Sequence[float], folder: StudyFolder) -> list[float]:
    measured = []
    for cell, n_clips in zip(cells, work, strict=True):
        if n_clips and folder.is_complete(cell.run_id):
            metrics = RunFolder(folder.run(cell.run_id)).metrics()
            if metrics is not None:
                measured.append(sum(metrics.seconds.values()) / n_clips)
    return measured
