"""`vclimb study`: many runs that differ in a few settings, and one report."""

from __future__ import annotations

from typing import Annotated

import typer

import vclimb
from vclimb.cli import advise
from vclimb.cli.console import EXIT_FAILED, explain_errors, print_json, print_result, print_warnings_as_lines
from vclimb.cli.jobs_option import Jobs, number_of_jobs
from vclimb.cli.ray_option import RayAddress, use_ray_address
from vclimb.cli.study_table import print_capacities, print_estimate, print_method_bytes, print_report, print_summary

app = typer.Typer(
    name="study",
    no_args_is_help=True,
    help="What does each byte of memory buy? Run many settings, and read one report.",
)


@app.command("run")
def run(
    study: Annotated[
        str,
        typer.Argument(help="A study as TOML, or a preset, e.g. memory-vs-frames, kinds-of-memory or codecs."),
    ],
    data: Annotated[str, typer.Option(help="A prepared data set, e.g. shards/NAME.")],
    target: Annotated[str, typer.Option("--out", "-o", help="The study's folder, e.g. studies/NAME.", metavar="PATH")],
    axis: Annotated[
        list[str] | None,
        typer.Option("--axis", metavar="NAME=V,V", help="Vary a setting, e.g. frames=1,8,all. Repeatable."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of all runs, e.g. model.size=112. Repeatable."),
    ] = None,
    budgets: Annotated[
        str | None,
        typer.Option(
            help="Budgets that all cells share, in place of all others: 1MB,2MB or 2%,5% of the training data."
        ),
    ] = None,
    equal: Annotated[
        str | None, typer.Option(help="What budgets count, the same in all cells: bytes, videos, frames, or several.")
    ] = None,
    jobs: Jobs = None,
    jobs_per_gpu: Annotated[
        int | None, typer.Option(min=1, help="Runs that share a GPU, in place of --jobs. Default: 1.")
    ] = None,
    gpus: Annotated[
        str, typer.Option(help="GPUs to spread runs over, e.g. 0,1, counted among the visible ones; auto: all.")
    ] = "auto",
    executor: Annotated[
        str,
        typer.Option(help="What places the runs: local, ray, the name of an installed one, or package.module:Class."),
    ] = "local",
    ray_address: RayAddress = None,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="I/N", help="The i-th of n parts of the study, 1/4 to 4/4, such as in an array job. Default: all."
        ),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try runs again that failed before.")] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Runs to compute at most now, the first seeds first. Default: all.")
    ] = None,
    no_beginnings: Annotated[
        bool,
        typer.Option(
            "--no-beginnings", help="Train the first task in each run, also where runs could share it. Same results."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the cells, their expected time and bytes; run nothing.")
    ] = False,
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, help="For --dry-run: training clips a second of one run, as `vclimb bench` measures."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the state of each run (or the plan) as JSON.")] = False,
) -> None:
    """Run what a study still needs. A complete run is never run again, whatever was killed before.

    Runs that fail are named and stop no others. The exit status is 1 if one failed.
    """

    def work() -> vclimb.Estimate | vclimb.StudyResult:
        use_ray_address(ray_address)
        n_jobs = number_of_jobs(jobs)
        definition = vclimb.Study(study, axes=axis, settings=set_, budgets=budgets, equal=equal)
        if dry_run:
            return definition.estimate(
                data,
                target,
                jobs=n_jobs,
                gpus=gpus,
                rate=rate,
                retry_failed=retry_failed,
                only=only,
                beginnings=not no_beginnings,
            )
        return definition.run(
            data,
            target,
            jobs=n_jobs,
            jobs_per_gpu=jobs_per_gpu,
            gpus=gpus,
            retry_failed=retry_failed,
            executor=executor,
            only=only,
            limit=limit,
            beginnings=not no_beginnings,
            progress=not as_json,
        )

    print_warnings_as_lines()
    result = explain_errors(work, f"Runs go on where they were: run the same command again. Folder: {target}")
    if as_json:
        print_json(result.to_json())
    elif isinstance(result, vclimb.Estimate):
        print_estimate(result)
    else:
        print_summary(result)
    if isinstance(result, vclimb.StudyResult) and not result.is_complete:
        raise typer.Exit(EXIT_FAILED)


@app.command("report")
def report(
    study: Annotated[str, typer.Argument(help="The study's folder, e.g. studies/NAME, or any folder of run folders.")],
    target: Annotated[
        str | None, typer.Option("--out", "-o", help="Where to write to. Default: the study's folder.", metavar="PATH")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Read run folders, and write report.html (which needs no network), results.parquet, results.csv and plots.

    It prints the best cell for each budget, and what the next doubling of bytes buys.
    """
    written = explain_errors(
        lambda: vclimb.StudyResult.load(study).report(target, progress=False if as_json else None),
        "Nothing is half written.",
    )
    print_result(written, as_json, print_report)


@app.command("plan")
def plan(
    budget: Annotated[str, typer.Option(help="E.g. 64MB (on disk), 2020v (videos), 16160f (frames).")],
    data: Annotated[str, typer.Option(help="A prepared data set, e.g. shards/NAME.")],
    codecs: Annotated[
        str | None, typer.Option(help="Codecs to compare, e.g. copy,jpeg:75@128,features:fp16. Default: eight.")
    ] = None,
    frames: Annotated[str, typer.Option(help="Numbers of frames of a video to compare.")] = "1,2,4,8,16,all",
    rebalance: Annotated[
        bool | None,
        typer.Option(
            "--rebalance/--no-rebalance",
            help="Give other classes what a class can't use of its share. Default: in bytes.",
        ),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME",
            help='Methods whose other bytes to count, e.g. ewc,{name="analytic",head="ridge"}. Default: all.',
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the runs, e.g. model.backbone=NAME. Repeatable."),
    ] = None,
    sample: Annotated[int, typer.Option(min=1, help="Number of videos encoded to measure the bytes of a frame.")] = 12,
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")] = False,
) -> None:
    """Without training: how many videos and frames a budget holds, and what methods keep besides exemplars.

    The bytes of a frame are measured on a sample of the training videos, for each codec and number of frames. Those of
    statistics and parameters follow from the network and the number of classes.
    """

    def work() -> tuple[list[vclimb.Capacity], list[vclimb.MethodBytes]]:
        kept = vclimb.method_bytes(data, budget, methods=methods, settings=set_)
        choices = vclimb.capacities(
            data, budget, codecs=codecs, frames=frames, settings=set_, sample=sample, rebalance=rebalance
        )
        return choices, kept

    choices, kept = explain_errors(work, "Nothing was changed.")
    if as_json:
        rows = [choice.to_json() for choice in choices]
        others = [method.to_json() for method in kept]
        print_json({"budget": budget, "data": data, "sample": sample, "choices": rows, "methods": others})
    else:
        print_capacities(budget, choices)
        print_method_bytes(budget, kept)


app.command("advise")(advise.command)
