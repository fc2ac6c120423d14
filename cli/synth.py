"""`vclimb synth`: the built-in data set."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from vclimb.cli.console import explain_errors, out, plain, print_json, progress
from vclimb.pipeline.synth.dataset import MAX_CLASSES, MIN_CLASSES, SynthSettings, SynthSummary, write_dataset
from vclimb.pipeline.system.cores import available_cores
from vclimb.pipeline.transcode.ffmpeg import find_ffmpeg


def synth(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write to: new, empty, or to go on with.")],
    classes: Annotated[int, typer.Option(help=f"Number of classes, {MIN_CLASSES} to {MAX_CLASSES}.")] = 12,
    train: Annotated[int, typer.Option(help="Training clips of each class.")] = 8,
    test: Annotated[int, typer.Option(help="Test clips of each class, in scenes of their own.")] = 4,
    seed: Annotated[int, typer.Option(help="Fixes every frame that is drawn, on any machine.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Draw a small labelled set of real video files, to try everything without a download.

    Textured shapes move before moving backdrops; a class is a shape and a texture. Sizes, frame rates and containers
    (mp4, avi, webm) vary. Train and test share no scene, colour or backdrop. OUT is what `vclimb prepare` takes next.

    Run it again at any time: only missing files are drawn.
    """

    def work() -> SynthSummary:
        settings = SynthSettings(classes, train, test, seed)
        with progress("clips", quiet=as_json) as bar:
            task = bar.add_task("drawing", total=None, note="")
            return write_dataset(
                folder,
                settings,
                find_ffmpeg(),
                n_workers=available_cores(),
                on_clip=lambda done, total: bar.update(task, completed=done, total=total),
            )

    summary = explain_errors(work, "What is drawn is kept: run the same command again to go on.")
    if as_json:
        print_json(
            {
                "out": str(summary.out),
                "seed": seed,
                "classes": summary.labels,
                "splits": summary.splits,
                "drawn": summary.drawn,
                "kept": summary.kept,
                "frames": summary.frames,
                "seconds": summary.seconds,
                "bytes": summary.bytes,
                "frames_sha256": summary.frames_sha256,
                "next": next_command(summary.out),
            }
        )
    else:
        print_summary(summary)


def print_summary(summary: SynthSummary) -> None:
    """The summary for people: what was drawn, where it lies, and what to do with it."""
    kept = f", {summary.kept} there already" if summary.kept else ""
    out.print(f"[bold]{summary.drawn}[/] clips drawn{kept}")
    out.print(
        f"[bold]{plain(str(summary.out))}[/]: {len(summary.labels)} classes, "
        + ", ".join(f"{count} {split} clips" for split, count in summary.splits.items())
        + f"; {summary.frames:,} frames, {summary.seconds:,.0f} s of video, {summary.bytes / 1e6:,.1f} MB"
    )
    out.print(f"frames sha256 {summary.frames_sha256}", style="dim")
    out.print(f"next: [bold]{plain(next_command(summary.out))}[/]")


def next_command(folder: Path) -> str:
    """The command that prepares the data set, to be pasted into a shell."""
    return shlex.join(["vclimb", "prepare", str(folder), "--out", f"shards/{folder.resolve().name}"])
