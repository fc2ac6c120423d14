"""`vclimb memory`: show what a replay memory holds and costs, and pack one without training."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

import vclimb
from vclimb.cli.console import EXIT_FAILED, explain_errors, print_json
from vclimb.cli.memory_table import print_damage, print_memory, print_packed, print_quality, print_sheet

app = typer.Typer(name="memory", no_args_is_help=True, help="Look at a replay memory, or pack one without training.")
# The summary says what the library warns of.
logging.getLogger("vclimb.memory").addHandler(logging.NullHandler())

Png = Annotated[
    str | None, typer.Option("--png", help="Draw a PNG: a row for each class, with the kept frames.", metavar="PATH")
]


@app.command("show")
def show(
    memory: Annotated[str, typer.Argument(help="A memory, e.g. RUN/memory.zarr, or the folder of a run.")],
    png: Png = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read all of it and name what is damaged; exit status 1 then.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")] = False,
) -> None:
    """Show what a memory keeps and costs: in all, and class by class. It may be in use meanwhile."""

    def work() -> tuple[
        vclimb.Memory, vclimb.SheetSummary | None, tuple[vclimb.Damage | vclimb.ArrayDamage, ...] | None
    ]:
        opened = vclimb.Memory.open(memory)
        sheet = None if png is None else opened.sheet(png)
        return opened, sheet, opened.verify(progress=not as_json) if verify else None

    opened, sheet, damaged = explain_errors(work, "Nothing was changed.")
    if as_json:
        names = None if damaged is None else [damage.to_json() for damage in damaged]
        print_json({**opened.to_json(), "damaged": names, "png": None if sheet is None else sheet.to_json()})
    else:
        print_memory(opened)
        print_sheet(sheet)
        print_damage(opened, damaged)
    if damaged:
        raise typer.Exit(EXIT_FAILED)


@app.command("pack")
def pack(
    dataset: Annotated[str, typer.Argument(help="A prepared data set, e.g. shards/NAME.")],
    budget: Annotated[str, typer.Option(help="At most: 2020v (videos), 16160f (frames), 64MB (on disk), none or all.")],
    target: Annotated[str, typer.Option("--out", "-o", help="The memory to make, e.g. m.zarr.", metavar="PATH")],
    frames: Annotated[str, typer.Option(help="Number of frames kept of each video, or all.")] = "8",
    codec: Annotated[
        str,
        typer.Option(help="auto (fits the data set), copy, raw, or e.g. jpeg:75, h264:24, h264:24@128."),
    ] = "auto",
    videos: Annotated[
        str, typer.Option(help="Which videos of a class: random, or spread over source groups.")
    ] = "random",
    frame_choice: Annotated[
        str, typer.Option(help="Which frames of a video: uniform, random, first, middle or diverse.")
    ] = "uniform",
    rebalance: Annotated[
        bool | None,
        typer.Option("--rebalance/--no-rebalance", help="Give others what a class can't use. Default: where in bytes."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random choices.")] = 0,
    split: Annotated[
        str | None, typer.Option(help="Split of the data set, or all. Default: train if it has splits.")
    ] = None,
    quality: Annotated[
        bool, typer.Option("--quality", help="Measure PSNR and SSIM of the kept frames against what was encoded.")
    ] = False,
    png: Png = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Pack a memory from shards, all classes at once and without training, to look at budgets and codecs.

    An existing memory is left alone. What is stopped half way leaves an empty memory.
    """
    memory = explain_errors(
        lambda: vclimb.pack(
            dataset,
            target,
            budget=budget,
            frames=frames,
            codec=codec,
            frame_choice=frame_choice,
            video_choice=videos,
            rebalance=rebalance,
            seed=seed,
            split=split,
            quality=quality,
            sheet=png,
            progress=not as_json,
        ),
        f"Nothing is half made: {target} holds all that was packed, or nothing.",
    )
    packed, sheet = memory.packed, memory.sheet_summary
    assert packed is not None
    if as_json:
        measured = None if packed.quality is None else packed.quality.to_json()
        drawn = None if sheet is None else sheet.to_json()
        print_json({**memory.to_json(), "damaged": None, "packed": packed.to_json(), "quality": measured, "png": drawn})
    else:
        print_packed(memory, packed)
        if packed.quality is not None:
            print_quality(packed.quality)
        print_sheet(sheet)
    if not packed.added and packed.settings.budget.kind != "none":
        raise typer.Exit(EXIT_FAILED)
