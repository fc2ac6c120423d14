"""Processes of this machine, several at a time, also on one GPU, each for one run after another."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from vclimb.study.running.executor import RunExecutor, RunJob
from vclimb.study.running.run_process import RunProcess, started, stop_processes

_LOOK_SECONDS = 0.1


@dataclass
class _Slot:
    """Place of one run at a time; `process` is kept from run to run."""

    gpu: str | None
    job: RunJob | None = None
    process: RunProcess | None = None


class LocalRunExecutor(RunExecutor):
    """Processes of this machine."""

    name = "local"
    summary = "Processes of this machine, several at a time, also on one GPU."

    def run(self, jobs: Sequence[RunJob]) -> Generator[tuple[RunJob, int], None, None]:
        """Run the command of each job in the process of a slot. A process that a run has ended is replaced."""
        waiting = list(jobs)
        slots = [_Slot(self.gpus[number % len(self.gpus)] if self.gpus else None) for number in range(self.jobs)]
        try:
            while waiting or any(slot.job for slot in slots):
                for slot in slots:
                    if slot.job is None and (job := _next(waiting, slots)):
                        waiting.remove(job)
                        slot.process = started(slot.process, job.command(slot.gpu), job.study.path)
                        slot.job = job
                time.sleep(_LOOK_SECONDS)
                for slot in slots:
                    if slot.job and slot.process and (status := slot.process.status()) is not None:
                        job, slot.job = slot.job, None
                        if status or not waiting:  # the process has ended, or its memory is better free
                            _end(slot)
                        yield job, status
        finally:
            stop_processes([slot.process for slot in slots if slot.process])


def _next(waiting: Sequence[RunJob], slots: Sequence[_Slot]) -> RunJob | None:
    """Choose the job that is started next; None where all have to wait."""
    running = [slot.job for slot in slots if slot.job]
    return next((job for job in waiting if not job.is_running and not job.waits_for(running)), None)


def _end(slot: _Slot) -> None:
    if slot.process is not None:
        stop_processes([slot.process])
    slot.process = None
