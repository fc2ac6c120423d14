"""Ctrl-C and SIGTERM: the first asks a run to stop where nothing is lost, the second stops it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Whether a run was asked to stop."""

    def __init__(self) -> None:
        self.is_set = False

    def check(self) -> None:
        """End here if the run was asked to stop.

        Raises:
            KeyboardInterrupt: it was.
        """
        if self.is_set:
            raise KeyboardInterrupt

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Answer the signals within this block; only in the main thread, where Python handles them."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: FrameType | None) -> None:
            if self.is_set:
                raise KeyboardInterrupt
            self.is_set = True

        # What was ignored, as of a job in the background, stays so.
        numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
        before = {number: signal.signal(number, ask) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
