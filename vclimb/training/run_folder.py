"""The folder of a run: settings, metrics, events, memory and checkpoints. A study reads nothing else.

runs/NAME/
  config.toml      all settings
  metrics.json     all measurements so far, replaced whole after each task; `complete` after the last
  scenario.json    the scenario of a run that was given as an object
  events.jsonl     everything that happened, with the time
  memory.zarr      the replay memory of methods that replay
  checkpoints/     at most two; after the last task one, without an optimiser
  .lock            empty; locked by the process that trains, among all machines that see the folder
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vclimb.memory.store.stored_class import MEMORY_NAME
from vclimb.pipeline.errors import TargetError
from vclimb.pipeline.system.digest import cached_sha256
from vclimb.pipeline.system.durable import draft_of, replace_file
from vclimb.pipeline.system.folders import held_file, make_folder, writable
from vclimb.pipeline.system.paths import local_path
from vclimb.pipeline.system.sealed_json import sealed
from vclimb.scenario.api import Scenario
from vclimb.settings import Table, changes_no_result, flat, read_table
from vclimb.training.config import RunConfig, make_config
from vclimb.training.run_metrics import RunMetrics

CONFIG = "config.toml"
METRICS = "metrics.json"
EVENTS = "events.jsonl"
SCENARIO = "scenario.json"
TENSORBOARD = "tensorboard"
LOCK = ".lock"

FILES = ("model.weights", "scenario.file")
"""Settings that may name a file. Such files are compared by their content, not by their path."""


class RunFolder:
    """Folder of a run."""

    def __init__(self, path: Path | str) -> None:
        self.path = local_path(path)
        self.memory = self.path / MEMORY_NAME
        self.checkpoints = self.path / "checkpoints"

    @property
    def exists(self) -> bool:
        return (self.path / CONFIG).exists()

    def config(self) -> RunConfig:
        return make_config(self.table())

    def table(self) -> Table:
        """Read the settings as nested tables of plain values."""
        return read_table(self.path / CONFIG)

    def metrics(self) -> RunMetrics | None:
        """Read the metrics, as `RunMetrics.load` does; None before the first task's end."""
        try:
            return RunMetrics.load(self.path / METRICS)
        except FileNotFoundError:
            return None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock the folder for this process, unless it holds other files.

        The lock ends with the process, even if that is killed.
        """
        make_folder(self.path)
        self._check_files()
        busy = f"another run is training in {self.path}; wait for it to end, or choose another folder"
        with held_file(self.path / LOCK, busy):
            yield

    def check(self, resume: bool) -> None:
        """Refuse a folder that can take no run, without making or locking it; errors are TargetErrors."""
        if self.path.exists():
            if not self.path.is_dir():
                raise TargetError(f"{self.path} is a file, and a run needs a folder; choose another place")
            self._check_files()
        if self.exists and not resume:
            raise TargetError(self._is_begun)

    def _check_files(self) -> None:
        drafts = {draft_of(self.path / name).name for name in (CONFIG, METRICS)}  # left by a killed run
        with writable(self.path):
            foreign = sorted(set(os.listdir(self.path)) - drafts - {SCENARIO, LOCK})
        if foreign and not self.exists:
            raise TargetError(
                f"{self.path} holds files that are not a run ({foreign[0]!r} and {len(foreign) - 1} more); choose "
                "an empty or a new folder"
            )

    @property
    def _is_begun(self) -> str:
        return f"{self.path} holds a run already; go on with it by --resume, or choose another folder"

    def save_scenario(self, scenario: Scenario) -> Path:
        """Save a scenario in the folder, for settings to name; another one there is a TargetError."""
        path = self.path.absolute() / SCENARIO
        if not path.exists():
            with writable(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
            scenario.save(path)
        elif Scenario.open(path) != scenario:
            raise TargetError(f"{self.path} holds another scenario; give it the same one, or choose another folder")
        return path

    def begin(self, config: RunConfig, resume: bool) -> None:
        """Write the settings of a new run, or check that they are those of the run in the folder.

        A setting may name a file by another path than before, as long as both files exist and have the same content.
        """
        if not self.exists:
            with writable(self.path):
                replace_file(self.path / CONFIG, config.to_toml().encode())
            return
        if not resume:
            raise TargetError(self._is_begun)
        before, now = flat(self.config().to_table()), flat(config.to_table())
        changed = [
            f"{name} is {before.get(name, 'not set')!r} there and {now.get(name, 'not set')!r} now"
            for name in sorted(before.keys() | now.keys())
            if not changes_no_result(name) and not _is_same(name, before.get(name), now.get(name))
        ]
        if changed:
            raise TargetError(
                f"{self.path} holds a run with other settings: {'; '.join(changed)}. Resume it without changing them, "
                "or choose another folder"
            )

    def follow_files(self, config: RunConfig) -> None:
        """Change the paths of the files that a run's settings name. The caller has compared their content."""
        begun = self.config()
        model = begun.model.replaced(weights=config.model.weights)
        scenario = begun.scenario.replaced(file=config.scenario.file)
        moved = begun.replaced(model=model, scenario=scenario)
        if moved != begun:
            with writable(self.path):
                replace_file(self.path / CONFIG, moved.to_toml().encode())

    def write_metrics(self, metrics: RunMetrics) -> None:
        text = json.dumps(sealed(metrics.to_json()), indent=1, allow_nan=False)
        with writable(self.path):
            replace_file(self.path / METRICS, text.encode())


def file_digest(path: Any) -> str | None:
    """Compute the SHA-256 of a file that a setting names; None where the setting names no file."""
    if not isinstance(path, str) or not Path(path).is_file():
        return None
    return cached_sha256(path)


def _is_same(setting: str, before: Any, now: Any) -> bool:
    if before == now or setting not in FILES:
        return bool(before == now)
    content = file_digest(before)
    return content is not None and content == file_digest(now)
