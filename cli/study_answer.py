"""Print what the report of a study says."""

from __future__ import annotations

import vclimb
from vclimb.cli.console import new_table, out, plain


def print_report(report: vclimb.Report) -> None:
    """Print the best cell of each budget, what the next doubling buys, and what failed."""
    results = report.results
    if report.answer.rows:
        names = ("budget", "best cell", "Acc", "BWF", "on disk", "next best", "what the next budget buys")
        table = new_table(*names, left=names)
        for row in report.answer.rows:
            cells = (row.budget, f"[bold]{plain(row.cell)}[/]", row.acc, row.bwf, row.size)
            table.add_row(*cells, plain(row.rival), plain(row.doubling))
        out.print(table)
        if report.answer.smallest_as_good:
            out.print(plain(report.answer.smallest_as_good))
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
    if report.left_out:
        out.print(f"the page leaves out: {plain('; '.join(report.left_out))}")
    tables = ", ".join(path.name for path in report.tables)
    out.print(f"report: [bold]{plain(str(report.page))}[/] ({len(report.plots)} plots); {tables} beside it")
