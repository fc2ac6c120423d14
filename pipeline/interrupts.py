"""Keeping Ctrl-C away from worker processes: a terminal sends it to all of them, and the run alone is to answer."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold SIGINT back. Processes and threads that are started meanwhile never get one, not even while they import;
    this thread gets what came as soon as the block ends."""
    resource_tracker.ensure_running()  # with the first process otherwise, which lets SIGINT through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
