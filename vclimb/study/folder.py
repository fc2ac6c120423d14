"""Folder of a study.

studies/NAME/
  study.toml       definition of the study as it was run last
  data.json        data set of its runs
  cells.json       settings of each run of the study, by the run's name
  runs/ID/         folder of a run, as `vclimb train` writes it
  configs/ID.toml  settings that a run was started with
  beginnings/      trainings of the first task that runs share
  logs/ID.txt      stderr of a run
  jobs.txt         decisions on the number of runs at a time, a line each, with `jobs` auto
  failures/ID.json reason why a run failed
  locks/           empty files, locked by the processes that compute the study
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vclimb.pipeline.errors import DatasetError, TargetError
from vclimb.pipeline.system.durable import replace_file
from vclimb.pipeline.system.folders import is_held, make_folder, writable
from vclimb.pipeline.system.paths import local_path
from vclimb.study.parts import Part, held_part, registering
from vclimb.study.stored import (
    CELLS_OF_STUDY,
    DATA_OF_STUDY,
    FAILURE_OF_RUN,
    Failure,
    StudyError,
    encodable,
    read_stored,
    write_stored,
)
from vclimb.training.run_folder import LOCK, METRICS
from vclimb.training.run_metrics import RunMetrics

STUDY, CELLS, DATA, RUNS = "study.toml", "cells.json", "data.json", "runs"
CONFIGS, LOGS, FAILURES, LOCKS = "configs", "logs", "failures", "locks"
BEGINNINGS, JOBS = "beginnings", "jobs.txt"

_TAIL_BYTES = 64 * 2**10


class StudyFolder:
    """Folder of a study.

    Args:
        path: Path of the folder, which may not exist yet.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = local_path(path)

    def run(self, run_id: str) -> Path:
        """Folder of a run."""
        return self.path / RUNS / run_id

    def config(self, run_id: str) -> Path:
        """File of the settings that a run is started with."""
        return self.path / CONFIGS / f"{run_id}.toml"

    def log(self, run_id: str) -> Path:
        """File of a run's stderr."""
        return self.path / LOGS / f"{run_id}.txt"

    @property
    def beginnings(self) -> Path:
        """Folder of the trainings of the first task that runs share."""
        return self.path / BEGINNINGS

    def has_ended_first_task(self, run_id: str) -> bool:
        """Whether a run has ended its first task."""
        return (self.run(run_id) / METRICS).exists()

    @contextmanager
    def held(self, part: Part | None = None, run_ids: Collection[str] = ()) -> Iterator[None]:
        """Make the folder, and hold it for this process. The lock ends with the process, however that ends.

        Args:
            part: Part of the study that this process computes, while other processes compute other parts; None: all.
            run_ids: Runs of the whole study.

        Raises:
            TargetBusyError: Another study runs in the folder, or another process computes this part.
            TargetError: The folder can't be made, or holds something else.
        """
        self._make()
        with held_part(self.path / LOCKS, part, run_ids, str(self.path)):
            yield

    def _make(self) -> None:
        make_folder(self.path)
        with writable(self.path):
            names = set(os.listdir(self.path)) - {LOCKS}
            if names and not names & {STUDY, RUNS}:
                raise TargetError(
                    f"{self.path} holds files that are not a study ({min(names)!r} and {len(names) - 1} more); choose "
                    "an empty or a new folder"
                )
            for name in (RUNS, CONFIGS, LOGS, FAILURES, LOCKS):
                (self.path / name).mkdir(exist_ok=True)

    def registering(self) -> AbstractContextManager[None]:
        """Wait until no other process begins or ends with a part of the study, and hold them off within a block."""
        return registering(self.path / LOCKS)

    def check_data(self, name: str, digest: str) -> None:
        """Check that all runs of the study are of one data set, given its name and digest. Nothing is written.

        Raises:
            TargetError: The runs are of another data set.
            StudyError: The file that names it is damaged.
        """
        remedy = (
            "remove it if all runs of the study are of this data set, and run the study again, which keeps complete "
            "runs; else choose another folder"
        )
        known = read_stored(self.path / DATA, DATA_OF_STUDY, remedy)
        if known is not None and known.content != digest:
            raise TargetError(
                f"{self.path} holds runs of data set {known.name[:200]!r} as it was, and {name!r} has other "
                "videos; choose another folder for them"
            )

    def keep_data(self, name: str, digest: str) -> None:
        """Write down the data set of the runs.

        Raises:
            TargetError: The runs are of another data set, or the file can't be written.
            StudyError: The file is there and damaged.
        """
        self.check_data(name, digest)
        with writable(self.path):
            write_stored(self.path / DATA, {"name": name, "content": digest})

    def write_study(self, toml: str, cells: Mapping[str, Mapping[str, Any]]) -> None:
        """Write down the definition and the cells of the study, before its runs start, in a folder that is held."""
        with writable(self.path):
            replace_file(self.path / STUDY, toml.encode())
            write_stored(self.path / CELLS, {"cells": cells})

    def cells(self) -> Mapping[str, Mapping[str, Any]]:
        """Read the settings of the cells of the study that was run last, by run; empty where there is no such file.

        Raises:
            StudyError: The file is damaged.
        """
        remedy = "run the study again (`vclimb study run` writes it anew and keeps complete runs), or remove it"
        stored = read_stored(self.path / CELLS, CELLS_OF_STUDY, remedy)
        return {} if stored is None else stored.cells

    def is_complete(self, run_id: str) -> bool:
        """Whether a run is complete. A run whose metrics can't be read is not: it is computed again."""
        try:
            return RunMetrics.load(self.run(run_id) / METRICS).complete
        except (DatasetError, FileNotFoundError):
            return False

    def begun(self) -> set[str]:
        """List the runs that have a folder."""
        try:
            return set(os.listdir(self.path / RUNS))
        except OSError:
            return set()

    def has_ended(self, run_ids: Iterable[str]) -> bool:
        """Whether each run is complete or has failed."""
        failures = self.failures()
        return all(run_id in failures or self.is_complete(run_id) for run_id in run_ids)

    def is_running(self, run_id: str) -> bool:
        """Whether a process trains in a run's folder."""
        return is_held(self.run(run_id) / LOCK)

    def failures(self) -> dict[str, Failure]:
        """Read the failures of runs. A damaged record still counts as a failure, which says what is wrong with it."""
        stems = sorted(path.stem for path in (self.path / FAILURES).glob("*.json"))
        read = {encodable(stem): self._read_failure(stem) for stem in stems}
        return {run_id: failure for run_id, failure in read.items() if failure is not None}

    def record_failure(self, run_id: str, error: str, exit_status: int, settings: Mapping[str, Any]) -> Failure:
        """Write down the failure of a run."""
        before = self._read_failure(run_id)
        attempts = 1 + (before.attempts if before else 0)
        failure = Failure(error, exit_status, self.tail(run_id), attempts, time.time(), dict(settings))
        with writable(self.path):
            write_stored(self._failure(run_id), asdict(failure))
        return failure

    def forget_failure(self, run_id: str) -> None:
        """Remove the record of a failure, as the run is complete now."""
        self._failure(run_id).unlink(missing_ok=True)

    def note(self, line: str) -> None:
        """Write down a decision on the number of runs at a time."""
        with writable(self.path), (self.path / JOBS).open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

    def tail(self, run_id: str, lines: int = 20) -> str:
        """Read the last lines of a run's stderr."""
        try:
            with self.log(run_id).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
                text = file.read().decode("utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def _failure(self, run_id: str) -> Path:
        return self.path / FAILURES / f"{run_id}.json"

    def _read_failure(self, run_id: str) -> Failure | None:
        try:
            return read_stored(self._failure(run_id), FAILURE_OF_RUN, "--retry-failed replaces it")
        except StudyError as error:
            return Failure(str(error), 1, "", 1, 0.0, {})
