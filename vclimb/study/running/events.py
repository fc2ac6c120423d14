"""Share of a run that is done, from the events that it writes, and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

# Share of a task that its epochs take; the rest is the memory and the evaluation.
_TRAINING = 0.9
# Share of one run that must be done before the time left is estimated.
_ENOUGH = 0.05
# Number of bytes of events that are read at a time.
_MAX_READ = 4 * 2**20


class EventTail:
    """Reads a run's `events.jsonl` while it grows.

    Args:
        path: Path of the file, which may not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""
        self._share = 0.0

    def share_done(self) -> float:
        """Read new events, and return the share of the run that is done, from 0 to 1. It never falls."""
        for line in self.lines():
            self._share = max(self._share, _share(line))
        return self._share

    def lines(self) -> list[bytes]:
        """Read the lines that were written since the last call."""
        try:
            if not self._path.is_file():
                return []
            with self._path.open("rb") as file:
                file.seek(self._offset)
                new = file.read(_MAX_READ)
        except OSError:
            return []
        self._offset += len(new)
        *lines, rest = (self._rest + new).split(b"\n")
        self._rest = rest if len(rest) < _MAX_READ else b""  # no event that tells is as long
        return lines


class _Progress(BaseModel):
    """What an event of a run says about how much of the run is done."""

    model_config = ConfigDict(strict=True)

    event: Literal["task", "epoch", "evaluated"]
    task: int = Field(ge=0, lt=2**31)
    n_tasks: int = Field(ge=1, lt=2**31)
    epoch: int = Field(default=0, ge=0, lt=2**31)
    epochs: int = Field(default=1, ge=1, lt=2**31)

    @property
    def share(self) -> float:
        """Share of the run that is done, from 0 to 1."""
        of_task = {"task": 0.0, "evaluated": 1.0, "epoch": _TRAINING * min(1.0, (self.epoch + 1) / self.epochs)}
        return min(1.0, (self.task + of_task[self.event]) / self.n_tasks)


class _Complete(BaseModel):
    """Event that ends a run."""

    event: Literal["complete"]
    share: ClassVar[float] = 1.0


_EVENT = TypeAdapter[_Progress | _Complete](_Progress | _Complete)


def _share(line: bytes) -> float:
    """Share of a run that is done when it writes a line; 0 for lines that don't tell."""
    try:
        return _EVENT.validate_json(line).share
    except ValidationError:
        return 0.0


class Trained(BaseModel):
    """Clips that a run has trained, and the seconds that they took, up to a time in seconds since 1970."""

    model_config = ConfigDict(strict=True)

    event: Literal["trained"]
    time: float = Field(ge=0, le=1e12)
    clips: int = Field(ge=1, lt=2**63)
    seconds: float = Field(gt=0, le=1e12)


class _Started(BaseModel):
    """Event that ends the first step of a run's process."""

    event: Literal["started"]
    time: float


_RATE = TypeAdapter[Trained | _Started](Trained | _Started)


class RateTail:
    """Follows how fast a run trains.

    Args:
        since: Time before which events are those of an earlier process, in seconds since 1970.

    Attributes:
        has_started: Whether the run has trained a step.
    """

    def __init__(self, tail: EventTail, since: float) -> None:
        self._tail, self._since = tail, since
        self.has_started = False

    def new(self) -> list[Trained]:
        """Read what was trained since the last call."""
        found = []
        for line in self._tail.lines():
            try:
                event = _RATE.validate_json(line)
            except ValidationError:
                continue
            if event.time < self._since - 1:
                continue
            if isinstance(event, Trained):
                found.append(event)
            else:
                self.has_started = True
        return found


class TimeLeft:
    """Estimates the time left, from the share of the runs that was done since the estimate began.

    Args:
        now: Clock, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._began = now()
        self._shares_before: dict[str, float] = {}

    def seconds(self, shares: Mapping[str, float]) -> float | None:
        """Estimate the time until the last run ends; None while too little is done.

        Args:
            shares: Share that is done of each run; 0: not begun.
        """
        for run, share in shares.items():
            if share > 0:
                self._shares_before.setdefault(run, share if share < 1 else 0.0)
        done = sum(share - self._shares_before.get(run, 0.0) for run, share in shares.items())
        if done < _ENOUGH:
            return None
        left = sum(1 - share for share in shares.values())
        return (self._now() - self._began) * left / done
