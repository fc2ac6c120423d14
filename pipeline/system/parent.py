"""Processes that end when the process that started them ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
# Looked up here, since nothing may be loaded between fork and exec.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

STOPPED = 128 + signal.SIGTERM
"""Exit status of a process that SIGTERM ended, as a shell gives it."""


def die_with_parent(signal_number: int = signal.SIGTERM, parent: int | None = None) -> None:
    """Ask the kernel to signal this process when its parent's thread that started it ends. Linux only.

    It may be called between fork and exec. If the process `parent`, where given, has ended by now, this one exits.
    """
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
    if parent is not None and os.getppid() != parent:  # in a container the parent itself may be process 1
        os._exit(STOPPED)
