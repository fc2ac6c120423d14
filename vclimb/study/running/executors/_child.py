"""Process of a run: `python -m vclimb.study.running.executors._child PARENT COMMAND...` becomes the command.

If the parent dies, however that happens, the kernel sends the run a SIGTERM, so that no run outlives its study. The
process asks for that itself: between fork and exec of the parent, another thread may hold a lock.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # the parent died before the kernel was asked
        sys.exit(128 + signal.SIGTERM)
    os.execv(command[0], command)  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main()
