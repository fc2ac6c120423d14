"""Process that computes one run after another: `python -m vclimb.study.running.executors._child PARENT STUDY`.

Each line on stdin holds a module and its arguments, as JSON. The process runs the module as `python -m` does, and
answers by a line on stdout once the run is complete. A run that ends otherwise ends the process with its exit status,
so that nothing of it meets another run. Decoding processes stay for the next run, and so does what is loaded: modules,
the GPU's context, and plans of its libraries.

No run outlives its study, however that ends. The process asks the kernel for that itself: between fork and exec of the
parent, another thread may hold a lock. `STUDY` only shows in lists of processes what this one is for.
"""

from __future__ import annotations

import json
import os
import runpy
import sys

from vclimb.pipeline.system.parent import die_with_parent


def main() -> None:
    """Compute the runs that stdin names, until it ends."""
    commands, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    from vclimb.pipeline.stream.workers import kept_workers
    from vclimb.study.running.fresh_state import as_in_new_process

    with kept_workers():
        for line in commands:
            with as_in_new_process():
                _run_module(*json.loads(line))
            answers.write(b"complete\n")


def _run_module(module: str, *arguments: str) -> None:
    """Run a module as `python -m` does; a SystemExit if its exit status is not 0."""
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise


if __name__ == "__main__":
    die_with_parent(parent=int(sys.argv[1]))
    main()
