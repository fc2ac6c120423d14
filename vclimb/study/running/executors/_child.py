"""Process of a run: `python -m vclimb.study.running.executors._child PARENT COMMAND...` becomes the command.

If the parent dies, however that happens, the kernel sends the run a SIGTERM, so that no run outlives its study. The
process asks for that itself: between fork and exec of the parent, another thread may hold a lock.
"""

from __future__ import annotations

import os
import sys

from vclimb.pipeline.system.parent import die_with_parent


def main() -> None:
    """Become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    die_with_parent(parent=parent)
    os.execv(command[0], command)  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main()
