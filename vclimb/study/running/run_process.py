"""Process that computes one run after another, as the study sees it; `executors/_child.py` is the other side."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from vclimb.pipeline.system.interrupts import interrupts_held
from vclimb.study.running.executor import RunCommand

_CHILD = "vclimb.study.running.executors._child"
_READ_BYTES = 1 << 16
_LOOK_SECONDS = 0.05
# Time for a run to write a checkpoint, and then to end at all.
_STOP_SECONDS = 6.0
_END_SECONDS = 2.0


class RunProcess:
    """Process that computes one run after another. It ends with the thread that made it.

    A run that fails or crashes ends the process. What the process and those that it starts write to stderr goes to the
    log of the run that is computed.

    Args:
        command: First command, whose environment the process has.
        study: Folder of the study, which lists of processes show.
    """

    def __init__(self, command: RunCommand, study: Path) -> None:
        self._environment = _environment_of(command)
        with interrupts_held():
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", _CHILD, str(os.getpid()), str(study)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=self._environment,
                start_new_session=True,  # a terminal sends Ctrl-C to the study alone, which stops its runs
            )
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
        self._log: IO[bytes] | None = None

    def takes(self, command: RunCommand) -> bool:
        """Whether the process waits for a command and has its environment."""
        return self._log is None and self._process.poll() is None and self._environment == _environment_of(command)

    def start(self, command: RunCommand) -> None:
        """Start a command, which the process takes.

        Raises:
            BrokenPipeError: The process has ended.
        """
        assert self._process.stdin is not None
        _, _, _, module, *arguments = command.arguments  # python -P -m module
        self._write_stderr()  # of the run before
        self._process.stdin.write(json.dumps([module, *arguments]).encode() + b"\n")
        self._log = command.log.open("wb")

    def status(self) -> int | None:
        """Exit status of the run that was started last; None while it is computed. To be called often."""
        ended = self._process.poll()
        assert self._process.stdout is not None
        is_complete = bool(self._process.stdout.read(_READ_BYTES))
        self._write_stderr()
        if is_complete or ended is not None:
            self._close_log()
        return 0 if is_complete else ended

    def _write_stderr(self) -> None:
        """Write to the log what the process has written to stderr so far."""
        assert self._process.stderr is not None
        while data := self._process.stderr.read(_READ_BYTES):
            if self._log is not None:
                self._log.write(data)
        if self._log is not None:
            self._log.flush()

    def _close_log(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    def _wait(self, deadline: float) -> None:
        while self._process.poll() is None and time.monotonic() < deadline:
            self._write_stderr()  # a full pipe would keep the process
            time.sleep(_LOOK_SECONDS)


def started(process: RunProcess | None, command: RunCommand, study: Path) -> RunProcess:
    """Start a command in a process that waits for one, or in a new process where that doesn't take it.

    Args:
        study: Folder of the study, which lists of processes show.
    """
    if process is not None and process.takes(command):
        with suppress(BrokenPipeError):  # it was killed a moment ago
            process.start(command)
            return process
    if process is not None:
        stop_processes([process])
    process = RunProcess(command, study)
    process.start(command)
    return process


def stop_processes(processes: Sequence[RunProcess]) -> None:
    """Ask runs to stop, ask again, and then kill those that are left, with all processes that they started."""
    for patience in (_STOP_SECONDS, _END_SECONDS):
        for process in processes:
            if process._process.poll() is None:
                with suppress(ProcessLookupError):
                    process._process.terminate()
        deadline = time.monotonic() + patience
        for process in processes:
            process._wait(deadline)
    for process in processes:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process._process.pid, signal.SIGKILL)
        process._process.wait()
        process._write_stderr()
        process._close_log()
        for pipe in (process._process.stdin, process._process.stdout, process._process.stderr):
            assert pipe is not None
            pipe.close()


def _environment_of(command: RunCommand) -> dict[str, str]:
    return {**os.environ, **command.environment}
