"""The folder of a run: settings, metrics, events, memory and checkpoints. A study reads nothing else.

runs/NAME/
  config.toml      all settings
  metrics.json     what is known so far, replaced whole after each task; `complete` after the last
  events.jsonl     what happened when
  memory.zarr      the replay memory, of methods that replay
  checkpoints/     at most two; after the last task the model alone
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vclimb.pipeline.errors import TargetError
from vclimb.pipeline.system.digest import cached_sha256
from vclimb.pipeline.system.durable import draft_of, replace_file
from vclimb.pipeline.system.folders import held_folder, writable
from vclimb.settings import changes_no_result, flat
from vclimb.training.config import RunConfig, read_config
from vclimb.training.run_metrics import RunMetrics

CONFIG = "config.toml"
METRICS = "metrics.json"
EVENTS = "events.jsonl"
MEMORY = "memory.zarr"
CHECKPOINTS = "checkpoints"
TENSORBOARD = "tensorboard"

FILES = ("model.weights", "scenario.file")
"""Settings that may name a file: it counts by its content, wherever it lies."""


class RunFolder:
    """A run's folder.

    Args:
        path: of it.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @property
    def memory(self) -> Path:
        return self.path / MEMORY

    @property
    def checkpoints(self) -> Path:
        return self.path / CHECKPOINTS

    @property
    def exists(self) -> bool:
        """Whether a run was begun here."""
        return (self.path / CONFIG).exists()

    def config(self) -> RunConfig:
        """The settings of the run.

        Raises:
            SettingsError: there is no run, or its settings are damaged.
        """
        return read_config(self.path / CONFIG)

    def metrics(self) -> RunMetrics | None:
        """Read the metrics; None before the first task's end.

        Raises:
            DatasetError: the file is damaged.
        """
        try:
            return RunMetrics.load(self.path / METRICS)
        except FileNotFoundError:
            return None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for this process; the lock ends with the process, however that ends.

        Raises:
            TargetBusyError: another process trains in it.
            TargetError: it can't be made, or holds something else.
        """
        with held_folder(self.path, "another run is training in"):
            drafts = {draft_of(self.path / name).name for name in (CONFIG, METRICS)}  # of a run that was killed
            foreign = sorted(set(os.listdir(self.path)) - drafts)
            if foreign and not self.exists:
                raise TargetError(
                    f"{self.path} holds files that are not a run ({foreign[0]!r} and {len(foreign) - 1} more); choose "
                    "an empty or a new folder"
                )
            yield

    def begin(self, config: RunConfig, resume: bool) -> None:
        """Write the settings of a new run, or check that they are those of the one that is there.

        A file may go by another path by then, as long as the one that the run was begun with has the same content.

        Raises:
            TargetError: there is a run already, and it isn't to be resumed; or its settings differ.
        """
        if not self.exists:
            with writable(self.path):
                replace_file(self.path / CONFIG, config.to_toml().encode())
            return
        if not resume:
            raise TargetError(f"{self.path} holds a run already; go on with it by --resume, or choose another folder")
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
        """Let a run go on with files where they lie now. The caller knows that they are those it was begun with.

        Raises:
            SettingsError: there is no run, or its settings are damaged.
        """
        begun = self.config()
        model = begun.model.replaced(weights=config.model.weights)
        scenario = begun.scenario.replaced(file=config.scenario.file)
        moved = begun.replaced(model=model, scenario=scenario)
        if moved != begun:
            with writable(self.path):
                replace_file(self.path / CONFIG, moved.to_toml().encode())

    def write_metrics(self, metrics: RunMetrics) -> None:
        """Replace the metrics atomically."""
        text = json.dumps(metrics.to_json(), indent=1)
        with writable(self.path):
            replace_file(self.path / METRICS, text.encode())


def file_digest(path: Any) -> str | None:
    """SHA-256 of a file that a setting names; None where there is none."""
    if not isinstance(path, str) or not Path(path).is_file():
        return None
    return cached_sha256(path)


def _is_same(setting: str, before: Any, now: Any) -> bool:
    if before == now or setting not in FILES:
        return bool(before == now)
    content = file_digest(before)
    return content is not None and content == file_digest(now)
