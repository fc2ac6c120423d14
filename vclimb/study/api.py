"""Public class of studies: many runs that differ in a few settings.

study = vclimb.Study("memory-vs-frames", axes={"frames": [1, 8]}, settings={"training.epochs": 10})
result = study.run("shards/ucf101", "studies/frames", jobs=4)
result.report()
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.errors import SettingsError
from vclimb.study.axes import parse_axes, parse_list, parse_settings
from vclimb.study.cells import Cell
from vclimb.study.definition import read_study
from vclimb.study.folder import StudyFolder
from vclimb.study.parts import Part
from vclimb.study.planning.estimate import Estimate, estimate
from vclimb.study.result import StudyResult
from vclimb.study.running.executor import EXECUTORS, RunExecutor
from vclimb.study.running.places import AutoJobs, Places
from vclimb.study.running.preflight import dataset_digest, preflight, scenario_totals
from vclimb.study.running.run import run_cells
from vclimb.study.running.sharing import shared_beginnings
from vclimb.training.scenarios import MatchedScenarios

_log = logging.getLogger(__name__)


class Study:
    """Runs that differ in a few settings.

    Args:
        name_or_file: Name of a preset (`memory-vs-frames`, `kinds-of-memory`, `codecs`, `paper-table-a`,
            `paper-table-b`, `paper-table-c`), path of a TOML file, or the content of such a file as nested tables.
        axes: Values of settings that vary, by their dotted or short names, such as `{"frames": [1, 8, "all"]}`; or
            texts such as `["frames=1,8,all"]`. Every combination is a run.
        settings: Settings of all runs by their dotted or short names, such as `{"training.epochs": 10}`, as nested
            tables, or as texts such as `["training.epochs=10"]`.
        budgets: Budgets that all cells share, in place of all others, such as `["1MB", "2MB"]`, `"1MB,2MB"`, or
            `["5%"]` of the training data.
        equal: Kinds of budgets that are equal in all cells: `bytes`, `videos` or `frames`, or several.

    Attributes:
        definition: Base settings, axes and constraints.

    Raises:
        SettingsError: There is no such file or preset, a name is unknown, or a value isn't allowed.
    """

    def __init__(
        self,
        name_or_file: str | Path | Mapping[str, Any],
        *,
        axes: Mapping[str, Sequence[Any]] | Sequence[str] | None = None,
        settings: Mapping[str, Any] | Sequence[str] | None = None,
        budgets: str | Sequence[str] | None = None,
        equal: str | Sequence[str] | None = None,
    ) -> None:
        self.definition = read_study(name_or_file).changed(
            parse_axes(axes),
            parse_settings(settings),
            parse_list("budgets", budgets, "1MB,2MB"),
            parse_list("equal", equal, "bytes,videos"),
        )

    @property
    def name(self) -> str:
        """Name of the study."""
        return self.definition.name

    def __repr__(self) -> str:
        return f"Study({self.name!r}, axes={self.definition.axes!r})"

    def cells(self, data: str | Path | StoredDataset) -> list[Cell]:
        """List the runs of the study, each once.

        Args:
            data: Prepared data set: a path, a URL, or an open data set.

        Raises:
            VclimbError: A cell has settings that no run takes, or the data set can't be read.
        """
        return self._cells(MatchedScenarios(_open(data)))

    def run(
        self,
        data: str | Path | StoredDataset,
        out: str | Path,
        *,
        jobs: int | Literal["auto"] | None = None,
        jobs_per_gpu: int | None = None,
        gpus: str | Sequence[int | str] = "auto",
        retry_failed: bool = False,
        executor: str | RunExecutor = "local",
        only: str | None = None,
        limit: int | None = None,
        beginnings: bool = True,
        progress: bool | None = None,
    ) -> StudyResult:
        """Compute the runs that are not complete yet. A complete run is never computed again.

        Settings that no run could take are refused before anything runs. A run that fails stops no other.

        Args:
            data: Prepared data set: a path, a URL, or an open data set.
            out: Folder of the study; made if it isn't there.
            jobs: Number of runs at a time, also on one GPU; None: `jobs_per_gpu` for each GPU. With Ray: those of all
                nodes. `auto`, on this machine: found from memory, idle time and clips/s of each GPU while runs train,
                and from the cores.
            jobs_per_gpu: Number of runs that share a GPU, in place of `jobs`; None: 1.
            gpus: GPUs to spread runs over, such as `[0, 1]` or `"0,1"`, counted among the visible ones; `auto`: all.
            retry_failed: Whether to try runs again that failed before.
            executor: Executor that places the runs: `local` (this machine), `ray` (the nodes of the Ray cluster that
                RAY_ADDRESS or `ray start` names, else this machine), another's name, `package.module:Class`, or an
                instance.
            only: Part of the study to compute, such as `2/4` for the second of four; None: all of it. Processes that
                compute different parts of one number of parts may share a folder at a time, such as the tasks of an
                array job. The one that ends last writes the report. The result is that of the part.
            limit: Number of runs to compute at most in this call, the first seeds first; None: all that are left.
            beginnings: Whether runs share the training of the first task where their settings differ in nothing that it
                depends on. Their results are the same without.
            progress: Whether progress is shown on stderr. None: if stderr is a terminal or a notebook. True: the lines
                of runs that have ended are printed in any case.

        Raises:
            VclimbError: A cell couldn't be run, the folder is in use, can't be written, or holds runs of other data.
            KeyboardInterrupt: The study was asked to stop; the next call goes on with its runs.
        """
        part = None if only is None else Part.parse(only)
        folder, dataset = StudyFolder(out), _open(data)
        scenarios = MatchedScenarios(dataset)
        all_cells = self._cells(scenarios)
        cells = all_cells if part is None else part.of(all_cells)
        if isinstance(executor, str):
            executor = EXECUTORS.find(executor).for_study(_jobs(jobs, cells, limit), gpus, jobs_per_gpu)
        digest = dataset_digest(dataset)
        folder.check_data(dataset.name, digest)
        for warning in preflight(cells, scenarios):
            _log.warning(warning)
        settings = {cell.run_id: cell.settings for cell in all_cells}
        with folder.held(part, settings):
            with folder.registering():
                folder.keep_data(dataset.name, digest)
                folder.write_study(self.definition.to_toml(), settings)
            shared = shared_beginnings(all_cells, executor.places) if beginnings else {}
            todo = _limited(cells, folder, limit, retry_failed)
            result = run_cells(todo, folder, executor, retry_failed, progress, shared)
            if part is not None:
                with folder.registering():  # the last part that gets here finds all runs ended
                    if folder.has_ended(settings):
                        result.report(progress=False)
        return result

    def estimate(
        self,
        data: str | Path | StoredDataset,
        out: str | Path,
        *,
        jobs: int | Literal["auto"] | None = None,
        gpus: str | Sequence[int | str] = "auto",
        rate: float | None = None,
        retry_failed: bool = False,
        only: str | None = None,
        beginnings: bool = True,
        progress: bool | None = None,
    ) -> Estimate:
        """Estimate the time and the memories of the runs that are not complete yet. Nothing is trained or written.

        Arguments that `run` takes too mean the same. With `jobs` auto, one run on each GPU is counted.

        Args:
            rate: Training clips a second of one run, as `vclimb.bench` measures; None: measured on complete runs of
                the study, or assumed.

        Raises:
            VclimbError: A cell couldn't be run, or the folder holds runs of other data.
        """
        if rate is not None and rate <= 0:
            raise SettingsError(f"rate {rate:g} is out of range; allowed: above 0 clips a second")
        part = None if only is None else Part.parse(only)
        folder, dataset = StudyFolder(out), _open(data)
        folder.check_data(dataset.name, dataset_digest(dataset))
        scenarios = MatchedScenarios(dataset)
        all_cells = self._cells(scenarios)
        cells = all_cells if part is None else part.of(all_cells)
        places = Places.find(_jobs(jobs, cells), gpus)
        n_jobs = max(1, len(places.gpus)) if jobs == "auto" and places.gpus else places.jobs
        shared = shared_beginnings(all_cells, places) if beginnings else {}
        return estimate(cells, scenarios, folder, n_jobs, rate, retry_failed, progress, shared)

    def _cells(self, scenarios: MatchedScenarios) -> list[Cell]:
        place = str(scenarios.dataset.storage)
        return self.definition.expand(
            os.path.abspath(place) if os.path.exists(place) else place, scenario_totals(scenarios)
        )


def _jobs(jobs: int | Literal["auto"] | None, cells: Sequence[Cell], limit: int | None = None) -> int | AutoJobs | None:
    if not isinstance(jobs, str):
        return jobs
    if jobs != "auto":
        raise SettingsError(f"jobs {jobs!r} is not understood; allowed: a number from 1, or auto")
    found = AutoJobs.of([cell.config for cell in cells])
    return found if limit is None else replace(found, runs=min(found.runs, limit))


def _limited(cells: list[Cell], folder: StudyFolder, limit: int | None, retry_failed: bool) -> list[Cell]:
    """Leave out the runs that a limit of runs to compute leaves for another call."""
    if limit is None:
        return cells
    if limit < 1:
        raise SettingsError(f"limit {limit} is out of range; allowed: 1 run or more")
    failed = set() if retry_failed else set(folder.failures())
    left = [cell.run_id for cell in cells if cell.run_id not in failed and not folder.is_complete(cell.run_id)]
    later = set(left[limit:])
    return [cell for cell in cells if cell.run_id not in later]


def _open(data: str | Path | StoredDataset) -> StoredDataset:
    return data if isinstance(data, StoredDataset) else StoredDataset.open(data)
