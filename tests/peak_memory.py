"""Measurement of the peak memory of a run."""

from __future__ import annotations

import contextlib
import re
import threading
from pathlib import Path

import psutil


class PeakMemory:
    """Watches the memory of new child processes within a with block.

    Attributes:
        bytes: Largest memory of a child together with its children.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> PeakMemory:
        self._before = set(psutil.Process().children())  # such as the fork server of another test's stream
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        command = psutil.Process().cmdline()
        while not self._done.wait(0.05):
            with contextlib.suppress(psutil.Error):
                for worker in set(psutil.Process().children()) - self._before:
                    family = [worker, *worker.children(recursive=True)]
                    self.bytes = max(self.bytes, sum(_peak_bytes(process, command) for process in family))


def _peak_bytes(process: psutil.Process, test_command: list[str]) -> int:
    """Return the peak resident memory of a process; 0 between fork and exec, when it still shares that of the tests."""
    try:
        if process.cmdline() == test_command:
            return 0
        status = Path(f"/proc/{process.pid}/status").read_text()
    except (OSError, psutil.Error):
        return 0
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(peak[1]) * 1024 if peak else 0
