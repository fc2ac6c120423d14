"""`vclimb verify`: check a data set against its catalog."""

from __future__ import annotations

from typing import Annotated

import typer

import vclimb
from vclimb.cli.console import EXIT_FAILED, err, explain_errors, out, plain, print_result

_SHOWN_PROBLEMS = 50


def command(
    dataset: Annotated[str, typer.Argument(help="A prepared data set, e.g. shards/NAME.")],
    decode: Annotated[bool, typer.Option(help="Decode every frame too.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. Default: one for each core.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Check every SHA-256, tar, index and frame range. Each bad sample is named; the exit status is then 1."""
    report = explain_errors(
        lambda: vclimb.verify(dataset, decode=decode, workers=workers, progress=False if as_json else None),
        "Nothing was changed.",
    )
    print_result(report, as_json, lambda report: _print_report(dataset, report))
    if report.problems:
        raise typer.Exit(EXIT_FAILED)


def _print_report(dataset: str, report: vclimb.VerifyReport) -> None:
    for problem in report.problems[:_SHOWN_PROBLEMS]:
        out.print(f"[red]{plain(str(problem))}[/]")
    if (more := len(report.problems) - _SHOWN_PROBLEMS) > 0:
        out.print(f"... and {more} more problems (--json lists all)")
    if report.unfinished:
        err.print("[yellow]a prepare run on this data set is unfinished; run it again to complete it[/]")
    checked = f"{report.n_shards} shards, {report.n_videos:,} videos, {report.n_frames:,} frames"
    verdict = f"[red]{len(report.problems)} problems[/]" if report.problems else "[green]clean[/]"
    out.print(f"[bold]{plain(str(dataset))}[/]: {verdict} ({checked}{', all decoded' if report.decoded else ''})")
