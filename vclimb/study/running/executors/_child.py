"""Process of a run: `python -m vclimb.study.running.executors._child PARENT COMMAND...` becomes the command.

No run outlives its study, however that ends. The process asks the kernel for that itself: between fork and exec of the
parent, another thread may hold a lock.
"""

from __future__ import annotations

import os
import sys

from vclimb.pipeline.system.parent import die_with_parent

if __name__ == "__main__":
    die_with_parent(parent=int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606  # no shell is wanted
