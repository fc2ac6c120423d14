"""What happens in a run, as `events.jsonl` in its folder holds it. Reading events loads no torch."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def _now() -> float:
    return round(time.time(), 3)


@dataclass(frozen=True)
class Event:
    """Something that happened in a run.

    Kinds of events and their values, where tasks and epochs are numbered from 0, and `n_tasks` is the number of tasks
    of the scenario:

    - `run`: a run begins, or is `resumed` from a checkpoint. `method`, `n_tasks`, `n_classes` of all tasks, number of
      `processes`, `device` of the first process.
    - `task`: a task begins, or what a checkpoint left of it. `task`, `n_tasks`, names of the task's `classes`.
    - `decoded_ahead`: exemplars whose codec is slow to decode were decoded ahead of the training. `cost` (a sentence),
      `seconds`.
    - `decoder`: a task's clips get a decoder. `task`, `decoder`, `reason` of the choice.
    - `first_step`: the first training step of a `task` begins.
    - `epoch`: an epoch has ended. `task`, `n_tasks`, `epoch`, `epochs` of the task, `epochs_before` (of all earlier
      tasks), `losses` (term -> mean over the epoch's clips), `learning_rate` at its end, `seconds` without checkpoints.
    - `evaluated`: a task has ended, and all tasks so far were evaluated. `task`, `n_tasks`, `acc`, `bwf`,
      `average_incremental_accuracy`, `accuracies` on each task learned, `memory` (fields of `MemoryFacts`; None for a
      method without memory), `seconds` (phase -> wall time).
    - `warning`: something may not be as the user meant it. `text`.
    - `complete`: the last task has ended. `acc`, `bwf`.

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


def read_events(path: Path) -> list[Event]:
    """Read `events.jsonl`, oldest event first; empty where there is no file.

    Lines that are no event are passed over: a killed run may leave half a line.
    """
    events = []
    for line in path.read_text("utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            table = json.loads(line)
            events.append(Event(table.pop("event"), time=table.pop("time"), values=table))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return events
