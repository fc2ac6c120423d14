"""How much memory a run takes at most."""

from __future__ import annotations

import contextlib
import re
import threading
from pathlib import Path

import psutil


class PeakMemory:
    """Watches, while it runs, how much memory any new child and its children took together, in bytes."""

    def __init__(self) -> None:
        self.bytes = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        own = psutil.Process().cmdline()
        before = set(psutil.Process().children())  # such as the fork server of another test's stream
        while not self._done.wait(0.05):
            with contextlib.suppress(psutil.Error):
                for worker in set(psutil.Process().children()) - before:
                    family = [worker, *worker.children(recursive=True)]
                    self.bytes = max(self.bytes, sum(_peak_bytes(process, own) for process in family))


def _peak_bytes(process: psutil.Process, of_tests: list[str]) -> int:
    """The most memory that a process ever had resident; 0 between its fork and its exec, when it still has ours."""
    try:
        if process.cmdline() == of_tests:
            return 0
        status = Path(f"/proc/{process.pid}/status").read_text()
    except (OSError, psutil.Error):
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0
