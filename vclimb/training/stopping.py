"""Stop a run by Ctrl-C or SIGTERM: the first signal asks for a stop that loses nothing, the second stops at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Request to stop a run; `is_set` once a signal asked for it."""

    def __init__(self) -> None:
        self.is_set = False

    def check(self) -> None:
        if self.is_set:
            raise KeyboardInterrupt

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals within this block. Outside of the main thread, where Python handles none, do nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(number: int, frame: FrameType | None) -> None:
            if self.is_set:
                raise KeyboardInterrupt
            self.is_set = True

        # A signal that is ignored, as in a job in the background, stays ignored.
        numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
        previous = {number: signal.signal(number, handle) for number in numbers}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
