"""Search for the number of runs that a GPU takes at a time, while they run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vclimb.pipeline.errors import SettingsError
from vclimb.study.running.events import EventTail, RateTail, Trained
from vclimb.study.running.executor import RunJob
from vclimb.study.running.gpu_readings import GpuReading
from vclimb.study.running.sizing import Decision, Measured, decide
from vclimb.training.run_folder import EVENTS

_TOLERANCE = 1.0  # seconds between an event and the look that finds it


@dataclass(frozen=True)
class Pace:
    """How long a number of runs is measured, in seconds while all of them train.

    Attributes:
        measure: Time after which the next number is decided.
        least: Time that is enough where a run has ended.
        settle: Time before the GPU is read, since a reading covers the last second.
    """

    measure: float = 30.0
    least: float = 10.0
    settle: float = 1.5


@dataclass
class _Level:
    """Measurements with one number of runs. All runs train during a stretch, which begins at `began`."""

    began: float | None = None
    seconds_before: float = 0.0
    has_run_ended: bool = False
    clips: int = 0
    train_seconds: float = 0.0
    idle: list[float] = field(default_factory=list)

    def seconds(self, now: float) -> float:
        return self.seconds_before + (0.0 if self.began is None else now - self.began)

    def end_stretch(self, now: float) -> None:
        self.seconds_before, self.began = self.seconds(now), None

    def add(self, trained: Sequence[Trained]) -> None:
        """Add what a run has trained while all runs did."""
        for part in trained:
            if self.began is not None and part.time - part.seconds >= self.began - _TOLERANCE:
                self.clips += part.clips
                self.train_seconds += part.seconds


class Growth:
    """Number of runs at a time of one GPU: 1 at first, and two to four times as many while that pays.

    Args:
        gpu: Name of the GPU in lines for the user.
        limit: Largest number that the cores and the runs of the study allow.
        read: Function that reads the GPU's state.
        note: Function that is told each decision as a line.
        side_by_side: Whether kernels of several runs compute at the same time.
        pace: Time for measurements.

    Attributes:
        runs: Number of runs at a time.
    """

    def __init__(
        self,
        gpu: str,
        limit: int,
        read: Callable[[], GpuReading],
        note: Callable[[str], None],
        side_by_side: bool = False,
        pace: Pace | None = None,
    ) -> None:
        self.runs = 1
        self._side_by_side = side_by_side
        self._gpu, self._limit, self._read, self._note, self._pace = gpu, limit, read, note, pace or Pace()
        self._other_bytes = read().used_bytes
        self._total_bytes = 0.0
        self._run_bytes = 0.0
        self._rate_before: float | None = None
        self._runs_before = 1
        self._is_final = limit == 1
        self._level = _Level()
        self._tails: dict[str, RateTail] = {}

    def look(self, running: Sequence[RunJob]) -> None:
        """Measure the runs of the GPU, and decide once enough is known. To be called often."""
        if self._is_final:
            return
        now, level = time.time(), self._level
        names = {job.run_id for job in running}
        for name in [*self._tails]:
            level.add(self._tails[name].new())
            if name not in names:
                del self._tails[name]
                level.has_run_ended = True
        for job in running:
            if job.run_id not in self._tails:
                self._tails[job.run_id] = RateTail(EventTail(job.study.run(job.run_id) / EVENTS), now)
        if len(running) < self.runs or not all(tail.has_started for tail in self._tails.values()):
            level.end_stretch(now)
        elif level.began is None:
            level.began = now
        try:
            if level.began is not None and now - level.began >= self._pace.settle:
                self._measure(self._read())
        except SettingsError as error:
            self._take(Decision(self.runs, True, str(error)))
            return
        least = self._pace.least if level.has_run_ended else self._pace.measure
        if level.idle and level.train_seconds and level.seconds(now) >= least:
            self._decide()

    def memory_full(self, run_id: str) -> None:
        """Lower the number of runs, as one of several has found too little memory on the GPU."""
        reason = f"run {run_id} found too little memory beside others, and is tried again alone at the end"
        self._take(Decision(max(1, self.runs - 1), True, reason))

    def _measure(self, reading: GpuReading) -> None:
        self._total_bytes = reading.total_bytes
        self._run_bytes = max(self._run_bytes, (reading.used_bytes - self._other_bytes) / self.runs)
        self._level.idle.append(reading.idle)

    def _decide(self) -> None:
        level = self._level
        measured = Measured(
            runs=self.runs,
            limit=self._limit,
            idle=sum(level.idle) / len(level.idle),
            run_bytes=self._run_bytes,
            other_bytes=self._other_bytes,
            total_bytes=self._total_bytes,
            rate=self.runs * level.clips / level.train_seconds,
            rate_before=self._rate_before,
            runs_before=self._runs_before,
            side_by_side=self._side_by_side,
        )
        self._rate_before, self._runs_before = measured.rate, self.runs
        self._take(decide(measured))

    def _take(self, decision: Decision) -> None:
        self.runs, self._is_final, self._level = decision.runs, decision.is_final, _Level()
        number = "1 run" if self.runs == 1 else f"{self.runs} runs"
        self._note(f"gpu {self._gpu}: {number} at a time{' from now on' * self._is_final}: {decision.reason}")
