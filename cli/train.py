"""`vclimb train`: a run over the tasks of a scenario, or the plan of one."""

from __future__ import annotations

import os
import shlex
from typing import Annotated, Any

import typer

import vclimb
from vclimb.cli.console import explain_errors, print_json, print_warnings_as_lines
from vclimb.cli.train_summary import print_plan, print_run


def command(
    data: Annotated[
        str | None, typer.Argument(help="A prepared data set, e.g. shards/NAME. With --resume it may be left out.")
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Folder of the run, e.g. runs/NAME.", metavar="PATH")
    ] = None,
    scenario: Annotated[
        str | None, typer.Option(help="Scenario as JSON (`vclimb scenario export`), or a task file of the benchmark.")
    ] = None,
    tasks: Annotated[
        int | None, typer.Option(help="Number of tasks to deal the classes out to, in place of --scenario.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="own (the data set's, the default) or group: no source in both training and test."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="A method, or a class of your own as package.module:Class. Default: naive.\n\n"
            + "\n\n".join(f"{name}: {summary}" for name, summary in vclimb.list_methods().items())
        ),
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Budget of the replay memory: 2020v (videos), 16160f (frames), 64MB (on disk).")
    ] = None,
    frames: Annotated[
        str | None, typer.Option(help="Number of frames kept of each video, all, or pilot. Default: 8.")
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(help="Encoding of exemplars: copy, jpeg:75@128, h264:24, ..., or pilot. Default: one that fits."),
    ] = None,
    tc: Annotated[float | None, typer.Option(help="Weight of temporal consistency, 0 (off) to 1.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Number of epochs of each task. Default: 50.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of everything that draws, except the order of classes. Default: 0.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Weights of the backbone: pretrained (downloaded; the default), none, or a file.")
    ] = None,
    compile: Annotated[
        bool, typer.Option("--compile", help="Let torch compile the backbone: a minute more, then faster steps.")
    ] = False,
    preset: Annotated[
        str | None, typer.Option(help="Row of the benchmark's tables whose settings are taken, e.g. ucf101-10/icarl.")
    ] = None,
    config: Annotated[
        str | None, typer.Option(help="Settings as TOML, such as a run's config.toml.", metavar="PATH")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any other setting, e.g. model.size=112; may be repeated."),
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Train without videos that the data set lacks.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, wherever it was stopped or killed.")
    ] = False,
    beginnings: Annotated[
        str | None,
        typer.Option(
            help="Folder of trainings of the first task, shared by runs that differ in the memory alone: one is taken "
            "from there, or left there.",
            metavar="PATH",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print tasks, steps and expected bytes of the memory; train nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the metrics (or the plan) as JSON.")] = False,
) -> None:
    """Train over the tasks of a scenario and measure what is remembered: the vCLIMB benchmark.

    Later settings win: --preset, --config, flags, --set. Several GPUs:
    `torchrun --nproc-per-node 4 -m vclimb.cli train ...`.
    """
    arguments: dict[str, Any] = {
        **locals(),
        "frames": int(frames) if frames is not None and frames.isdigit() else frames,
        "compile": compile or None,
    }
    for name in ("out", "resume", "beginnings", "dry_run", "as_json"):
        del arguments[name]
    print_warnings_as_lines()
    is_first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun started
    if dry_run:
        plan = explain_errors(lambda: vclimb.plan(**arguments))
        if is_first:
            print_json(plan.to_json()) if as_json else print_plan(plan)
        return

    def train() -> vclimb.Run:
        if out is None:
            raise vclimb.SettingsError("a run needs a folder; name one by --out, such as runs/NAME")
        return vclimb.train(**arguments, out=out, resume=resume, beginnings=beginnings, progress=not as_json)

    run = explain_errors(train, lambda: _how_to_go_on(out))
    if is_first and run.metrics is not None:
        print_json(run.metrics.to_json()) if as_json else print_run(run.folder, run.metrics)


def _how_to_go_on(out: str | None) -> str:
    try:
        vclimb.Run.load(out or os.devnull)
    except vclimb.VclimbError:
        return "Nothing was begun: give the same command again."
    processes = os.environ.get("LOCAL_WORLD_SIZE", "1")  # as torchrun says
    program = "vclimb" if processes == "1" else f"torchrun --nproc-per-node {processes} -m vclimb.cli"
    return f"Go on with: {program} train --resume --out {shlex.quote(str(out))}"
