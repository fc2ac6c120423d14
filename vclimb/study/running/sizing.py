"""How many runs a GPU takes at a time: a rule over what was measured while some of them ran."""

from __future__ import annotations

from dataclasses import dataclass

MEMORY_MARGIN = 1.2
"""Memory that is planned for a run, as a multiple of the largest that a run took so far: later tasks may take more."""
LEAST_IDLE = 0.15
"""Share of the time that a GPU must be idle before it gets another run."""
LEAST_GAIN = 1.1
"""Ratio by which another run must raise the total rate before one more is tried."""


@dataclass(frozen=True)
class Measured:
    """What was measured while a number of runs shared a GPU.

    Attributes:
        runs: Number of runs at a time.
        limit: Largest number that the cores and the runs of the study allow.
        idle: Share of the time in which the GPU computed nothing.
        run_bytes: Largest GPU memory of a run so far.
        other_bytes: GPU memory that others took before the first run.
        total_bytes: Memory of the GPU.
        rate: Training clips a second of all runs together.
        rate_before: The same with one run fewer; None: not measured, as with one run.
    """

    runs: int
    limit: int
    idle: float
    run_bytes: float
    other_bytes: float
    total_bytes: float
    rate: float
    rate_before: float | None = None

    @property
    def another_fits(self) -> bool:
        """Whether the GPU's memory allows another run, with the margin."""
        return self.other_bytes + (self.runs + 1) * self.run_bytes * MEMORY_MARGIN <= self.total_bytes

    def __str__(self) -> str:
        used = (self.other_bytes + self.runs * self.run_bytes) / 1e9
        return f"idle {self.idle:.0%}, {used:.1f} of {self.total_bytes / 1e9:.0f} GB, {self.rate:.0f} clips/s"


@dataclass(frozen=True)
class Decision:
    """Number of runs at a time from now on.

    Attributes:
        is_final: Whether nothing is to be measured any more.
        reason: Reason of the number, as a part of a sentence.
    """

    runs: int
    is_final: bool
    reason: str


def decide(measured: Measured) -> Decision:
    """Add a run if memory, cores, the GPU's idle time and the gain of the last one allow it.

    One run more than now at most, and never more than the memory allows; one fewer where the last one has lowered the
    total rate.
    """
    runs, before = measured.runs, measured.rate_before
    if before is not None and measured.rate < LEAST_GAIN * before:
        change = f"the last one changed {before:.0f} clips/s to {measured.rate:.0f}, a gain below {LEAST_GAIN - 1:.0%}"
        return Decision(runs - (measured.rate < before and runs > 1), True, change)
    if runs >= measured.limit:
        return Decision(runs, True, f"{measured}; the cores and the runs of the study allow no more")
    if not measured.another_fits:
        return Decision(runs, True, f"{measured}; its memory may not hold another")
    if measured.idle < LEAST_IDLE:
        return Decision(runs, True, f"{measured}; idle less than {LEAST_IDLE:.0%}")
    return Decision(runs + 1, False, f"{runs} before: {measured}")
