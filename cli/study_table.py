"""A study's plan, and what became of its runs, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from vclimb.cli.console import out, plain

if TYPE_CHECKING:
    from vclimb.study.cells import Cell
    from vclimb.study.planning.estimate import Estimate
    from vclimb.study.running.run import StudySummary


def print_estimate(estimate: Estimate) -> None:
    """The cells, what their memories will hold, and how long it will take."""
    from vclimb.study.cells import settings_of
    from vclimb.study.naming import head, value_text, varied
    from vclimb.study.report.svg import size_label

    settings = [settings_of(one.cell) for one in estimate.cells]
    names = [*varied(settings), "seed"]
    table = Table(box=None, header_style="dim", padding=(0, 1, 0, 0))
    table.add_column("run", no_wrap=True)
    for name in names:
        table.add_column(plain(head(name)))
    for name in ("videos", "frames", "bytes", "clips", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for one, values in zip(estimate.cells, settings, strict=True):
        memory = one.memory
        table.add_row(
            one.cell.run_id,
            *(plain(value_text(values.get(name))) for name in names),
            *(["-"] * 2 if memory is None else [f"{memory.videos:,}", f"{memory.frames:,}"]),
            "-" if memory is None else size_label(memory.bytes),
            f"{one.clips:,}",
            duration(one.seconds) if one.seconds else "-",
            one.state,
        )
    out.print(table)
    out.print(
        f"{len(estimate.cells)} runs, {estimate.jobs} at a time: [bold]{duration(estimate.seconds)}[/] left, "
        f"{estimate.memory_bytes / 1e6:,.1f} MB of memories; nothing was run"
    )
    out.print(f"[dim]time: {plain(estimate.rule)}. Bytes: from a sample of exemplars, encoded.[/]")


def print_summary(folder: Path, cells: Sequence[Cell], summary: StudySummary) -> None:
    """What became of a study's runs."""
    parts = [f"{len(summary.complete) + len(summary.ran)} of {len(cells)} runs are complete"]
    if summary.complete:
        parts.append(f"{len(summary.complete)} of them were before")
    out.print(f"[bold]{'; '.join(parts)}[/]")
    for title, failures in (("failed", summary.failed), ("failed before", summary.failed_before)):
        for run_id, failure in failures.items():
            where = plain(str(folder / "logs" / f"{run_id}.txt"))
            out.print(f"[red]{title}[/]: {run_id}: {plain(failure.error)} (stderr: {where})")
    if summary.failed or summary.failed_before:
        out.print("try them again by --retry-failed")
    if summary.stopped:
        out.print(f"[yellow]{len(summary.stopped)} runs were stopped[/]; run the same command to go on with them")
    out.print(f"next: vclimb study report {plain(str(folder))}")


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
