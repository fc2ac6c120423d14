"""What happens in a run, as `events.jsonl` in its folder holds it: one class for each kind of event.

Reading events loads no torch.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pydantic import TypeAdapter

from vclimb.training.run_metrics import MemoryFacts, Number


def _now() -> float:
    return round(time.time(), 3)


@dataclass(frozen=True)
class Event:
    """Something that happened.

    Attributes:
        kind: Name of the kind of event, `event` in the file.
        time: Seconds since 1970.
    """

    kind: ClassVar[str]
    time: float = field(default_factory=_now, kw_only=True)

    def to_json(self) -> dict[str, Any]:
        """Convert to a line of `events.jsonl`."""
        values = _ADAPTERS[self.kind].dump_python(self, mode="json")
        return {"event": self.kind, "time": self.time, **values}


@dataclass(frozen=True)
class RunBegun(Event):
    """A run begins or is resumed.

    Attributes:
        resumed: Whether a checkpoint was found.
        method: Name of the method.
        n_tasks: Number of tasks of the scenario.
        n_classes: Number of classes of all tasks.
        processes: Number of processes.
        device: Device of the first process.
    """

    kind: ClassVar[str] = "run"
    resumed: bool
    method: str
    n_tasks: int
    n_classes: int
    processes: int
    device: str


@dataclass(frozen=True)
class TaskBegun(Event):
    """A task begins, or what a checkpoint left of it.

    Attributes:
        task: Number of the task, from 0.
        n_tasks: Number of tasks of the scenario.
        classes: Names of the task's classes.
    """

    kind: ClassVar[str] = "task"
    task: int
    n_tasks: int
    classes: tuple[str, ...]


@dataclass(frozen=True)
class ExemplarsDecoded(Event):
    """Exemplars whose codec is slow to decode were decoded ahead of the training.

    Attributes:
        cost: Sentence that says what it cost.
        seconds: Wall time.
    """

    kind: ClassVar[str] = "decoded_ahead"
    cost: str
    seconds: float


@dataclass(frozen=True)
class DecoderChosen(Event):
    """A task's clips get a decoder.

    Attributes:
        task: Number of the task, from 0.
        decoder: Name of the decoder.
        reason: Reason of the choice.
    """

    kind: ClassVar[str] = "decoder"
    task: int
    decoder: str
    reason: str


@dataclass(frozen=True)
class FirstStep(Event):
    """The first training step of a task begins.

    Attributes:
        task: Number of the task, from 0.
    """

    kind: ClassVar[str] = "first_step"
    task: int


@dataclass(frozen=True)
class EpochEnded(Event):
    """An epoch has ended.

    Attributes:
        task: Number of the task, from 0.
        n_tasks: Number of tasks of the scenario.
        epoch: Number of the epoch within the task, from 0.
        epochs: Number of epochs of the task.
        epochs_before: Number of epochs of all earlier tasks.
        losses: Term of the loss -> mean over the epoch's clips.
        learning_rate: Learning rate at the end of the epoch.
        seconds: Wall time without checkpoints.
    """

    kind: ClassVar[str] = "epoch"
    task: int
    n_tasks: int
    epoch: int
    epochs: int
    epochs_before: int
    losses: Mapping[str, float]
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class TaskEvaluated(Event):
    """A task has ended, and all tasks so far were evaluated.

    Attributes:
        task: Number of the task, from 0.
        n_tasks: Number of tasks of the scenario.
        acc: Mean accuracy over the tasks learned.
        bwf: Backward forgetting.
        average_incremental_accuracy: Mean of `acc` over the tasks learned.
        accuracies: Accuracy on each task learned.
        memory: Size of the replay memory; None for a method without memory.
        seconds: Phase of the task -> wall time.
    """

    kind: ClassVar[str] = "evaluated"
    task: int
    n_tasks: int
    acc: Number
    bwf: Number
    average_incremental_accuracy: Number
    accuracies: tuple[Number, ...]
    memory: MemoryFacts | None
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class RunWarning(Event):
    """Something may not be as the user meant it.

    Attributes:
        text: The warning.
    """

    kind: ClassVar[str] = "warning"
    text: str


@dataclass(frozen=True)
class RunCompleted(Event):
    """The last task has ended.

    Attributes:
        acc: Mean accuracy over all tasks.
        bwf: Backward forgetting.
    """

    kind: ClassVar[str] = "complete"
    acc: Number
    bwf: Number


_ADAPTERS: dict[str, TypeAdapter[Any]] = {kind.kind: TypeAdapter(kind) for kind in Event.__subclasses__()}


def read_events(path: Path) -> list[Event]:
    """Read `events.jsonl`, oldest event first; empty where there is no file.

    Lines that are no event are passed over: a killed run may leave half a line.
    """
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return [event for line in lines if (event := _parsed(line)) is not None]


def _parsed(line: str) -> Event | None:
    event: Event
    try:
        table = json.loads(line)
        event = _ADAPTERS[table.pop("event")].validate_python(table)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return event
