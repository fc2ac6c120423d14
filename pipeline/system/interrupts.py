"""Starting worker processes that leave Ctrl-C, which a terminal sends to every process, to the main process."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold back SIGINT and SIGTERM within a block that starts processes.

    Processes and threads started in the block never get a SIGINT, not even while they import. A SIGINT or SIGTERM to
    this process is answered when the block ends, so no process is left half started.
    """
    resource_tracker.ensure_running()  # otherwise it starts with the first process and unblocks SIGINT
    received: list[int] = []
    # Blocking isn't enough: another thread may take the signal, and Python still runs the handler in the main thread.
    in_main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if in_main else ()
    handlers = {number: signal.signal(number, lambda number, _: received.append(number)) for number in numbers}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])
