"""Clocks of a run: wall time by phase, and the time in which the GPU has nothing to compute."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class PhaseClock:
    """Wall time by phase. Resumed runs add up the time of all their parts."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start)

    def add(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds


class RateClock:
    """Clips trained since the last report, and the wall time that they took. A task's first step isn't counted."""

    def __init__(self) -> None:
        self.clips = 0
        self.seconds = 0.0
        self._mark: float | None = None

    def step(self, clips: int) -> None:
        """Count a step that has ended."""
        now = time.perf_counter()
        if self._mark is not None:
            self.clips += clips
            self.seconds += now - self._mark
        self._mark = now

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the time of a block, such as of a checkpoint."""
        begin = time.perf_counter()
        yield
        if self._mark is not None:
            self._mark += time.perf_counter() - begin

    def report(self) -> tuple[int, float]:
        """Return clips and seconds, and begin anew."""
        clips, seconds = self.clips, self.seconds
        self.clips, self.seconds = 0, 0.0
        return clips, seconds


class IdleClock:
    """Share of the training time in which the process waits for clips, and the GPU for work.

    CUDA events at the begin and end of steps give the GPU's idle time between steps. Idle time within a step, while
    kernels are launched, is not seen.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self.wait_seconds = 0.0
        self.total_seconds = 0.0
        self.gpu_busy_seconds = 0.0
        self.gpu_seconds = 0.0

    @contextmanager
    def step(self) -> Iterator[None]:
        if not self._on_gpu:
            yield
            return
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        yield
        end.record()
        self._events.append((start, end))

    def end_epoch(self, seconds: float) -> None:
        """Add the wall time of an epoch. Waits for the GPU."""
        self.total_seconds += seconds
        if self._events:
            self._events[-1][1].synchronize()
            self.gpu_busy_seconds += sum(start.elapsed_time(end) for start, end in self._events) / 1000
            self.gpu_seconds += self._events[0][0].elapsed_time(self._events[-1][1]) / 1000
            self._events.clear()

    @property
    def loader_wait_share(self) -> float | None:
        """Share of the wall time spent waiting for clips; None before the first epoch's end."""
        return self.wait_seconds / self.total_seconds if self.total_seconds else None

    @property
    def gpu_idle_share(self) -> float | None:
        """Share of the GPU's time that lies between steps; None without a GPU."""
        return max(0.0, 1 - self.gpu_busy_seconds / self.gpu_seconds) if self.gpu_seconds else None
