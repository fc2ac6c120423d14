"""Starting worker processes so that a Ctrl-C, which a terminal sends to all processes, is answered by the run alone."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Start processes within this block.

    They never get a SIGINT, not even while they import, and neither do the threads that are started here. A SIGINT or
    SIGTERM to this process is answered when the block ends: a process is started whole or not at all.
    """
    resource_tracker.ensure_running()  # else it starts with the first process, and lets SIGINT through again
    came: list[int] = []
    # Blocking isn't enough: another thread may take the signal, and Python answers in the main thread all the same.
    in_main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if in_main else ()
    handlers = {number: signal.signal(number, lambda number, _: came.append(number)) for number in numbers}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
