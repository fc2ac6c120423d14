"""How many runs a GPU takes at a time: a rule over what was measured while some of them ran."""

from __future__ import annotations

from dataclasses import dataclass

MEMORY_MARGIN = 1.2
"""Memory that is planned for a run, as a multiple of the largest that a run took so far: later tasks may take more."""
LEAST_IDLE = 0.15
"""Share of the time that a GPU must be idle before it gets more runs, which take turns on it."""
MOST_FACTOR = 4
"""Largest factor of one decision, so that it rests on runs that were measured together."""
LEAST_GAIN = 1.1
"""Ratio by which more runs must raise the total rate before still more are tried."""


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
        rate_before: The same with the number of runs before; None: not measured, as with one run.
        runs_before: Number of runs before.
        side_by_side: Whether kernels of several runs compute at the same time (MPS). Then a GPU that is never idle may
            still have room.
    """

    runs: int
    limit: int
    idle: float
    run_bytes: float
    other_bytes: float
    total_bytes: float
    rate: float
    rate_before: float | None = None
    runs_before: int = 1
    side_by_side: bool = False

    @property
    def most_in_memory(self) -> float:
        """Largest number of runs that the GPU's memory allows, with the margin."""
        return max(0.0, self.total_bytes - self.other_bytes) / (MEMORY_MARGIN * max(1.0, self.run_bytes))

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
    """Raise the number of runs if memory, cores, the GPU's idle time and the gain of the last ones allow it.

    It is raised to what would keep the GPU busy by its idle time, and at least doubled. Never more than memory allows;
    as many as before where the last ones have lowered the total rate.
    """
    runs, before = measured.runs, measured.rate_before
    if before is not None and measured.rate < LEAST_GAIN * before:
        gain = f"a gain below {LEAST_GAIN - 1:.0%}"
        change = f"the step from {measured.runs_before} to {runs} changed {before:.0f} clips/s to {measured.rate:.0f}"
        return Decision(measured.runs_before if measured.rate < before else runs, True, f"{change}, {gain}")
    if runs >= measured.limit:
        return Decision(runs, True, f"{measured}; the cores and the runs of the study allow no more")
    factor = min(MOST_FACTOR, max(2.0, 1 / max(1 - measured.idle, 1e-9)))
    more = min(int(runs * factor), measured.limit, int(measured.most_in_memory))
    if more <= runs:
        return Decision(runs, True, f"{measured}; its memory may not hold another")
    if measured.idle < LEAST_IDLE and not measured.side_by_side:
        return Decision(runs, True, f"{measured}; idle less than {LEAST_IDLE:.0%}")
    return Decision(more, False, f"{runs} before: {measured}")
