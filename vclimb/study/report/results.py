"""Read settings and metrics from run folders, without loading torch.

Folders may be copies from another machine, without memories and logs.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vclimb.pipeline.errors import DatasetError, SettingsError
from vclimb.pipeline.system.validation import first_problem
from vclimb.settings import changes_no_result, flat, read_table, read_toml
from vclimb.study.folder import RUNS, STUDY, StudyFolder
from vclimb.study.naming import meaningful
from vclimb.study.stored import SETTINGS_OF_RUN, Failure, StudyError, encodable
from vclimb.training.run_folder import CONFIG, METRICS
from vclimb.training.run_metrics import RunMetrics

_MAX_NAMES = 2000
_MAX_SHOWN = 300


@dataclass(frozen=True)
class RunResult:
    """Settings and metrics of a run.

    Attributes:
        path: Path of the run's folder.
        toml: Content of `config.toml`.
        settings: Dotted name -> value of each setting, with `dataset` for the data set's name.
        metrics: Content of `metrics.json`; None before the run's first task has ended.
        written: Time of the last change of `metrics.json`, in seconds since 1970; 0 where there is no such file.
    """

    path: Path
    toml: str
    settings: Mapping[str, Any]
    metrics: RunMetrics | None
    written: float = 0.0

    @property
    def run_id(self) -> str:
        """Name of the run's folder."""
        return encodable(self.path.name)

    @property
    def is_complete(self) -> bool:
        """Whether the run has ended without an error."""
        return self.metrics is not None and self.metrics.complete

    @property
    def seed(self) -> int:
        """Seed of the run."""
        seed = self.settings.get("seed", 0)
        assert isinstance(seed, int)  # read_results checks it
        return seed

    @property
    def n_tasks_done(self) -> int:
        """Number of tasks that have ended."""
        return len(self.metrics.R) if self.metrics else 0

    def number(self, name: str) -> float:
        """Look up a number of the metrics, such as `acc`; NaN where it was not measured."""
        return _number(self.metrics, name)

    def memory(self, name: str) -> float:
        """Look up a figure of the last memory, such as `bytes_on_disk`; NaN where the method keeps none."""
        return _number(self.metrics and self.metrics.memory, name)

    def part_bytes(self, part: str) -> float:
        """Look up the bytes of a part of the last memory, such as `statistics`; 0 where the method keeps none."""
        memory = self.metrics and self.metrics.memory
        return float(memory.parts.get(part, 0)) if memory else 0.0

    @property
    def has_memory(self) -> bool:
        """Whether the method keeps exemplars."""
        return self.metrics is not None and self.metrics.memory is not None and self.metrics.codec is not None

    @property
    def seconds(self) -> float:
        """Time of all phases, in seconds."""
        return sum(self.metrics.seconds.values()) if self.metrics else 0.0

    def series(self, name: str) -> list[float]:
        """Look up a figure after each task, such as `acc_after_each_task`; NaN where it was not measured."""
        return _floats(getattr(self.metrics, name)) if self.metrics else []

    @property
    def forgetting(self) -> list[float]:
        """Forgetting of each task j but the last: R[j, j] - R[last, j], a fraction."""
        rows = [_floats(row) for row in self.metrics.R] if self.metrics else []
        return [rows[task][task] - rows[-1][task] for task in range(len(rows) - 1)]

    @property
    def key(self) -> str:
        """Key that is equal for runs that differ only in their seed."""
        kept = {name: v for name, v in self.settings.items() if not changes_no_result(name) and name != "seed"}
        return json.dumps(kept, sort_keys=True)


@dataclass(frozen=True)
class StudyResults:
    """State of all runs of a study.

    Attributes:
        path: Folder of the study.
        runs: Runs that were begun, complete or not, in the order of the study's cells.
        failures: Run id -> why the run failed.
        waiting: Run id -> settings of a cell that was never begun.
        damaged: Run id -> why the settings or the metrics in the run's folder can't be read; figures leave it out.
    """

    path: Path
    runs: tuple[RunResult, ...]
    failures: Mapping[str, Failure]
    waiting: Mapping[str, Mapping[str, Any]]
    damaged: Mapping[str, str]

    @property
    def name(self) -> str:
        """Name of the study; the folder's name where `study.toml` gives none that can be read."""
        try:
            name = read_table(self.path / STUDY).get("name")
        except SettingsError:
            name = None
        return name if isinstance(name, str) and name.strip() else self.path.resolve().name

    @cached_property
    def complete(self) -> list[RunResult]:
        """Runs that have ended without an error."""
        return [run for run in self.runs if run.is_complete]

    @cached_property
    def set_aside(self) -> list[RunResult]:
        """Complete runs that figures leave out, because a newer run has the same settings and seed."""
        kept = {run.run_id for run in newest(self.complete)}
        return [run for run in self.complete if run.run_id not in kept]

    @property
    def unfinished(self) -> list[RunResult]:
        """Runs that were begun and have neither ended nor failed."""
        return [run for run in self.runs if not run.is_complete and run.run_id not in self.failures]


