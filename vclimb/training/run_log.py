"""Logs of a run: the file of events, TensorBoard, and Weights & Biases."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.system.folders import writable
from vclimb.training.events import Event

_BLOCK = 1 << 16


class RunLog:
    """Passes on what happens in a run to other logs, which extend this class."""

    _logs: Sequence[RunLog] = ()

    def __init__(self, *logs: RunLog) -> None:
        self._logs = logs

    def event(self, kind: str, **values: Any) -> None:
        """Record an event that happens now; `Event` lists kinds and values."""
        self.record(Event(kind, values))

    def record(self, event: Event) -> None:
        for log in self._logs:
            log.record(event)

    def advance(self, what: str, done: int, total: int) -> None:
        """Show how much of the current work is done. Called often and never written down."""
        for log in self._logs:
            log.advance(what, done, total)

    def close(self) -> None:
        """Write what is still held back."""
        for log in self._logs:
            log.close()


class EventFile(RunLog):
    """`events.jsonl`: a JSON object a line, only ever appended to. A line is written whole or not at all."""

    def __init__(self, path: Path) -> None:
        self._folder = path.parent
        with writable(self._folder):
            self._file = path.open("ab", buffering=0)
            _cut_half_line(path)

    def record(self, event: Event) -> None:
        line = json.dumps(event.to_json(), ensure_ascii=False, allow_nan=False).encode() + b"\n"
        with writable(self._folder):
            end = self._file.seek(0, os.SEEK_END)
            try:
                while line:
                    line = line[self._file.write(line) :]
            except OSError:
                self._file.truncate(end)
                raise

    def close(self) -> None:
        self._file.close()


class TensorBoardLog(RunLog):
    """Scalars for TensorBoard: the loss of each epoch, accuracies after each task, and the size of the memory."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise SettingsError(
                "log.tensorboard needs the package tensorboard; pip install 'vclimb[tensorboard]', or leave it off"
            ) from None
        self._folder = folder
        with writable(folder):
            self._writer = SummaryWriter(str(folder))

    def record(self, event: Event) -> None:
        with writable(self._folder):
            for name, (value, step) in scalars_of(event).items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        with writable(self._folder):
            self._writer.close()


class WandbLog(RunLog):
    """Scalars for Weights & Biases, under one run that resuming continues."""

    def __init__(self, project: str, folder: Path, settings: dict[str, Any]) -> None:
        try:
            import wandb
        except ImportError:
            raise SettingsError(
                "log.wandb needs the package wandb; pip install 'vclimb[wandb]', or leave it off"
            ) from None
        # The folder's name and place make the id, so that a resumed run continues the same one.
        digest = hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:8]
        run_id = f"{folder.name}-{digest}"
        try:
            self._run = wandb.init(
                project=project, name=folder.name, id=run_id, resume="allow", dir=str(folder), config=settings
            )
        except wandb.errors.Error as error:
            raise SettingsError(
                f"log.wandb {project!r}: {' '.join(str(error).split())}; log in (`wandb login`), keep the run here by "
                "WANDB_MODE=offline, or leave log.wandb off"
            ) from None

    def record(self, event: Event) -> None:
        scalars = scalars_of(event)
        if scalars:
            step = next(iter(scalars.values()))[1]
            self._run.log({**{name: value for name, (value, _) in scalars.items()}, f"{event.kind}_step": step})

    def close(self) -> None:
        self._run.finish()


def scalars_of(event: Event) -> dict[str, tuple[float, int]]:
    """Map names of curves to (value, step). Steps are epochs counted over all tasks, or else tasks."""
    values = event.values
    if event.kind == "epoch":
        step = values["epochs_before"] + values["epoch"]
        terms = {f"loss/{name}": (value, step) for name, value in values["losses"].items()}
        return {**terms, "learning_rate": (values["learning_rate"], step)}
    if event.kind == "evaluated":
        figures = {f"after_task/{name}": values[name] for name in ("acc", "bwf", "average_incremental_accuracy")}
        memory = dict(values["memory"] or {})
        parts = memory.pop("parts", {})
        figures |= {f"memory/{name}": value for name, value in memory.items()}
        figures |= {f"memory/{part}_bytes": n_bytes for part, n_bytes in parts.items()}
        return {name: (float(value), values["task"]) for name, value in figures.items() if value is not None}
    return {}


def _cut_half_line(path: Path) -> None:
    """Cut off a last line that a killed run left half written, so that every line is an event."""
    with path.open("rb+") as file:
        position = file.seek(0, os.SEEK_END)
        line_end = -1
        while position and line_end < 0:
            start = max(0, position - _BLOCK)
            file.seek(start)
            line_end = file.read(position - start).rfind(b"\n")
            position = start
        file.truncate(position + line_end + 1)
