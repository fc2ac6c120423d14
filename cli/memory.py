"""`vclimb memory`: what a replay memory costs and what it looks like, and memories packed without any training."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vclimb.cli.console import EXIT_FAILED, explain_errors, out, plain, print_json, progress
from vclimb.cli.memory_table import print_damage, print_packed, print_quality, print_report
from vclimb.memory.report import MemoryReport, memory_of
from vclimb.pipeline.dataset.contact_sheet import write_png
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.errors import SettingsError

if TYPE_CHECKING:  # torch takes seconds to import: only packing does
    from vclimb.memory.pack import MemoryQuality, Packing
    from vclimb.memory.replay import MemorySettings, UpdateReport
    from vclimb.memory.sheet import MemorySheet

app = typer.Typer(name="memory", no_args_is_help=True, help="Look at a replay memory, or pack one without training.")
# The library warns of what the summary tells.
logging.getLogger("vclimb.memory").addHandler(logging.NullHandler())

Png = Annotated[Path | None, typer.Option("--png", help="Draw a PNG: rows are classes, the kept frames are seen.")]


@app.command("show")
def show(
    memory: Annotated[Path, typer.Argument(help="A memory, e.g. RUN/memory.zarr, or the folder of a run.")],
    png: Png = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read all of it and name what is damaged; exit status 1 then.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")] = False,
) -> None:
    """Show what a memory keeps and costs: in all, and class by class. It may be in use meanwhile."""

    def work() -> tuple[MemoryReport, MemorySheet | None]:
        path = memory_of(memory)
        _check_png(png, path)
        with progress("", quiet=as_json) as bar:
            bar.add_task("reading", total=None, note="")
            report = MemoryReport.of(path, verify)
            return report, None if png is None else _draw(report, png)

    report, sheet = explain_errors(work, "Nothing was changed.")
    if as_json:
        print_json({**report.to_json(), "png": _sheet_json(sheet, png)})
    else:
        print_report(memory_of(memory), report)
        _print_sheet(sheet, png)
        print_damage(report)
    if report.damaged:
        raise typer.Exit(EXIT_FAILED)


@dataclass(frozen=True)
class _Packed:
    """What came of packing."""

    packing: Packing
    settings: MemorySettings
    update: UpdateReport
    report: MemoryReport
    quality: MemoryQuality | None
    sheet: MemorySheet | None


@app.command("pack")
def pack(
    dataset: Annotated[str, typer.Argument(help="A prepared data set, e.g. shards/NAME.")],
    budget: Annotated[str, typer.Option(help="At most: 2020v (videos), 16160f (frames), 64MB (on disk), none or all.")],
    target: Annotated[Path, typer.Option("--out", "-o", help="The memory to make, e.g. m.zarr.")],
    frames: Annotated[str, typer.Option(help="Frames of a video that are kept, or all.")] = "8",
    codec: Annotated[
        str, typer.Option(help="copy, raw, or e.g. jpeg:75, webp:75, avif:60, h264:24, h264:24@128 (short side).")
    ] = "copy",
    videos: Annotated[
        str, typer.Option(help="Which videos of a class: random, or spread over source groups.")
    ] = "random",
    frame_choice: Annotated[
        str, typer.Option(help="Which frames of a video: uniform, random, first, middle or diverse.")
    ] = "uniform",
    rebalance: Annotated[
        bool, typer.Option("--rebalance", help="Give others what classes of few videos can't use.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the random choices.")] = 0,
    split: Annotated[str | None, typer.Option(help="Of the data set, or all. Default: train if it has splits.")] = None,
    quality: Annotated[
        bool, typer.Option("--quality", help="Measure PSNR and SSIM of the kept frames against what was encoded.")
    ] = False,
    png: Png = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Pack a memory from shards, all classes at once and without training, to look at budgets and codecs.

    A memory that is there already is left alone. What is stopped half way leaves nothing but an empty memory.
    """

    def work() -> _Packed:
        with progress("exemplars", quiet=as_json) as bar:
            task = bar.add_task("opening", total=None, note="")
            from vclimb.memory.choice.budget import MemoryBudget
            from vclimb.memory.choice.frames import parse_frame_count
            from vclimb.memory.pack import Packing
            from vclimb.memory.replay import MemorySettings

            settings = MemorySettings(
                budget=MemoryBudget.parse(budget),
                frames=parse_frame_count(frames),
                frame_choice=frame_choice,
                video_choice=videos,
                codec=codec,
                rebalance=rebalance,
                seed=seed,
            )
            _check_png(png, target)
            packing = Packing(StoredDataset.open(dataset), split)
            bar.update(task, description="encoding", total=_most_exemplars(packing, settings))
            update = packing.pack(target, settings, lambda: bar.advance(task))
            report = MemoryReport.of(target)
            measured = None
            if quality:
                bar.update(task, description="comparing", completed=0, total=report.usage.videos)
                measured = packing.quality(report.memory, lambda: bar.advance(task))
            bar.update(task, description="drawing")
            sheet = None if png is None else _draw(report, png)
            return _Packed(packing, settings, update, report, measured, sheet)

    packed = explain_errors(work, f"Nothing is half made: {target} holds all that was packed, or nothing.")
    if as_json:
        print_json(_packed_json(packed, dataset, png))
    else:
        print_packed(target, packed.packing, packed.settings, packed.update, packed.report)
        if packed.quality is not None:
            print_quality(packed.quality)
        _print_sheet(packed.sheet, png)
    if not packed.update.added and packed.settings.budget.kind != "none":
        raise typer.Exit(EXIT_FAILED)


