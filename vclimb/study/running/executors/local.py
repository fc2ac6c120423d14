"""Processes of this machine, several at a time, also on one GPU, each for one run after another."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

from vclimb.pipeline.errors import GpuMemoryError, SettingsError
from vclimb.study.running.executor import STOPPED, RunExecutor, RunJob
from vclimb.study.running.gpu_readings import GpuWatch
from vclimb.study.running.growth import Growth, Pace
from vclimb.study.running.mps import MpsDaemon, is_running_already
from vclimb.study.running.places import AutoJobs, Places
from vclimb.study.running.run_process import RunProcess, started, stop_processes

_LOOK_SECONDS = 0.1


@dataclass
class _Slot:
    """Place of one run at a time.

    Attributes:
        process: Process of the slot, kept from run to run.
        is_shared: Whether the GPU had another process at any time of the run.
    """

    gpu: str | None
    job: RunJob | None = None
    process: RunProcess | None = None
    is_shared: bool = False


class LocalRunExecutor(RunExecutor):
    """Processes of this machine.

    Args:
        jobs: Number of runs at a time, and the largest one where it grows.
        gpus: GPUs to share out among them, as CUDA_VISIBLE_DEVICES names them; empty: those that a run sees.
        auto: Runs for which the number at a time was chosen: each GPU begins with one, and gets more while that pays.
            CUDA's MPS is started for them where it is installed and works.
        pace: Time to measure a number of runs.
    """

    name = "local"
    summary = "Processes of this machine, several at a time, also on one GPU."

    def __init__(
        self, jobs: int = 1, gpus: Sequence[str] = (), *, auto: AutoJobs | None = None, pace: Pace | None = None
    ) -> None:
        super().__init__(jobs, gpus)
        self._is_auto = auto is not None
        self._watch = GpuWatch(self.gpus) if auto is not None and self.gpus and not auto.on_cpu else None
        self._pace = pace

    @classmethod
    def for_study(cls, jobs: int | AutoJobs | None, gpus: str | Sequence[int | str], jobs_per_gpu: int | None) -> Self:
        places = Places.find(jobs, gpus, jobs_per_gpu)
        return cls(places.jobs, places.gpus, auto=jobs if isinstance(jobs, AutoJobs) else None)

    def run(self, jobs: Sequence[RunJob]) -> Generator[tuple[RunJob, int], None, None]:
        """Run the command of each job in the process of a slot. A process that a run has ended is replaced.

        Where the number of runs grows, a run that finds too little memory on a GPU that others shared is tried again
        alone, after all others. So is one that fails beside others under MPS, where a fault of one ends them all.
        """
        waiting, again = list(jobs), list[RunJob]()
        slots = [_Slot(self.gpus[number % len(self.gpus)] if self.gpus else None) for number in range(self.jobs)]
        mps = self._mps()
        try:
            growths = self._growths(side_by_side=mps is not None)
            while waiting or again or any(slot.job for slot in slots):
                for slot in slots:
                    if slot.job is None and (job := _taken(waiting, again, slot, slots, growths)):
                        _start(slot, job, slots, mps)
                time.sleep(_LOOK_SECONDS)
                if waiting:
                    for gpu, on_gpu in growths.items():
                        on_gpu.look([slot.job for slot in slots if slot.job and slot.gpu == gpu])
                for slot in slots:
                    if slot.job and slot.process and (status := slot.process.status()) is not None:
                        job, slot.job = slot.job, None
                        growth = growths.get(slot.gpu or "")
                        has_room = growth is None or _n_running(slot.gpu, slots) < growth.runs
                        if status or not waiting or not has_room:  # the process has ended, or its memory is better free
                            _end(slot)
                        if status == GpuMemoryError.exit_status and growth and slot.is_shared:
                            growth.memory_full(job.run_id)
                            again.append(job)
                        elif mps and slot.is_shared and status not in (0, *STOPPED):
                            self.note(f"run {job.run_id} failed beside others, and is tried again alone at the end")
                            again.append(job)
                        else:
                            yield job, status
        finally:
            stop_processes([slot.process for slot in slots if slot.process])
            if mps:
                mps.close()

    def _mps(self) -> MpsDaemon | None:
        """Start MPS where the number of runs of a GPU grows."""
        if self._watch is None or self.jobs <= len(self.gpus):
            return None
        if is_running_already():
            self.note("MPS runs already, and the runs use it")
            return None
        try:
            daemon = MpsDaemon(self.gpus)
        except SettingsError as error:
            self.note(f"without MPS, so that runs take turns on a GPU: {error}")
            return None
        self.note("MPS was started, so that runs compute on a GPU at the same time")
        return daemon

    def _growths(self, side_by_side: bool) -> dict[str, Growth]:
        """Begin with one run on each GPU, where the number of runs grows."""
        places = self.places
        cores = f"{places.all_cores} cores, {places.cores} for each run"
        if self._watch is None:
            if self._is_auto:
                self.note(f"{self.jobs} at a time: {cores}")
            return {}
        limit = self.jobs // len(self.gpus)
        self.note(f"1 run on each GPU at first, {limit} at most: {cores}")
        return {
            gpu: Growth(gpu, limit, partial(self._watch.reading, gpu), self.note, side_by_side, self._pace)
            for gpu in self.gpus
        }


def _next(waiting: Sequence[RunJob], slots: Sequence[_Slot]) -> RunJob | None:
    """Choose the job that is started next; None where all have to wait."""
    running = [slot.job for slot in slots if slot.job]
    return next((job for job in waiting if not job.is_running and not job.waits_for(running)), None)


def _taken(
    waiting: list[RunJob], again: list[RunJob], slot: _Slot, slots: Sequence[_Slot], growths: dict[str, Growth]
) -> RunJob | None:
    """Take the job that a slot starts next; None where it has to stay free.

    Args:
        again: Jobs that have to be alone on a GPU.
    """
    n_running = _n_running(slot.gpu, slots)
    if slot.gpu in growths and n_running >= growths[slot.gpu].runs:
        return None
    if job := _next(waiting, slots):
        waiting.remove(job)
        return job
    if again and not waiting and not n_running:
        for other in slots:
            if other.gpu == slot.gpu:
                _end(other)
        return again.pop(0)
    return None


def _start(slot: _Slot, job: RunJob, slots: Sequence[_Slot], mps: MpsDaemon | None) -> None:
    command = job.command(slot.gpu)
    if mps:
        command = replace(command, environment={**command.environment, **mps.environment})
    slot.process = started(slot.process, command, job.study.path)
    slot.job = job
    sharing = [other for other in slots if other.gpu == slot.gpu and other.process]
    slot.is_shared = False
    for other in sharing:
        other.is_shared |= len(sharing) > 1


def _n_running(gpu: str | None, slots: Sequence[_Slot]) -> int:
    return sum(slot.job is not None for slot in slots if slot.gpu == gpu)


def _end(slot: _Slot) -> None:
    if slot.process is not None:
        stop_processes([slot.process])
    slot.process = None
