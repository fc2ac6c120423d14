"""The folder of a study.

studies/NAME/
  study.toml       the study as it was run last
  data.json        which data set its runs are of
  cells.json       run id -> settings of each of its cells
  runs/ID/         the folder of a run, as `vclimb train` writes it
  configs/ID.toml  what a run was started with
  logs/ID.txt      what a run wrote to stderr
  failures/ID.json why a run failed
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vclimb.pipeline.errors import TargetError
from vclimb.pipeline.system.durable import replace_file
from vclimb.pipeline.system.folders import held_folder, is_locked, writable
from vclimb.training.run_folder import METRICS

STUDY, CELLS, DATA, RUNS = "study.toml", "cells.json", "data.json", "runs"
CONFIGS, LOGS, FAILURES = "configs", "logs", "failures"


@dataclass(frozen=True)
class Failure:
    """Why a run failed.

    Attributes:
        error: a line.
        exit_status: of the process; negative: the signal that ended it.
        tail: the last lines of its stderr.
        attempts: how often it was tried.
        time: seconds since 1970.
        settings: of the run, dotted name -> value.
    """

    error: str
    exit_status: int
    tail: str
    attempts: int
    time: float
    settings: Mapping[str, Any]


class StudyFolder:
    """A study's folder.

    Args:
        path: of it.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._is_held = False

    def run(self, run_id: str) -> Path:
        return self.path / RUNS / run_id

    def config(self, run_id: str) -> Path:
        return self.path / CONFIGS / f"{run_id}.toml"

    def log(self, run_id: str) -> Path:
        return self.path / LOGS / f"{run_id}.txt"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for this process; the lock ends with the process, however that ends.

        Raises:
            TargetBusyError: another `study run` works in it.
            TargetError: it can't be made, or holds something else.
        """
        with held_folder(self.path, "another study is running in"):
            names = set(os.listdir(self.path))
            if names and not names & {STUDY, RUNS}:
                raise TargetError(
                    f"{self.path} holds files that are not a study ({min(names)!r} and {len(names) - 1} more); choose "
                    "an empty or a new folder"
                )
            with writable(self.path):
                for name in (RUNS, CONFIGS, LOGS, FAILURES):
                    (self.path / name).mkdir(exist_ok=True)
            self._is_held = True
            try:
                yield
            finally:
                self._is_held = False

    def check_data(self, name: str, content: str) -> None:
        """See that all runs of the study are of one data set, wherever it lies; nothing is written.

        Args:
            name: of the data set.
            content: a digest of its videos.

        Raises:
            TargetError: its runs are of another one.
        """
        known = _json(self.path / DATA)
        if isinstance(known, dict) and known.get("content") != content:
            raise TargetError(
                f"{self.path} holds runs of data set {str(known.get('name'))!r} as it was, and {name!r} has other "
                "videos; choose another folder for them"
            )

    def keep_data(self, name: str, content: str) -> None:
        """Remember which data set all runs are of, once `check_data` has found no other.

        Raises:
            TargetError: its runs are of another one, or it can't be written.
        """
        self.check_data(name, content)
        with writable(self.path):
            replace_file(self.path / DATA, json.dumps({"name": name, "content": content}).encode())

    def write_study(self, toml: str, cells: Mapping[str, Mapping[str, Any]]) -> None:
        """Write what the study is, before its runs.

        Raises:
            RuntimeError: This process doesn't hold the folder.
        """
        if not self._is_held:
            raise RuntimeError(f"{self.path} is not held; write to it within StudyFolder.held()")
        with writable(self.path):
            replace_file(self.path / STUDY, toml.encode())
            replace_file(self.path / CELLS, json.dumps(cells, indent=1).encode())

    def cells(self) -> dict[str, dict[str, Any]]:
        """Run id -> settings of the cells of the study that was run last; empty where that isn't known."""
        cells = _json(self.path / CELLS)
        return cells if isinstance(cells, dict) else {}

    def is_complete(self, run_id: str) -> bool:
        """Whether a run has ended as it should."""
        metrics = _json(self.run(run_id) / METRICS)
        return isinstance(metrics, dict) and metrics.get("complete") is True

    def is_running(self, run_id: str) -> bool:
        """Whether a process trains in a run's folder."""
        return is_locked(self.run(run_id))

    def failures(self) -> dict[str, Failure]:
        """Run id -> why it failed."""
        found = {}
        for path in sorted((self.path / FAILURES).glob("*.json")):
            stored = _json(path)
            try:
                found[path.stem] = Failure(**stored)
            except TypeError:  # half written, or of another version
                found[path.stem] = Failure("the record of this failure is damaged", 1, "", 1, 0.0, {})
        return found

    def record_failure(self, run_id: str, error: str, exit_status: int, settings: Mapping[str, Any]) -> Failure:
        """Remember that a run failed, and why."""
        before = self.failures().get(run_id)
        attempts = 1 + (before.attempts if before else 0)
        failure = Failure(error, exit_status, self.tail(run_id), attempts, time.time(), dict(settings))
        with writable(self.path):
            replace_file(self.path / FAILURES / f"{run_id}.json", json.dumps(asdict(failure), indent=1).encode())
        return failure

    def forget_failure(self, run_id: str) -> None:
        """A run that failed before is complete now."""
        (self.path / FAILURES / f"{run_id}.json").unlink(missing_ok=True)

    def tail(self, run_id: str, lines: int = 20) -> str:
        """The last lines that a run wrote to stderr."""
        try:
            text = self.log(run_id).read_text("utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def complete(self, run_ids: Iterable[str]) -> set[str]:
        """Those of the runs that are complete."""
        return {run_id for run_id in run_ids if self.is_complete(run_id)}


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