def _check_png(png: Path | None, memory: Path) -> None:
    """Refuse a place for a picture that can't be one, before any work is done.

    Raises:
        SettingsError: it isn't called a PNG, its folder isn't there, or that is a memory, which holds nothing else.
    """
    if png is None:
        return
    if png.suffix.lower() != ".png":
        raise SettingsError(f"--png {str(png)!r} must end in .png")
    if memory.resolve() in png.resolve().parents:
        raise SettingsError(f"--png {str(png)!r} lies in the memory, which holds nothing else; choose another place")
    if not png.parent.is_dir():
        raise SettingsError(f"--png {str(png)!r}: there is no folder {str(png.parent)!r}")


def _draw(report: MemoryReport, png: Path) -> MemorySheet:
    from vclimb.memory.sheet import memory_sheet

    sheet = memory_sheet(report.memory, report.usage)
    try:
        write_png(sheet.picture, png)
    except OSError as error:
        raise SettingsError(f"--png {str(png)!r} can't be written: {error.strerror}") from None
    return sheet


def _print_sheet(sheet: MemorySheet | None, png: Path | None) -> None:
    if sheet is None:
        return
    damaged = f", [red]{sheet.n_damaged} of them damaged[/]" if sheet.n_damaged else ""
    out.print(
        f"contact sheet: [bold]{plain(str(png))}[/], {sheet.n_classes:,} classes, "
        f"{sheet.n_exemplars:,} exemplars{damaged}"
    )


def _sheet_json(sheet: MemorySheet | None, png: Path | None) -> dict[str, Any] | None:
    if sheet is None:
        return None
    return {
        "path": str(png),
        "classes": sheet.n_classes,
        "exemplars": sheet.n_exemplars,
        "damaged": sheet.n_damaged,
        "width": sheet.picture.width,
        "height": sheet.picture.height,
    }


def _most_exemplars(packing: Packing, settings: MemorySettings) -> int | None:
    """How many exemplars there can be at most, as far as it is known before they are encoded."""
    n_candidates = len(packing.provider.items)
    most = {"videos": settings.budget.amount, "all": n_candidates, "none": 0}.get(settings.budget.kind)
    return None if most is None else min(most, n_candidates)


def _packed_json(packed: _Packed, dataset: str, png: Path | None) -> dict[str, Any]:
    return {
        **packed.report.to_json(),
        "packed": {
            "dataset": dataset,
            "split": packed.packing.split,
            **asdict(packed.settings),
            "budget": str(packed.settings.budget),
            "candidates": len(packed.packing.provider.items),
            "classes_of_candidates": len(packed.packing.classes),
            "passed_over": packed.update.skipped,
            "seconds": packed.update.seconds,
        },
        "quality": None if packed.quality is None else asdict(packed.quality),
        "png": _sheet_json(packed.sheet, png),
    }
