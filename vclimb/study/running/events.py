"""Share of a run that is done, from the events that it writes, and the time that is left."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# Share of a task that its epochs take; the rest is the memory and the evaluation.
_TRAINING = 0.9
# Share of one run that must be done before the time left is estimated.
_ENOUGH = 0.05


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
    """Share of a run that is done when it writes an event; 0 for events that don't tell."""
    if event.get("event") == "complete":
        return 1.0
    try:
        done = {"task": 0.0, "evaluated": 1.0, "epoch": 0.0}[event["event"]]
        if event["event"] == "epoch":
            done = _TRAINING * (event["epoch"] + 1) / event["epochs"]
        return float((event["task"] + done) / event["n_tasks"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return 0.0


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
