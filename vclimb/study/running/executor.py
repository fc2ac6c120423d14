"""Where runs are computed. An `Executor` takes jobs and yields how they ended; how and where is its business.

`LocalExecutor` starts processes of this machine, several at a time, also on one GPU.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal, Protocol

import vclimb
from vclimb.pipeline.system.interrupts import interrupts_held
from vclimb.study.folder import StudyFolder
from vclimb.study.running.events import EventTail

# How often runs are looked at, how long one has to stop at a checkpoint, and then at all.
_LOOK_SECONDS = 0.1
_STOP_SECONDS = 6.0
_END_SECONDS = 2.0
_STOPPED = (130, 128 + signal.SIGTERM, -signal.SIGTERM, -signal.SIGINT)


@dataclass(frozen=True)
class RunJob:
    """A run to be computed.

    Attributes:
        run_id: of the cell.
        config: its settings, as TOML.
    """

    run_id: str
    config: Path


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended.

    Attributes:
        job: the run.
        how: `complete`; `failed`; or `stopped`, to go on another time.
        error: a line that says why it failed.
        exit_status: of its process; negative: the signal that ended it.
    """

    job: RunJob
    how: Literal["complete", "failed", "stopped"]
    error: str = ""
    exit_status: int = 0


OnProgress = Callable[[RunJob, float], None]
"""Called with the share of a run that is done, 0 to 1."""


class Executor(Protocol):
    """Computes runs. They don't depend on each other; outcomes may come in any order."""

    def run(self, jobs: Sequence[RunJob], on_progress: OnProgress) -> Generator[RunOutcome, None, None]:
        """Compute all of them. Closing the generator stops what is still running, within seconds."""
        ...


@dataclass
class _Running:
    job: RunJob
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    slot: int
    events: EventTail
    asked: float | None = field(default=None)


class LocalExecutor:
    """Processes of this machine.

    Args:
        folder: of the study.
        jobs: runs at a time.
        gpus: for CUDA_VISIBLE_DEVICES, shared out among them; empty: as it is.
        threads: of torch, a run.
        on_wait: told of a run that is still running from an earlier study; it is waited for.
    """

    def __init__(
        self,
        folder: StudyFolder,
        jobs: int,
        gpus: Sequence[str] = (),
        threads: int = 1,
        on_wait: Callable[[RunJob], None] = lambda _: None,
    ) -> None:
        self._folder, self._jobs, self._gpus, self._threads = folder, jobs, tuple(gpus), threads
        self._on_wait = on_wait

    def run(self, jobs: Sequence[RunJob], on_progress: OnProgress) -> Generator[RunOutcome, None, None]:
        todo = deque(jobs)
        running: list[_Running] = []
        told: set[str] = set()
        try:
            while todo or running:
                free = sorted(set(range(self._jobs)) - {one.slot for one in running})
                n_looked_at = 0
                while todo and free and n_looked_at < len(todo):
                    job = todo.popleft()
                    if self._folder.is_running(job.run_id):  # of a study that was killed: it has not ended yet
                        if job.run_id not in told:
                            told.add(job.run_id)
                            self._on_wait(job)
                        todo.append(job)
                        n_looked_at += 1
                    else:
                        running.append(self._start(job, free.pop(0)))
                time.sleep(_LOOK_SECONDS)
                for one in list(running):
                    on_progress(one.job, one.events.share_done())
                    if one.process.poll() is not None:
                        running.remove(one)
                        yield self._outcome(one)
        finally:
            _stop(running)

    def _start(self, job: RunJob, slot: int) -> _Running:
        run = self._folder.run(job.run_id)
        arguments = ["train", "--config", str(job.config), "--out", str(run), "--resume", "--json"]
        command = [sys.executable, "-P", "-m", "vclimb.study.running.child", str(os.getpid()), *arguments]
        log = self._folder.log(job.run_id).open("wb")
        try:
            with interrupts_held():
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    env=self._environment(slot),
                    start_new_session=True,  # Ctrl-C in a terminal is for the study, which stops its runs
                )
        except BaseException:
            log.close()
            raise
        return _Running(job, process, log, slot, EventTail(run / "events.jsonl"))

    def _environment(self, slot: int) -> Mapping[str, str]:
        threads = str(self._threads)
        # The packages lie where this one does, whatever the folder is that the study was started in.
        places = [str(Path(vclimb.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(places),
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
            "NO_COLOR": "1",
            "COLUMNS": "500",
        }
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[slot % len(self._gpus)]
        return environment

    def _outcome(self, one: _Running) -> RunOutcome:
        one.log.close()
        status = one.process.returncode
        if status == 0 and self._folder.is_complete(one.job.run_id):
            return RunOutcome(one.job, "complete")
        if status in _STOPPED:
            return RunOutcome(one.job, "stopped", exit_status=status)
        return RunOutcome(one.job, "failed", _reason(status, self._folder.tail(one.job.run_id)), status)


def _reason(status: int, tail: str) -> str:
    """Why a run failed, in a line."""
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if said:
        return said[-1]
    if status < 0:
        name = signal.Signals(-status).name
        hint = "; is the machine out of memory?" if -status == signal.SIGKILL else ""
        return f"its process was ended by {name}{hint}"
    if status == 0:
        return "its process ended without completing the run"
    return lines[-1] if lines else f"its process ended with status {status} and said nothing"


def _stop(running: Sequence[_Running]) -> None:
    """Ask runs to stop, ask again, and end what doesn't answer, with all that it started."""
    for signal_number, patience in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGTERM, _END_SECONDS)):
        for one in running:
            if one.process.poll() is None:
                with suppress(ProcessLookupError):
                    one.process.send_signal(signal_number)
        deadline = time.monotonic() + patience
        while any(one.process.poll() is None for one in running) and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS / 2)
    for one in running:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(one.process.pid, signal.SIGKILL)  # its workers too
        one.process.wait()
        one.log.close()
