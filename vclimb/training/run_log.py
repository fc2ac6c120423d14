"""What a run tells while it goes on: a file of events, TensorBoard, Weights & Biases, a progress bar."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.system.folders import writable


class RunLog:
    """Takes what a run tells, and does nothing with it; the others extend it."""

    def event(self, event: str, **facts: Any) -> None:
        """Something happened; facts are plain values.

        Events: `run` (begun or resumed), `task`, `first_step` (of a task's training), `epoch`, `phase` (ended, with its
        seconds), `evaluated`, `checkpoint`, `warning`, `complete`.
        """

    def advance(self, what: str, done: int, total: int) -> None:
        """So much of what is being done now is done; called often, not written down."""

    def close(self) -> None:
        """Write what is still held back."""


class Logs(RunLog):
    """Several logs as one."""

    def __init__(self, logs: Sequence[RunLog]) -> None:
        self._logs = tuple(logs)

    def event(self, event: str, **facts: Any) -> None:
        for log in self._logs:
            log.event(event, **facts)

    def advance(self, what: str, done: int, total: int) -> None:
        for log in self._logs:
            log.advance(what, done, total)

    def close(self) -> None:
        for log in self._logs:
            log.close()


class EventFile(RunLog):
    """`events.jsonl`: a JSON object a line, with `event` and `time` (seconds since 1970); only ever appended to."""

    def __init__(self, path: Path) -> None:
        self._folder = path.parent
        with writable(self._folder):
            _end_line(path)
            self._file: TextIO = path.open("a", encoding="utf-8")

    def event(self, event: str, **facts: Any) -> None:
        line = json.dumps({"event": event, "time": round(time.time(), 3), **facts}, ensure_ascii=False)
        with writable(self._folder):
            self._file.write(line + "\n")
            self._file.flush()

    def close(self) -> None:
        self._file.close()


class TensorBoardLog(RunLog):
    """Scalars for TensorBoard: the loss of each epoch, accuracies after each task, and the memory's size.

    Raises:
        SettingsError: the package isn't installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise SettingsError(
                "log.tensorboard needs the package tensorboard; pip install 'vclimb[tensorboard]', or leave it off"
            ) from None
        self._writer = SummaryWriter(str(folder))

    def event(self, event: str, **facts: Any) -> None:
        for name, (value, step) in scalars_of(event, facts).items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class WandbLog(RunLog):
    """The same for Weights & Biases, under one run that resuming continues.

    Raises:
        SettingsError: the package isn't installed, or can't begin the run: nobody is logged in, say.
    """

    def __init__(self, project: str, folder: Path, settings: dict[str, Any]) -> None:
        try:
            import wandb
        except ImportError:
            raise SettingsError(
                "log.wandb needs the package wandb; pip install 'vclimb[wandb]', or leave it off"
            ) from None
        # The folder's own name and place make the id: resuming goes on with it.
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

    def event(self, event: str, **facts: Any) -> None:
        values = scalars_of(event, facts)
        if values:
            step = next(iter(values.values()))[1]
            self._run.log({**{name: value for name, (value, _) in values.items()}, f"{event}_step": step})

    def close(self) -> None:
        self._run.finish()


def scalars_of(event: str, facts: dict[str, Any]) -> dict[str, tuple[float, int]]:
    """Name -> (value, step) of what can be drawn of an event: epochs by their number over all tasks, else tasks."""
    if event == "epoch":
        step = int(facts["epochs_before"]) + int(facts["epoch"])
        terms = {f"loss/{name}": (float(value), step) for name, value in facts["losses"].items()}
        return {**terms, "learning_rate": (float(facts["learning_rate"]), step)}
    if event == "evaluated":
        step = int(facts["task"])
        names = ("acc", "bwf", "average_incremental_accuracy")
        found = {f"after_task/{name}": (float(facts[name]), step) for name in names if facts.get(name) is not None}
        memory = facts.get("memory") or {}
        return found | {f"memory/{name}": (float(memory[name]), step) for name in memory if memory[name] is not None}
    return {}


def _end_line(path: Path) -> None:
    """End a line that a killed run left half written."""
    if path.exists() and path.stat().st_size:
        with path.open("rb+") as file:
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")
