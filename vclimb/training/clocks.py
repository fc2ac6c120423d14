"""Where the time of a run goes: wall time by phase, and how long the GPU had nothing to do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class PhaseClock:
    """Seconds of wall time by phase; a run that was resumed adds up what its parts took.

    Attributes:
        seconds: phase -> seconds.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what happens within to a phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start)

    def add(self, name: str, seconds: float) -> None:
        """Count seconds to a phase."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds


class IdleClock:
    """How much of training the process waits for clips, and the GPU for work.

    The GPU's share comes from events between steps: it is what lies between the end of one step and the begin of the
    next. What is idle within a step, while kernels are launched, isn't seen.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self.wait_seconds = 0.0
        self.total_seconds = 0.0
        self.gpu_busy_seconds = 0.0
        self.gpu_seconds = 0.0

    def waited(self, seconds: float) -> None:
        """The process has waited so long for a batch."""
        self.wait_seconds += seconds

    @contextmanager
    def step(self) -> Iterator[None]:
        """A training step."""
        if not self._on_gpu:
            yield
            return
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        yield
        end.record()
        self._events.append((start, end))

    def end_epoch(self, seconds: float) -> None:
        """An epoch has taken so long; waits for the GPU."""
        self.total_seconds += seconds
        if self._events:
            self._events[-1][1].synchronize()
            self.gpu_busy_seconds += sum(start.elapsed_time(end) for start, end in self._events) / 1000
            self.gpu_seconds += self._events[0][0].elapsed_time(self._events[-1][1]) / 1000
            self._events.clear()

    @property
    def loader_wait_share(self) -> float | None:
        """Of training's wall time, how much the process waited for clips; None before the first epoch's end."""
        return self.wait_seconds / self.total_seconds if self.total_seconds else None

    @property
    def gpu_idle_share(self) -> float | None:
        """Of training's time on the GPU, how much lay between steps; None without a GPU."""
        return max(0.0, 1 - self.gpu_busy_seconds / self.gpu_seconds) if self.gpu_seconds else None
