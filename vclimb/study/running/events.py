"""How much of a run is done, from the events that it writes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# Of a task's share: its epochs; the rest is the memory and the evaluation.
_TRAINING = 0.9
# So much of a run must be done before the time that is left is told.
_ENOUGH = 0.05


class EventTail:
    """Reads a run's `events.jsonl` as it grows.

    Args:
        path: of the file; it need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""
        self._share = 0.0

    def share_done(self) -> float:
        """The share of the run that is done, 0 to 1; never less than it was."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                new = file.read()
        except OSError:
            return self._share
        self._offset += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                self._share = max(self._share, _share(event))
        return self._share


def _share(event: dict[str, Any]) -> float:
    """The share of a run that is done when an event is written; 0 where it doesn't say."""
    try:
        kind, n_tasks = event["event"], float(event.get("n_tasks") or 0)
        if kind == "complete":
            return 1.0
        if kind == "task":
            return float(event["task"]) / n_tasks
        if kind == "epoch":
            return (float(event["task"]) + _TRAINING * (float(event["epoch"]) + 1) / float(event["epochs"])) / n_tasks
        if kind == "evaluated":
            return (float(event["task"]) + 1) / n_tasks
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        pass
    return 0.0


class TimeLeft:
    """How long a study will take on, from how much of its runs was done since this command began.

    Args:
        now: a clock, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._began = now()
        self._before: dict[str, float] = {}

    def seconds(self, shares: Mapping[str, float]) -> float | None:
        """Until the last run ends; None before enough is done to tell.

        Args:
            shares: run -> the share that is done; 0: not begun. What was done before this command doesn't count.
        """
        for run, share in shares.items():
            if share > 0:
                self._before.setdefault(run, share if share < 1 else 0.0)
        done = sum(share - self._before.get(run, 0.0) for run, share in shares.items())
        if done < _ENOUGH:
            return None
        left = sum(1 - share for share in shares.values())
        return (self._now() - self._began) * left / done
