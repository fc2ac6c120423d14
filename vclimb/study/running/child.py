"""The process of a run of a study: `python -m vclimb.study.running.child PARENT ARGUMENTS`.

It becomes `python -m vclimb.cli ARGUMENTS`.

If the study dies, however that happens, the kernel asks the run to stop: nothing is left behind that goes on writing.
(Asked for here rather than between fork and exec of the study, whose other threads may hold a lock there.)
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Become the command."""
    parent = int(sys.argv[1])
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it died before we asked
        sys.exit(128 + signal.SIGTERM)
    os.execv(sys.executable, [sys.executable, "-P", "-m", "vclimb.cli", *sys.argv[2:]])  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main()
