"""What happens in a run, as `events.jsonl` in its folder holds it. Reading events loads no torch.

Lines hold no digest, unlike the files that results rest on: a line is appended while the run trains, people read and
grep them, and only a display of progress is computed from them. All figures are in `metrics.json`, which has a digest.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from vclimb.pipeline.errors import DatasetError
from vclimb.pipeline.system.validation import first_problem
from vclimb.training.figures import Change, Count, Fraction, Phases, Seconds, Text
from vclimb.training.run_metrics import MemoryFacts

_MAX_LINE = 64 * 2**20  # bytes; the line of a task holds the names of its classes
_MAX_SHOWN = 300  # characters of a message

Sentences = Annotated[str, Field(max_length=10**6)]


class _Values(TypedDict):
    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)  # type: ignore[misc]


class RunBegins(_Values):
    """`run`: a run begins, or is resumed from a checkpoint; `n_classes` of all tasks, `device` of the first process."""

    resumed: bool
    method: Text
    n_tasks: Count
    n_classes: Count
    processes: Count
    device: Text


class TaskBegins(_Values):
    """`task`: a task begins, or what a checkpoint left of it; names of the task's `classes`."""

    task: Count
    n_tasks: Count
    classes: list[Text]


class DecodedAhead(_Values):
    """`decoded_ahead`: exemplars whose codec is slow to decode were decoded before training; `cost` is a sentence."""

    cost: Sentences
    seconds: Seconds


class DecoderChosen(_Values):
    """`decoder`: a task's clips get a decoder; `reason` of the choice."""

    task: Count
    decoder: Text
    reason: Sentences


class KernelsChosen(_Values):
    """`kernels`: on a GPU, which kernels compute a task's batch normalisations and depthwise convolutions."""

    task: Count
    text: Sentences


class StepGraphDecided(_Values):
    """`step_graph`: on a GPU, it is known whether a task's steps are replayed as a CUDA graph, and why."""

    task: Count
    replayed: bool
    reason: Sentences


class BeginningUsed(_Values):
    """`beginning`: the training of the first task was taken from a beginning, or was kept as one; `text` says how.

    Attributes:
        name: Name of the beginning's file, without suffix.
        use: `taken`; `kept`; `refused`, as it is damaged; or `not kept`, as it can't be written.
    """

    name: Text
    use: Literal["taken", "kept", "refused", "not kept"]
    text: Sentences


class FirstStep(_Values):
    """`first_step`: the first training step of a task begins."""

    task: Count


class Started(_Values):
    """`started`: the process has ended its first training step; what the wall time since the call was spent on.

    Attributes:
        seconds: Part, as `vclimb.training.start.PARTS` lists them -> wall time.
    """

    seconds: Phases


class Trained(_Values):
    """`trained`: clips that were trained since the last such event of the task, and the wall time without checkpoints.

    Written every ten seconds, and at the end of a task's training. The task's first step isn't counted.
    """

    task: Count
    clips: Count
    seconds: Seconds


class EpochEnds(_Values):
    """`epoch`: an epoch has ended.

    Attributes:
        epochs: Number of epochs of the task.
        epochs_before: Number of epochs of all earlier tasks.
        losses: Term of the loss -> mean over the epoch's clips.
        learning_rate: Learning rate at the epoch's end.
        seconds: Wall time without checkpoints.
    """

    task: Count
    n_tasks: Count
    epoch: Count
    epochs: Count
    epochs_before: Count
    losses: dict[Text, float]
    learning_rate: Annotated[float, Field(ge=0)]
    seconds: Seconds


class EpochMeasured(_Values):
    """`measured`: an epoch was measured to select the best one; a resumed run may measure an epoch again.

    Attributes:
        split: Split that was measured.
        score: Accuracy on all tasks so far, by which epochs are compared.
    """

    task: Count
    epoch: Count
    split: Text
    score: Fraction


