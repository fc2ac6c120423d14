"""Processes of this machine, several at a time, also on one GPU."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from vclimb.pipeline.system.interrupts import interrupts_held
from vclimb.study.running.executor import RunCommand, RunExecutor, RunJob

_LOOK_SECONDS = 0.1
# Time for a run to write a checkpoint, and then to end at all.
_STOP_SECONDS = 6.0
_END_SECONDS = 2.0


@dataclass
class _RunProcess:
    job: RunJob
    process: subprocess.Popen[bytes]
    slot: int


class LocalRunExecutor(RunExecutor):
    """Processes of this machine."""

    name = "local"
    summary = "Processes of this machine, several at a time, also on one GPU."

    def run(self, jobs: Sequence[RunJob]) -> Generator[tuple[RunJob, int], None, None]:
        """Run the command of each job in a process."""
        waiting = deque(jobs)
        running: list[_RunProcess] = []
        try:
            while waiting or running:
                free = sorted(set(range(self.jobs)) - {run.slot for run in running})
                for job in list(islice((job for job in waiting if not job.is_running), len(free))):
                    waiting.remove(job)
                    running.append(self._start(job, free.pop(0)))
                time.sleep(_LOOK_SECONDS)
                for run in [run for run in running if run.process.poll() is not None]:
                    running.remove(run)
                    yield run.job, run.process.returncode
        finally:
            stop_commands([run.process for run in running])

    def _start(self, job: RunJob, slot: int) -> _RunProcess:
        return _RunProcess(
            job, start_command(job.command(self.gpus[slot % len(self.gpus)] if self.gpus else None)), slot
        )


def start_command(command: RunCommand) -> subprocess.Popen[bytes]:
    """Start the command of a run. It ends with the thread that calls this function."""
    child = [sys.executable, "-P", "-m", f"{__package__}._child", str(os.getpid())]
    with command.log.open("wb") as log, interrupts_held():
        return subprocess.Popen(
            [*child, *command.arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env={**os.environ, **command.environment},
            start_new_session=True,  # a terminal sends Ctrl-C to the study alone, which stops its runs
        )


def stop_commands(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask runs to stop, ask again, and then kill those that are left, with all processes that they started."""
    for patience in (_STOP_SECONDS, _END_SECONDS):
        for process in processes:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    process.terminate()
        deadline = time.monotonic() + patience
        while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS / 2)
    for process in processes:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
