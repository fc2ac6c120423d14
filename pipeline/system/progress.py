"""Progress on stderr, the same for commands and notebooks."""

from __future__ import annotations

import unicodedata

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

_REORDERING = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")

# Names of classes and files are printed as they are: `:dog:` must not become a picture of a dog.
stderr = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)


def is_shown(progress: bool | None) -> bool:
    """Decide whether a call shows its progress, which `False` prevents.

    Else it is shown where stderr is a terminal, or in Jupyter: a log file would get a line for each update.
    """
    return progress is not False and (stderr.is_terminal or stderr.is_jupyter)


def progress_bar(unit: str, progress: bool | None = None) -> Progress:
    """Make a progress bar that shows done, total, the unit that is counted, such as `videos`, and the time left.

    Its tasks need the field `note`, a short text that may be empty.
    """
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[note]}", style="dim"),
        TimeRemainingColumn(compact=True),
        console=stderr,
        disable=not is_shown(progress),
        transient=True,
    )


def printable(text: str) -> str:
    """Escape characters that a terminal could take for commands, and those that change the order of others."""
    return "".join(ascii(c)[1:-1] if _is_command(c) else c for c in text)


def _is_command(character: str) -> bool:
    is_control = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
    return is_control or unicodedata.bidirectional(character) in _REORDERING
