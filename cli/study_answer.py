"""What a study says, and what a budget would hold, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

from vclimb.cli.console import out, plain

if TYPE_CHECKING:
    from vclimb.study.planning.capacity import Capacity
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


def print_capacities(budget: str, found: Sequence[Capacity]) -> None:
    """Videos and frames that a budget holds: a row for each codec, a column for each number of frames."""
    counts = list(dict.fromkeys(one.frames for one in found))
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("codec", no_wrap=True)
    table.add_column("bytes a\nframe", justify="right", no_wrap=True)
    for count in counts:
        table.add_column(f"K {count}", justify="right")
    for codec in dict.fromkeys(one.codec for one in found):
        own = [one for one in found if one.codec == codec]
        low, high = min(one.bytes_per_frame for one in own), max(one.bytes_per_frame for one in own)
        size = f"{low:,.0f}" if high < 1.02 * low else f"{low:,.0f}-{high:,.0f}"
        cells = [f"[bold]{one.videos:,}[/] v\n{one.kept_frames:,} f" for one in own]
        table.add_row(plain(codec), size, *cells)
    out.print(f"what {plain(budget)} holds: videos (v) and frames (f), by codec and frames of a video")
    out.print(table)
    everything = found[0].videos_in_data
    out.print(
        f"[dim]{everything:,} videos could be kept. Bytes a frame were measured on a sample; classes share the budget "
        "equally, as in training. Nothing was trained.[/]"
    )
