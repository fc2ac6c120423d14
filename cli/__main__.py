"""Entry point of the `vclimb` command and of `python -m vclimb.cli`."""

from __future__ import annotations

import os
import signal
import sys

_STOPPED = "stopped. Nothing was begun: give the same command again.\n"
_EXIT_INTERRUPTED = 130


def main() -> None:
    """Entry point of the console script."""
    # Loading leaves nothing to undo. A KeyboardInterrupt could be lost where Python cleans up between two imports, and
    # the command would go on.
    if interruptible := signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop_at_once)
    from vclimb.cli.main import main as run

    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run()
    except KeyboardInterrupt:  # before the command, which handles its interrupts, has begun
        sys.stderr.write(_STOPPED)
        raise SystemExit(_EXIT_INTERRUPTED) from None


def _stop_at_once(_number: int, _frame: object) -> None:
    os.write(sys.stderr.fileno(), _STOPPED.encode())
    os._exit(_EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
