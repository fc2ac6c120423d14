"""`vclimb scenario`: figures of a scenario, and scenarios as JSON files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

import vclimb
from vclimb.cli.console import explain_errors, new_grid, new_table, out, plain, print_json, print_result

app = typer.Typer(name="scenario", no_args_is_help=True, help="Look at a class-incremental scenario, or make one.")

Untrimmed = Annotated[
    bool, typer.Option("--untrimmed", help="Of an ActivityNet pickle: whole videos, rather than their segments.")
]
_SHOWN_LEFT_OUT = 10
_SHOWN_CLASSES = 3


@app.command("show")
def show(
    scenario: Annotated[str, typer.Argument(help="A scenario as JSON, or a task file (pickle) of the benchmark.")],
    data: Annotated[
        str | None, typer.Option("--data", help="A prepared data set, e.g. shards/NAME: list what it lacks.")
    ] = None,
    untrimmed: Untrimmed = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON, all classes listed.")] = False,
) -> None:
    """Show tasks, classes, counts, and how many evaluation clips share their source with training clips."""
    report = explain_errors(
        lambda: vclimb.Scenario.open(scenario, untrimmed=untrimmed).report(data), "Nothing was changed."
    )
    print_result(report, as_json, _print)


@app.command("export")
def export(
    source: Annotated[str, typer.Argument(help="A prepared data set, e.g. shards/NAME, or a task file (pickle).")],
    target: Annotated[str, typer.Option("--out", "-o", help="The JSON file to write.", metavar="PATH")],
    tasks: Annotated[
        int | None, typer.Option(help="Of a data set: number of tasks; the first takes the classes that remain.")
    ] = None,
    base: Annotated[
        int | None, typer.Option(help="Of a data set: number of classes in the first task; needs --step.")
    ] = None,
    step: Annotated[int | None, typer.Option(help="Number of classes in each task after a --base.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the order of classes, and of a group split. Default: 0.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="own: the data set's splits (default); group: a new one that keeps sources together."),
    ] = None,
    test_share: Annotated[
        float | None, typer.Option(help="Share of test clips of each class in a group split. Default: 0.3.")
    ] = None,
    untrimmed: Untrimmed = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures of `show` as JSON.")] = False,
) -> None:
    """Write a scenario as JSON: the benchmark's, from its task file, or one made from a prepared data set.

    The same data set, options and seed always give the same file.
    """
    flags: dict[str, Any] = {"tasks": tasks, "base": base, "step": step}
    flags |= {"seed": seed, "split": split, "test_share": test_share}
    given = {name: value for name, value in flags.items() if value is not None}

    def work() -> vclimb.ScenarioReport:
        if Path(source).is_file():
            if given:
                flag = next(iter(given)).replace("_", "-")
                raise vclimb.SettingsError(f"{source!r} is a file, whose tasks are fixed; leave out --{flag}")
            scenario = vclimb.Scenario.open(source, untrimmed=untrimmed)
        elif untrimmed:
            raise vclimb.SettingsError(f"--untrimmed is for a task file; {source!r} is none")
        else:
            scenario = vclimb.Scenario.from_dataset(source, **given)
        scenario.save(target)
        return scenario.report()

    report = explain_errors(work, "Nothing was written.")
    if as_json:
        print_json({**report.to_json(), "out": str(target)})
    else:
        _print(report)
        out.print(f"written: [bold]{plain(str(target))}[/]")


def _print(report: vclimb.ScenarioReport) -> None:
    scenario = report.scenario
    out.print(f"[bold]{plain(scenario.name)}[/]: {len(scenario)} tasks, {len(scenario.classes)} classes")
    grid = new_grid(style="dim")
    if scenario.origin:
        grid.add_row("from", plain(scenario.origin))
    for split, counts in report.splits.items():
        if counts.instances:
            grid.add_row(split, f"{counts.instances:,} instances of {counts.videos:,} videos")
    for split, leakage in report.leakage.items():
        unknown = (
            f"; {leakage.unknown:,} clips' sources are unknown: only their own video counts" if leakage.unknown else ""
        )
        grid.add_row(
            "leakage",
            f"{leakage.overall} of {split} clips share their source with a training clip "
            f"({leakage.overall.leaked:,} of {leakage.overall.clips:,}){unknown}",
        )
    out.print(grid)
    out.print(_task_table(report))
    if report.matched is not None:
        _print_left_out(report)


def _task_table(report: vclimb.ScenarioReport) -> Table:
    splits = [split for split, counts in report.splits.items() if counts.instances]
    table = new_table("task", "classes", *splits, *(f"{split} leakage" for split in report.leakage))
    table.add_column("names")
    for number, task in enumerate(report.scenario):
        counts = [f"{len(task.split(split)):,}" for split in splits]
        leaks = [str(leakage.tasks[number]) for leakage in report.leakage.values()]
        more = len(task.classes) - _SHOWN_CLASSES
        names = ", ".join(map(plain, task.classes[:_SHOWN_CLASSES])) + (f" and {more} more" if more > 0 else "")
        table.add_row(str(number + 1), str(len(task.classes)), *counts, *leaks, names)
    return table


def _print_left_out(report: vclimb.ScenarioReport) -> None:
    assert report.matched is not None
    name, left_out = plain(str(report.dataset)), report.matched.left_out
    if not left_out:
        out.print(f"data set [bold]{name}[/] has all of it")
        return
    out.print(f"data set [bold]{name}[/] lacks {plain(report.matched.losses)}")
    for lost in left_out[:_SHOWN_LEFT_OUT]:
        out.print(f"  {plain(str(lost))}")
    if (more := len(left_out) - _SHOWN_LEFT_OUT) > 0:
        out.print(f"  ... and {more:,} more (--json lists all)")
    if any(lost.problem != "empty" for lost in left_out):
        out.print("[yellow]training on this data set stops, unless with --allow-missing[/]")
