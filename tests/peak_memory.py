"""How much memory a run takes at most."""

from __future__ import annotations

import contextlib
import re
import threading
from pathlib import Path

import psutil


class PeakMemory:
    """Watches, while it runs, how much memory any worker and its children took together, in bytes."""

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
        while not self._done.wait(0.05):
            with contextlib.suppress(psutil.Error):
                for worker in psutil.Process().children():
                    family = [worker, *worker.children(recursive=True)]
                    self.bytes = max(self.bytes, sum(map(_peak_bytes, family)))


def _peak_bytes(process: psutil.Process) -> int:
    """The most memory that a process ever had resident."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0
