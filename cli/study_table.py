"""A study's estimate, the states of its runs, capacities, and what its report says, as tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

import vclimb
from vclimb.cli.console import new_table, out, plain

# What is printed at most.
_SHOWN_CELLS, _SHOWN_BUDGETS, _SHOWN_RUNS, _SHOWN_CHARACTERS = 200, 50, 20, 500
_NUMBERS = ("videos", "frames", "bytes", "clips", "time")


def print_estimate(estimate: vclimb.Estimate) -> None:
    """Print the cells, what their memories will hold, and their time."""
    rows = estimate.to_table()
    table = Table(box=None, header_style="dim", padding=(0, 1, 0, 0))
    shown = [name for name in rows[0] if name in _NUMBERS]
    table.add_column("run", no_wrap=True)
    table.add_column("settings")  # in one column, since many narrow ones can't be read on a narrow terminal
    for name in shown:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    others = {"run", "state", "bytes by part", *_NUMBERS}
    for row in rows[:_SHOWN_CELLS]:
        settings = [f"{name} {value}" for name, value in row.items() if name not in others and str(value) != "-"]
        cells = (row["run"], ", ".join(settings), *(row[name] for name in shown), row["state"])
        table.add_row(*(plain(str(cell)) for cell in cells))
    out.print(table)
    _print_more(len(rows) - _SHOWN_CELLS, "runs")
    out.print(
        f"{len(rows)} runs, {estimate.jobs} at a time: [bold]{estimate.time}[/] left, "
        f"{estimate.memory_bytes / 1e6:,.1f} MB of memories; nothing was run"
    )
    if estimate.first_tasks_taken:
        out.print(
            f"{estimate.first_tasks_taken} runs take the training of the first task from another run with the same "
            "settings up to there"
        )
    out.print(f"[dim]time: {plain(estimate.rule)}. Bytes: from a sample of exemplars, encoded.[/]")


def print_summary(result: vclimb.StudyResult) -> None:
    """Print the states of a study's runs."""
    n_complete = len(result.complete) + len(result.ran)
    parts = [f"{n_complete} of {result.n_runs} runs are complete"]
    if result.complete:
        parts.append(f"{len(result.complete)} of them were before")
    out.print(f"[bold]{'; '.join(parts)}[/]")
    for title, failures in (("failed", result.failed), ("failed before", result.failed_before)):
        for run_id, failure in list(failures.items())[:_SHOWN_RUNS]:
            log = plain(str(result.folder / "logs" / f"{run_id}.txt"))
            out.print(f"[red]{title}[/]: {run_id}: {plain(failure.error[:_SHOWN_CHARACTERS])} (stderr: {log})")
        _print_more(len(failures) - _SHOWN_RUNS, "runs")
    if result.failed or result.failed_before:
        out.print("try them again by --retry-failed")
    if result.unfinished:
        out.print(f"[yellow]{len(result.unfinished)} runs were stopped[/]; run the same command to go on with them")
    out.print(f"next: vclimb study report {plain(str(result.folder))}")


def print_capacities(budget: str, choices: Sequence[vclimb.Capacity]) -> None:
    """Print the videos and frames that a budget holds: a row for each codec, a column for each number of frames."""
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("codec", no_wrap=True)
    table.add_column("bytes a\nframe", justify="right", no_wrap=True)
    counts = [*dict.fromkeys(choice.frames for choice in choices)]
    for count in counts:
        table.add_column(f"K {count}" if count else "a feature,\nno frame", justify="right")
    for codec in dict.fromkeys(choice.codec for choice in choices):
        row = {choice.frames: choice for choice in choices if choice.codec == codec}
        sizes = [choice.bytes_per_frame for choice in row.values()]
        low, high = min(sizes), max(sizes)
        size = f"{low:,.0f}" if high < 1.02 * low else f"{low:,.0f}-{high:,.0f}"
        held = [f"[bold]{row[n].videos:,}[/] v\n{row[n].kept_frames:,} f" if n in row else "-" for n in counts]
        table.add_row(plain(codec), size, *held)
    out.print(f"what {plain(budget)} holds: videos (v) and frames (f), by codec and frames of a video")
    out.print(table)
    out.print(
        f"[dim]{choices[0].videos_in_data:,} videos could be kept. Bytes a frame were measured on a sample; classes "
        "share the budget equally, as in training. Nothing was trained.[/]"
    )


