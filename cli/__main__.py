"""The `vclimb` command's first step, and `python -m cli` where the command isn't on the PATH."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the console script."""
    try:
        from cli.main import main as run  # takes half a second: a Ctrl-C within it gets no traceback either
    except KeyboardInterrupt:
        sys.stderr.write("stopped.\n")
        raise SystemExit(130) from None
    run()


if __name__ == "__main__":
    main()
