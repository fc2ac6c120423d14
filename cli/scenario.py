"""`vclimb scenario`: what a scenario holds, and scenarios as JSON files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from vclimb.cli.console import explain_errors, out, plain, print_json
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.sources.splits import SPLITS
from vclimb.scenario import Scenario, TaskPlan, open_scenario, scenario_of_dataset, write_scenario
from vclimb.scenario.leakage import LeakageShare
from vclimb.scenario.made import TEST_SHARE
from vclimb.scenario.matching import PROBLEMS, MatchedScenario, summary
from vclimb.scenario.report import ScenarioReport, n_videos

app = typer.Typer(name="scenario", no_args_is_help=True, help="Look at a class-incremental scenario, or make one.")

Untrimmed = Annotated[
    bool, typer.Option("--untrimmed", help="Of an ActivityNet pickle: whole videos, rather than their segments.")
]
_SHOWN_LEFT_OUT = 10
_SHOWN_CLASSES = 3


@app.command("show")
def show(
    scenario: Annotated[Path, typer.Argument(help="A scenario as JSON, or a task file (pickle) of the benchmark.")],
    data: Annotated[
        str | None, typer.Option("--data", help="A prepared data set, e.g. shards/NAME: say what it lacks.")
    ] = None,
    untrimmed: Untrimmed = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON, all classes listed.")] = False,
) -> None:
    """Show tasks, classes, counts, and how many evaluation clips share their source with training clips."""

    def work() -> ScenarioReport:
        opened = None if data is None else StoredDataset.open(data)
        return ScenarioReport.of(open_scenario(scenario, untrimmed), opened)

    report = explain_errors(work, "Nothing was changed.")
    if as_json:
        print_json(report.to_json())
    else:
        _print(report)


@app.command("export")
def export(
    source: Annotated[str, typer.Argument(help="A prepared data set, e.g. shards/NAME, or a task file (pickle).")],
    target: Annotated[Path, typer.Option("--out", "-o", help="The JSON file to write.")],
    tasks: Annotated[
        int | None, typer.Option(help="Of a data set: so many tasks; the first takes the classes that remain.")
    ] = None,
    base: Annotated[
        int | None, typer.Option(help="Of a data set: so many classes first, then --step at a time.")
    ] = None,
    step: Annotated[int | None, typer.Option(help="Classes of each task after a --base.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the order of classes, and of a group split. Default: 0.")] = None,
    split: Annotated[
        str | None, typer.Option(help="own: the data set's splits (default); group: a new one that parts no source.")
    ] = None,
    test_share: Annotated[
        float | None, typer.Option(help=f"Of each class's clips, in a group split. Default: {TEST_SHARE:g}.")
    ] = None,
    untrimmed: Untrimmed = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures of `show` as JSON.")] = False,
) -> None:
    """Write a scenario as JSON: the benchmark's, from its task file, or one made from a prepared data set.

    The same data set, options and seed always give the same file.
    """

    def work() -> ScenarioReport:
        made = {"--tasks": tasks, "--base": base, "--step": step, "--seed": seed, "--split": split}
        given = [flag for flag, value in {**made, "--test-share": test_share}.items() if value is not None]
        if os.path.isfile(source):
            if given:
                raise SettingsError(
                    f"{source!r} is a file, whose tasks are fixed; {given[0]} is for a prepared data set"
                )
            scenario = open_scenario(source, untrimmed)
        else:
            if untrimmed:
                raise SettingsError(f"--untrimmed is for a task file; {source!r} is none")
            scenario = _of_dataset(source, TaskPlan(tasks, base, step, seed or 0), split or "own", test_share)
        write_scenario(scenario, target)
        return ScenarioReport.of(scenario)

    report = explain_errors(work, "Nothing was written.")
    if as_json:
        print_json({**report.to_json(), "out": str(target)})
    else:
        _print(report)
        out.print(f"written: [bold]{plain(str(target))}[/]")


def _of_dataset(source: str, plan: TaskPlan, split: str, test_share: float | None) -> Scenario:
    if test_share is not None and split != "group":
        raise SettingsError(f"--test-share {test_share:g} needs --split group; the data set's own splits are fixed")
    share = TEST_SHARE if test_share is None else test_share
    return scenario_of_dataset(StoredDataset.open(source), plan, split, share)


def _print(report: ScenarioReport) -> None:
    scenario = report.scenario
    out.print(f"[bold]{plain(scenario.name)}[/]: {len(scenario)} tasks, {len(scenario.classes)} classes")
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column()
    if scenario.origin:
        grid.add_row("from", plain(scenario.origin))
    for split in SPLITS:
        if count := scenario.count(split):
            grid.add_row(split, f"{count:,} instances of {n_videos(scenario.instances(split)):,} videos")
    for split, found in report.leakage.items():
        unknown = (
            f"; {found.unknown:,} clips' sources are unknown: only their own video counts" if found.unknown else ""
        )
        grid.add_row(
            "leakage",
            f"{_percent(found.overall)} of {split} clips share their source with a training clip "
            f"({found.overall.leaked:,} of {found.overall.clips:,}){unknown}",
        )
    out.print(grid)
    out.print(_task_table(report))
    if report.matched is not None:
        _print_matched(report.matched, str(report.dataset))


def _task_table(report: ScenarioReport) -> Table:
    splits = [split for split in SPLITS if report.scenario.count(split)]
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for name in ("task", "classes", *splits, *(f"{split} leakage" for split in report.leakage)):
        table.add_column(name, justify="right")
    table.add_column("names")
    for number, task in enumerate(report.scenario):
        counts = [f"{len(task.split(split)):,}" for split in splits]
        leaks = [_percent(found.tasks[number]) for found in report.leakage.values()]
        more = len(task.classes) - _SHOWN_CLASSES
        names = ", ".join(map(plain, task.classes[:_SHOWN_CLASSES])) + (f" and {more} more" if more > 0 else "")
        table.add_row(str(number + 1), str(len(task.classes)), *counts, *leaks, names)
    return table


def _print_matched(matched: MatchedScenario, dataset: str) -> None:
    if not matched.left_out:
        out.print(f"all of it is in data set [bold]{plain(dataset)}[/]")
        return
    out.print(f"data set [bold]{plain(dataset)}[/] lacks {plain(summary(matched.left_out))}")
    for one in matched.left_out[:_SHOWN_LEFT_OUT]:
        out.print(f"  task {one.task + 1}, {one.split}, {PROBLEMS[one.problem]}: {plain(one.reason)}")
    if (more := len(matched.left_out) - _SHOWN_LEFT_OUT) > 0:
        out.print(f"  ... and {more:,} more (--json lists all)")
    if any(one.problem != "empty" for one in matched.left_out):
        out.print("[yellow]training on this data set stops, unless with --allow-missing[/]")


def _percent(share: LeakageShare) -> str:
    return "-" if share.share is None else f"{100 * share.share:.1f} %"
