"""Output shared by all commands: consoles, errors, results.

People read stderr (progress, notes) and stdout (the summary). With `--json`, stdout holds one JSON object.
"""

from __future__ import annotations

import errno
import io
import json
import logging
import re
import signal
import sys
import unicodedata
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import vclimb

# Names of classes and files are printed unchanged: `:dog:` must not become a picture of a dog.
out = Console(soft_wrap=True, highlight=False, emoji=False)
err = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)

_BACKSLASHED_BRACKET = re.compile(r"(\\+)\[(?![a-z#/@][^[]*?\])")
_REORDERING = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
Result = TypeVar("Result")

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def print_any_text() -> None:
    """Write characters that stdout or stderr can't encode as escapes, such as `\\xe9` for an e with an accent."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def explain_errors(work: Callable[[], Result], how_to_go_on: str | Callable[[], str] = "") -> Result:
    """Run a command's work; turn a VclimbError or Ctrl-C into one message and an exit status.

    SIGTERM counts as Ctrl-C, since a cluster stops jobs with it.

    Args:
        how_to_go_on: Advice to who has stopped the work; a function finds it after the stop.
    """
    interrupted = False

    def interrupt(_number: int, _frame: object) -> None:
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, interrupt)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # otherwise it is ignored, as under nohup
        before[signal.SIGINT] = signal.signal(signal.SIGINT, interrupt)
    try:
        return work()
    except vclimb.WorkersStoppedError:  # a scheduler that stops a job may signal the workers first
        _print_stopped(how_to_go_on)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except vclimb.VclimbError as error:
        err.print(f"[bold red]error:[/] {plain(str(error))}")
        raise typer.Exit(error.exit_status) from None
    except BrokenPipeError:
        sys.stderr.close()
        raise typer.Exit(EXIT_FAILED) from None
    except (KeyboardInterrupt, Exception) as error:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            reason = f"no more files can be opened ({plain(str(error))})"
            err.print(f"[bold red]error:[/] {reason}; raise the limit, e.g. `ulimit -n 4096`, or use fewer workers")
            raise typer.Exit(EXIT_FAILED) from None
        # An interrupt that meets Python's own locks comes out as another error ("release unlocked lock").
        if not interrupted and not isinstance(error, KeyboardInterrupt):
            raise
        _print_stopped(how_to_go_on)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_stopped(how_to_go_on: str | Callable[[], str]) -> None:
    advice = how_to_go_on if isinstance(how_to_go_on, str) else how_to_go_on()
    err.print(f"[yellow]stopped.[/] {plain(advice)}".rstrip())


def warn(text: str) -> None:
    """Print a warning on stderr."""
    err.print(f"[yellow]warning:[/] {plain(text)}")


class _WarningLines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        warn(record.getMessage())


def print_warnings_as_lines() -> None:
    """Print the library's warnings as lines on stderr, and drop torch's hints to its developers."""
    warnings.filterwarnings("ignore", module="torch")
    logger = logging.getLogger("vclimb")
    if not any(isinstance(handler, _WarningLines) for handler in logger.handlers):
        logger.addHandler(_WarningLines(level=logging.WARNING))
        logger.propagate = False


def plain(text: str) -> str:
    """Escape a text for rich, so that nothing in it is markup or a command to the terminal."""
    text = "".join(ascii(c)[1:-1] if _is_command(c) else c for c in text)
    # rich removes a backslash before a bracket that begins no tag, which its `escape` doesn't make up for, and halves
    # the backslashes before a tag. Here a tag follows, so that the caller may write anything behind the text.
    body = _BACKSLASHED_BRACKET.sub(r"\1\\[", text.rstrip("\\"))
    return f"[none]{escape(body)}{chr(92) * 2 * (len(text) - len(text.rstrip(chr(92))))}[/none]"


def _is_command(character: str) -> bool:
    """Whether a character could command the terminal, or change the order in which others are shown."""
    is_control = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
    return is_control or unicodedata.bidirectional(character) in _REORDERING


def brief(text: str, length: int = 100) -> str:
    """Escape a text like `plain`, and cut one that is longer than a line: others may have written it."""
    return plain(text if len(text) <= length else text[:length] + "...")


def print_json(value: Any) -> None:
    """Print one JSON object on stdout, in ASCII where stdout takes no more."""
    takes_all = (sys.stdout.encoding or "").lower().startswith("utf")
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=not takes_all) + "\n")


def print_result(result: Any, as_json: bool, print_table: Callable[[Any], None]) -> None:
    """Print a result as JSON, or by a function that prints it for people."""
    if as_json:
        print_json(result.to_json())
    else:
        print_table(result)


def new_table(*names: str, left: Sequence[str] = ()) -> Table:
    """Make a table without lines, whose columns are aligned right, except those in `left`."""
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(name, justify="left" if name in left else "right")
    return table


def new_grid(**first_column: Any) -> Table:
    """Make two columns without headings."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(**first_column)
    grid.add_column()
    return grid


def parts_text(parts: Mapping[str, int]) -> str:
    """List the bytes of each part of a memory."""
    return ", ".join(f"{plain(name)} {n_bytes:,}" for name, n_bytes in parts.items())
