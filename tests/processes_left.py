"""Processes of a run of the tests that are still there."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import psutil


def processes_of_run(mark: str, patience_seconds: float) -> list[tuple[psutil.Process, str]]:
    """Give processes that have a word in their environment time to end; those that did not, and their commands.

    Children that were forked have the environment that their parent was started with. Whatever started first, such as
    this process, doesn't have what it set itself.
    """
    deadline = time.monotonic() + patience_seconds
    while (left := _having(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def _having(mark: str) -> list[tuple[psutil.Process, str]]:
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(OSError, psutil.Error):  # what has ended by now, and what is none of ours
            if pid != os.getpid() and mark.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                process = psutil.Process(pid)
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append((process, " ".join(process.cmdline())))
    return found