def print_method_bytes(budget: str, methods: Sequence[vclimb.MethodBytes]) -> None:
    """Print what methods keep besides exemplars: a row for each method, a column for each part."""
    if not methods:
        return
    parts = sorted({part for method in methods for part in method.parts}, key=lambda part: (part == "index", part))
    columns = (*parts, "together", "left for exemplars")
    table = new_table("method", *columns, left=("method",))
    for method in methods:
        words = method.in_words
        table.add_row(plain(method.name), *(words.get(column, "-") for column in columns))
    first = methods[0]
    out.print(
        f"\nwhat methods keep besides exemplars after {first.classes:,} classes in {first.tasks} tasks, with "
        f"{plain(first.network)}, and what it leaves of {plain(budget)}"
    )
    out.print(table)


def print_report(report: vclimb.Report) -> None:
    """Print the best cell of each budget, what the next doubling buys, and what failed."""
    results = report.results
    if report.answer.rows:
        names = ("budget", "best cell", "Acc", "BWF", "on disk", "next best", "what the next budget buys")
        table = new_table(*names, left=names)
        for row in report.answer.rows[:_SHOWN_BUDGETS]:
            cells = (row.budget, f"[bold]{plain(row.cell)}[/]", row.acc, row.bwf, row.size)
            table.add_row(*cells, plain(row.rival), plain(row.doubling))
        out.print(table)
        _print_more(len(report.answer.rows) - _SHOWN_BUDGETS, "budgets")
    else:
        out.print("no run that keeps exemplars is complete yet")
    _print_areas(report)
    for sentence in (*report.answer.without_exemplars, report.answer.smallest_as_good):
        if sentence:
            out.print(plain(sentence))
    counts = [f"{len(results.complete)} runs are complete"]
    if results.set_aside:
        counts[0] += f" ({len(results.set_aside)} left out: newer ones repeat them, with the same settings and seed)"
    counts += [f"[red]{len(results.failures)} failed[/]"] if results.failures else []
    counts += [f"[red]{len(results.damaged)} can't be read[/]"] if results.damaged else []
    counts += [f"{len(results.unfinished)} are unfinished"] if results.unfinished else []
    counts += [f"{len(results.waiting)} were not begun"] if results.waiting else []
    out.print(", ".join(counts))
    failed = {run_id: failure.error for run_id, failure in results.failures.items()}
    for title, errors in (("failed", failed), ("can't be read", results.damaged)):
        for run_id, error in list(errors.items())[:_SHOWN_RUNS]:
            out.print(f"[red]{title}[/]: {plain(run_id)}: {plain(error[:_SHOWN_CHARACTERS])}")
        _print_more(len(errors) - _SHOWN_RUNS, "runs")
    if report.left_out:
        out.print(f"the page leaves out: {plain('; '.join(report.left_out))}")
    tables = ", ".join(path.name for path in report.tables)
    out.print(f"report: [bold]{plain(str(report.page))}[/] ({len(report.plots)} plots); {tables} beside it")


def _print_areas(report: vclimb.Report) -> None:
    """Print the mean accuracy of each kind of memory over the range of bytes that all curves share."""
    if not report.areas.range_text:
        return
    table = new_table("kind of memory", f"mean Acc over log bytes, {report.areas.range_text}", left=("kind of memory",))
    for row in report.areas.rows[:_SHOWN_RUNS]:
        table.add_row(plain(row.kind), row.in_words)
    out.print(table)
    _print_more(len(report.areas.rows) - _SHOWN_RUNS, "kinds of memory")


def _print_more(n_more: int, what: str) -> None:
    if n_more > 0:
        out.print(f"  ... and {n_more:,} {what} more (--json lists all)")
