"""The option `--jobs` of commands that compute the runs of a study."""

from __future__ import annotations

from typing import Annotated, Literal

import typer


def _check_jobs(text: str | None) -> str | None:
    """Refuse what is neither a number from 1 nor `auto`, as a wrong use of the command."""
    if text not in (None, "auto") and not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise typer.BadParameter(f"{text!r} is not allowed; write a number from 1, or auto")
    return text


Jobs = Annotated[
    str | None,
    typer.Option(
        callback=_check_jobs,
        metavar="N|auto",
        help="Runs at a time, also on one GPU; auto: as many as memory, idle time and cores allow, measured while "
        "runs train. Default: one for each GPU.",
    ),
]


def number_of_jobs(jobs: str | None) -> int | Literal["auto"] | None:
    """Convert a value of the option to the argument `jobs` of `Study.run`."""
    return "auto" if jobs == "auto" else None if jobs is None else int(jobs)
