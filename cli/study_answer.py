"""What a study says, as tables."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

from vclimb.cli.console import out, plain

if TYPE_CHECKING:
    from vclimb.study.report.page import Report


def print_report(report: Report) -> None:
    """The best cell for each budget, what the next doubling buys, and what failed."""
    from vclimb.study.report.answer import frugal_sentence, rows

    results, layout = report.results, report.layout
    found = rows(layout, report.answer)
    if found:
        table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
        for name in ("budget", "best cell", "Acc", "BWF", "on disk", "next best", "what the next budget buys"):
            table.add_column(name)
        for row in found:
            cells = (row.budget, f"[bold]{plain(row.cell)}[/]", row.acc, row.bwf, row.size)
            table.add_row(*cells, plain(row.rival), plain(row.doubling))
        out.print(table)
        if sentence := frugal_sentence(layout, report.answer):
            out.print(plain(sentence))
    else:
        out.print("no run with a memory is complete yet")
    counts = [f"{len(results.complete)} runs are complete"]
    if results.set_aside:
        counts[0] += f" ({len(results.set_aside)} left out: newer ones repeat them, with the same settings and seed)"
    counts += [f"[red]{len(results.failures)} failed[/]"] if results.failures else []
    counts += [f"{len(results.unfinished)} are unfinished"] if results.unfinished else []
    counts += [f"{len(results.waiting)} were not begun"] if results.waiting else []
    out.print(", ".join(counts))
    for run_id, failure in results.failures.items():
        out.print(f"[red]failed[/]: {plain(run_id)}: {plain(failure.error)}")
    out.print(
        f"report: [bold]{plain(str(report.page))}[/] ({report.n_plots} plots); results.parquet, results.csv beside it"
    )


def report_json(report: Report) -> dict[str, Any]:
    """The same as plain values; fractions are from 0 to 1."""
    from vclimb.study.report.answer import frugal_sentence, rows

    results, found = report.results, report.answer
    best = {
        budget: {
            "cell": report.layout.name(group),
            "runs": [run.run_id for run in group.runs],
            "acc": asdict(group.acc),
            "bwf": asdict(group.bwf),
            "bytes": asdict(group.bytes),
        }
        for budget, group in found.best.items()
    }
    return {
        "report": str(report.page),
        "plots": report.n_plots,
        "complete": len(results.complete),
        "left_out": [run.run_id for run in results.set_aside],
        "failed": {run_id: failure.error for run_id, failure in results.failures.items()},
        "unfinished": [run.run_id for run in results.unfinished],
        "not_begun": list(results.waiting),
        "best": best,
        "in_words": [asdict(row) for row in rows(report.layout, found)],
        "smallest_as_good": frugal_sentence(report.layout, found) or None,
    }
