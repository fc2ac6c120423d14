"""`vclimb synth`: draw the built-in data set."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

import vclimb
from vclimb.cli.console import explain_errors, out, plain, print_json


def synth(
    folder: Annotated[str, typer.Argument(metavar="OUT", help="Folder to write: new, empty, or from an earlier run.")],
    classes: Annotated[int, typer.Option(help="Number of classes, 2 to 16 (motion: 2 to 18).")] = 12,
    train: Annotated[int, typer.Option(help="Number of training clips of each class.")] = 8,
    test: Annotated[int, typer.Option(help="Number of test clips of each class, in scenes of their own.")] = 4,
    seed: Annotated[int, typer.Option(help="Seed that fixes every frame, on any machine.")] = 0,
    told_apart_by: Annotated[
        Literal["appearance", "motion"],
        typer.Option(help="What tells classes apart. motion: all classes show the same frames in different orders."),
    ] = "appearance",
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Draw a small labelled set of real video files, to try everything without a download.

    Textured shapes move before backdrops; a class is a shape and a texture, or with --told-apart-by motion a trajectory
    of two objects, of which single frames tell nothing. Sizes, frame rates and containers (mp4, avi, webm) vary. Train
    and test share no scene, colour or backdrop. `vclimb prepare` takes OUT next.

    Run the command again at any time: only missing files are drawn.
    """
    progress = False if as_json else None
    summary = explain_errors(
        lambda: vclimb.synth(
            folder,
            classes=classes,
            train=train,
            test=test,
            seed=seed,
            told_apart_by=told_apart_by,
            progress=progress,
        ),
        "What is drawn is kept: run the same command again to go on.",
    )
    following = shlex.join(["vclimb", "prepare", str(folder), "--out", f"shards/{Path(folder).resolve().name}"])
    if as_json:
        print_json({**summary.to_json(), "next": following})
        return
    kept = f", {summary.kept} there already" if summary.kept else ""
    out.print(f"[bold]{summary.drawn}[/] clips drawn{kept}")
    out.print(
        f"[bold]{plain(str(folder))}[/]: {len(summary.classes)} classes, "
        + ", ".join(f"{count} {split} clips" for split, count in summary.splits.items())
        + f"; {summary.frames:,} frames, {summary.seconds:,.0f} s of video, {summary.bytes / 1e6:,.1f} MB"
    )
    out.print(f"frames sha256 {summary.frames_sha256}", style="dim")
    out.print(f"next: [bold]{plain(following)}[/]")