class TaskEvaluated(_Values):
    """`evaluated`: a task has ended, and all tasks so far were evaluated.

    Attributes:
        accuracies: Accuracy on each task learned.
        memory: Size of the memory; None for a method without memory.
        seconds: Phase -> wall time.
    """

    task: Count
    n_tasks: Count
    acc: Fraction
    bwf: Change
    average_incremental_accuracy: Fraction
    accuracies: list[Fraction]
    memory: MemoryFacts | None
    seconds: Phases


class PilotEnds(_Values):
    """`pilot`: a pilot has chosen how exemplars are encoded; `text` says what and why."""

    text: Sentences


class Warned(_Values):
    """`warning`: something may not be as the user meant it."""

    text: Sentences


class RunCompletes(_Values):
    """`complete`: the last task has ended."""

    acc: Fraction
    bwf: Change


_KINDS: Mapping[str, type[Any]] = {
    "run": RunBegins,
    "task": TaskBegins,
    "decoded_ahead": DecodedAhead,
    "decoder": DecoderChosen,
    "kernels": KernelsChosen,
    "step_graph": StepGraphDecided,
    "beginning": BeginningUsed,
    "first_step": FirstStep,
    "started": Started,
    "trained": Trained,
    "epoch": EpochEnds,
    "measured": EpochMeasured,
    "pilot": PilotEnds,
    "evaluated": TaskEvaluated,
    "warning": Warned,
    "complete": RunCompletes,
}
_ADAPTERS: Mapping[str, TypeAdapter[Any]] = {kind: TypeAdapter(values) for kind, values in _KINDS.items()}
_TIME = TypeAdapter(Annotated[float, Field(ge=0, le=1e12)])


def _now() -> float:
    return round(time.time(), 3)


@dataclass(frozen=True)
class Event:
    """Something that happened in a run.

    The classes above describe the kinds and their values. Tasks and epochs are numbered from 0, and `n_tasks` is the
    number of tasks of the scenario.

    Attributes:
        kind: Name of the kind of event, `event` in the file.
        values: Name -> value, as JSON has it.
        time: Seconds since 1970.
    """

    kind: str
    values: Mapping[str, Any]
    time: float = field(default_factory=_now)

    def to_json(self) -> dict[str, Any]:
        """Convert to a line of `events.jsonl`."""
        return {"event": self.kind, "time": self.time, **self.values}

    @classmethod
    def parse(cls, line: bytes) -> Event:
        """Parse a line of `events.jsonl`.

        Raises:
            ValueError: the line is no event; the message says why.
        """
        try:
            table = json.loads(line)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        if not isinstance(table, dict):
            raise ValueError("a line has to be a JSON object")
        kind = table.pop("event", None)
        if not isinstance(kind, str) or kind not in _KINDS:
            raise ValueError(f"no kind of event is named {str(kind)[:_MAX_SHOWN]!r}")
        try:
            moment = _TIME.validate_python(table.pop("time", None))
            _ADAPTERS[kind].validate_json(json.dumps(table))
        except ValidationError as error:
            raise ValueError(f"{kind}: {first_problem(error)[:_MAX_SHOWN]}") from None
        return cls(kind, table, moment)


def read_events(path: Path) -> list[Event]:
    """Read `events.jsonl`, oldest event first; empty where there is no file.

    A last line without an end is passed over: a killed run may leave half a line.

    Raises:
        DatasetError: another line is no event.
    """
    if not path.exists():
        return []
    if not path.is_file():
        raise DatasetError(f"{path} is not a regular file; remove it, a run goes on without it")
    events = []
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(_MAX_LINE):
                number += 1
                if not line.endswith(b"\n") and len(line) < _MAX_LINE:
                    break
                events.append(Event.parse(line))
    except OSError as error:
        raise DatasetError(f"{path} can't be read: {error.strerror}") from None
    except ValueError as error:
        raise DatasetError(
            f"{path}, line {number} is damaged: {error}; remove the line, nothing that a run needs is in it"
        ) from None
    return events