def read_results(path: Path | str) -> StudyResults:
    """Read a study's folder, or any folder of run folders.

    Raises:
        DatasetError: The folder holds no runs.
        StudyError: A file of the study is damaged.
    """
    folder = StudyFolder(path)
    path = folder.path
    places = path / RUNS if (path / RUNS).is_dir() else path
    paths = [config.parent for config in places.glob(f"*/{CONFIG}")] if places.is_dir() else []
    failures, cells = folder.failures(), folder.cells()
    if not paths and not failures:
        raise DatasetError(f"{path} holds no runs; `vclimb study run` makes them, and so does `vclimb train --out`")
    order = {run_id: place for place, run_id in enumerate(cells)}  # values of an axis as the study lists them
    runs, damaged = [], {}
    for run_path in sorted(paths, key=lambda run: (order.get(run.name, len(order)), run.name)):
        try:
            runs.append(_read_run(run_path))
        except (DatasetError, SettingsError) as error:
            damaged[encodable(run_path.name)] = encodable(str(error))
    _check_number_of_settings(path, runs)
    for run in runs:
        if run.is_complete:
            failures.pop(run.run_id, None)
    begun = {run.run_id for run in runs} | failures.keys() | damaged.keys()
    waiting = {run_id: v for run_id, v in cells.items() if run_id not in begun}
    return StudyResults(path, tuple(runs), failures, waiting, damaged)


def newest(runs: Sequence[RunResult]) -> list[RunResult]:
    """Select the newest run of each settings and seed: copies and reruns say nothing about chance."""
    latest: dict[tuple[str, int], RunResult] = {}
    for run in runs:
        known = latest.setdefault((run.key, run.seed), run)
        if (run.written, run.run_id) > (known.written, known.run_id):
            latest[run.key, run.seed] = run
    return list(latest.values())


def _read_run(path: Path) -> RunResult:
    """Read a run's folder; a SettingsError or a DatasetError where settings or metrics can't be read."""
    toml, table = read_toml(path / CONFIG)
    try:
        texts = {name: str(v) if isinstance(v, list) else v for name, v in flat(table).items()}
        settings = SETTINGS_OF_RUN.validate_python({"seed": 0} | texts)
        if type(settings["seed"]) is not int:
            raise DatasetError(
                f"{path / CONFIG}: setting 'seed' is {_brief(settings['seed'])}; allowed: a whole number"
            )
    except ValidationError as error:
        raise DatasetError(f"{path / CONFIG} holds no settings of a run: {_brief(first_problem(error))}") from None
    try:
        metrics = RunMetrics.load(path / METRICS)
        written = os.stat(path / METRICS).st_mtime
    except FileNotFoundError:
        return RunResult(path, toml, meaningful(settings), None)
    return RunResult(path, toml, {**meaningful(settings), "dataset": metrics.dataset}, metrics, written)


def _check_number_of_settings(path: Path, runs: Sequence[RunResult]) -> None:
    """Refuse runs whose settings have so many different names that no table could hold them."""
    if (n_names := len({name for run in runs for name in run.settings})) > _MAX_NAMES:
        raise StudyError(
            f"the runs in {path} have {n_names:,} different settings together; allowed: {_MAX_NAMES:,}. "
            "Report on runs of fewer methods at a time"
        )


def _brief(value: object) -> str:
    return str(value) if len(str(value)) <= _MAX_SHOWN else f"{str(value)[:_MAX_SHOWN]}..."


def _number(facts: object, name: str) -> float:
    value = getattr(facts, name, None)
    return math.nan if value is None else float(value)


def _floats(values: Iterable[float | None]) -> list[float]:
    return [math.nan if value is None else float(value) for value in values]
