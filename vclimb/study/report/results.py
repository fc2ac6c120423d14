"""What run folders say: settings and metrics of each run, read without loading torch.

Folders may come from elsewhere, as of another machine, and lack what a report can do without: memories, logs.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vclimb.pipeline.errors import DatasetError
from vclimb.settings import changes_no_result, flat
from vclimb.study.folder import RUNS, STUDY, Failure, StudyFolder
from vclimb.training.run_folder import CONFIG, METRICS


@dataclass(frozen=True)
class RunResult:
    """A run.

    Attributes:
        run_id: name of its folder.
        path: of its folder.
        toml: its settings as they were written; empty where they can't be read.
        settings: the same, dotted name -> value, with `dataset` for the data set's name.
        metrics: its `metrics.json`; None where it hasn't ended a task.
        written: when `metrics.json` was, in seconds since 1970; 0 where there is none.
    """

    run_id: str
    path: Path
    toml: str
    settings: Mapping[str, Any]
    metrics: Mapping[str, Any] | None
    written: float = 0.0

    @property
    def is_complete(self) -> bool:
        """Whether it has ended as it should."""
        return self.metrics is not None and self.metrics.get("complete") is True

    @property
    def seed(self) -> int:
        return int(self.settings.get("seed", 0))

    @property
    def n_tasks_done(self) -> int:
        """Tasks that have ended."""
        return len(self.metrics["R"]) if self.metrics else 0

    def number(self, name: str) -> float:
        """A number of its metrics, such as `acc`; NaN where it wasn't measured."""
        return _number((self.metrics or {}).get(name))

    def memory(self, name: str) -> float:
        """A figure of its last memory, such as `bytes_on_disk`; NaN where it keeps none."""
        return _number(((self.metrics or {}).get("memory") or {}).get(name))

    @property
    def has_memory(self) -> bool:
        """Whether its method replays."""
        return not math.isnan(self.memory("bytes_on_disk"))

    @property
    def seconds(self) -> float:
        """Of all phases."""
        return sum(map(_number, ((self.metrics or {}).get("seconds") or {}).values()))

    def series(self, name: str) -> list[float]:
        """A figure after each task, such as `acc_after_each_task`; NaN: not measured."""
        return [_number(value) for value in (self.metrics or {}).get(name) or []]

    @property
    def forgetting(self) -> list[float]:
        """R[j, j] - R[last, j] of each task j but the last."""
        rows = [[_number(value) for value in row] for row in (self.metrics or {}).get("R") or []]
        return [rows[task][task] - rows[-1][task] for task in range(len(rows) - 1)]

    @property
    def key(self) -> str:
        """Equal for runs that differ in their seed alone; of a run whose settings can't be read, its own."""
        if not self.toml:
            return self.run_id
        kept = {name: v for name, v in self.settings.items() if not changes_no_result(name) and name != "seed"}
        return json.dumps(kept, sort_keys=True, default=str)


@dataclass(frozen=True)
class StudyResults:
    """All that is known of a study.

    Attributes:
        path: of its folder.
        runs: that were begun, complete or not, by their names.
        failures: run id -> why it failed.
        waiting: run id -> settings of cells that were never begun.
    """

    path: Path
    runs: tuple[RunResult, ...]
    failures: Mapping[str, Failure]
    waiting: Mapping[str, Mapping[str, Any]]

    @property
    def name(self) -> str:
        """Of the study, or of its folder where that isn't known."""
        try:
            name = tomllib.loads((self.path / STUDY).read_text("utf-8")).get("name")
        except (OSError, ValueError):
            name = None
        return name if isinstance(name, str) and name.strip() else self.path.resolve().name

    @property
    def complete(self) -> list[RunResult]:
        """Runs that have ended as they should."""
        return [run for run in self.runs if run.is_complete]

    @cached_property
    def set_aside(self) -> list[RunResult]:
        """Complete runs that another one repeats, by settings and seed, and that is newer: figures leave them out."""
        kept = {run.run_id for run in newest(self.complete)}
        return [run for run in self.complete if run.run_id not in kept]

    @property
    def unfinished(self) -> list[RunResult]:
        """Runs that were begun, and neither ended nor failed."""
        return [run for run in self.runs if not run.is_complete and run.run_id not in self.failures]


def read_results(path: Path | str) -> StudyResults:
    """Read a study's folder, or any folder of run folders.

    Raises:
        DatasetError: there is no run in it.
    """
    path = Path(path)
    folder = StudyFolder(path)
    places = path / RUNS if (path / RUNS).is_dir() else path
    found = sorted(one.parent for one in places.glob(f"*/{CONFIG}")) if places.is_dir() else []
    failures = folder.failures()
    if not found and not failures:
        raise DatasetError(f"{path} holds no runs; `vclimb study run` makes them, and so does `vclimb train --out`")
    order = {run_id: place for place, run_id in enumerate(folder.cells())}  # values of an axis as the study lists them
    runs = tuple(_run(one) for one in sorted(found, key=lambda one: (order.get(one.name, len(order)), one.name)))
    complete = {run.run_id for run in runs if run.is_complete}
    begun = {run.run_id for run in runs} | failures.keys()
    waiting = {run_id: settings for run_id, settings in folder.cells().items() if run_id not in begun}
    return StudyResults(path, runs, {k: v for k, v in failures.items() if k not in complete}, waiting)


def newest(runs: Sequence[RunResult]) -> list[RunResult]:
    """One run for each settings and seed, the newest: copies, and reruns on another device, tell nothing of chance."""
    latest: dict[tuple[str, int], RunResult] = {}
    for run in runs:
        known = latest.setdefault((run.key, run.seed), run)
        if (run.written, run.run_id) > (known.written, known.run_id):
            latest[run.key, run.seed] = run
    return list(latest.values())


def _run(path: Path) -> RunResult:
    try:
        toml = (path / CONFIG).read_text("utf-8")
        table = tomllib.loads(toml)
    except (OSError, ValueError):
        toml, table = "", {}
    try:
        metrics = json.loads((path / METRICS).read_text("utf-8"))
        written = (path / METRICS).stat().st_mtime
    except (OSError, ValueError):
        metrics, written = None, 0.0
    if not isinstance(metrics, dict) or not isinstance(metrics.get("R"), list):
        metrics = None
    settings = flat(table)
    if metrics is not None:
        settings["dataset"] = str(metrics.get("dataset", "-"))
    return RunResult(path.name, path, toml, settings, metrics, written)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
