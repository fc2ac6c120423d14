"""`vclimb study advise`: which kind of memory to keep on a data set, by a pilot of minutes."""

from __future__ import annotations

from typing import Annotated

import typer

import vclimb
from vclimb.cli.console import explain_errors, new_table, out, plain, print_result, print_warnings_as_lines
from vclimb.cli.jobs_option import Jobs, number_of_jobs


def command(
    data: Annotated[str, typer.Option(help="A prepared data set, e.g. shards/NAME.")],
    budget: Annotated[str, typer.Option(help="Bytes that may be kept of all classes, e.g. 4MB.")],
    target: Annotated[
        str, typer.Option("--out", "-o", help="The pilot's folder, e.g. studies/advise-NAME.", metavar="PATH")
    ],
    tasks: Annotated[
        int | None,
        typer.Option(min=2, help="Number of tasks of all classes. Default: 10, or so many that each has two classes."),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Number of epochs of each task of the pilot.")] = 10,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 2,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting of all runs, e.g. model.size=112; training.epochs is for the printed command. Repeatable.",
        ),
    ] = None,
    config: Annotated[
        str | None, typer.Option(help="Settings of all runs as TOML, such as a run's config.toml.", metavar="PATH")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Device of the networks: auto, cpu or cuda. Default: auto.")
    ] = None,
    jobs: Jobs = None,
    gpus: Annotated[
        str, typer.Option(help="GPUs to spread runs over, e.g. 0,1, counted among the visible ones; auto: all.")
    ] = "auto",
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try runs again that failed before.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")] = False,
) -> None:
    """Say what to keep on a data set: statistics or features of a frozen network, or frames.

    A pilot compares them on the first two tasks, with few epochs and the classes' share of the budget. It prints the
    command that trains with the most accurate kind, and which kinds are within one standard error of it. A pilot that
    was stopped goes on by the same command.
    """
    print_warnings_as_lines()
    advice = explain_errors(
        lambda: vclimb.advise(
            data,
            budget,
            target,
            tasks=tasks,
            epochs=epochs,
            seeds=seeds,
            config=config,
            settings=set_,
            device=device,
            jobs=number_of_jobs(jobs),
            gpus=gpus,
            retry_failed=retry_failed,
            progress=not as_json,
        ),
        f"Runs go on where they were: run the same command again. Folder: {target}",
    )
    print_result(advice, as_json, _print)


def _print(advice: vclimb.Advice) -> None:
    table = new_table("kind of memory", "Acc", "error", "noise", "videos\na class", "bytes")
    table.columns[0].justify = "left"
    for row in advice.rows():
        is_chosen = row["kind"] == advice.ranking.best.name
        videos = row["videos_per_class"]
        table.add_row(
            f"[bold]{plain(row['kind'])}[/]" if is_chosen else plain(row["kind"]),
            f"{100 * row['accuracy']:.1f}",
            f"{100 * row['standard_error']:.1f}",
            "within" if row["as_good_as_the_best"] and not is_chosen else "",
            "-" if videos is None else f"{videos:,.1f}",
            f"{row['bytes']:,}",
        )
    out.print(table)
    for name, reason in advice.pilot.left_out.items():
        out.print(f"left out: {plain(name)}: {plain(reason)}")
    out.print(
        f"[dim]Acc and its standard error: of the pilot, in percent: {plain(advice.scope)}. Within noise: less than "
        "one standard error below the best. Videos and bytes: of all classes.[/]"
    )
    out.print(f"[bold]{plain(advice.sentences)}[/]")
    out.print(f"train with it: {plain(advice.command_text)}")
    out.print(f"[dim]runs of the pilot: {plain(str(advice.folder))}[/]")
