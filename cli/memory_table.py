"""What the `vclimb memory` commands tell people of a memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from vclimb.cli.console import out, plain
from vclimb.memory.report import MemoryReport, bytes_per_frame, shortened

if TYPE_CHECKING:  # torch takes seconds to import: only packing does
    from vclimb.memory.pack import MemoryQuality, Packing
    from vclimb.memory.replay import MemorySettings, UpdateReport

_SHOWN_PROBLEMS = 50
_MIN_NAME_WIDTH = 12


def print_report(path: Path, report: MemoryReport) -> None:
    """The totals, and a row for each class, no wider than the terminal."""
    usage = report.usage
    print_heading(path, report)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column()
    grid.add_row("payload", f"{usage.payload_bytes:,} bytes of encoded frames")
    grid.add_row("on disk", f"{usage.files.apparent:,} bytes in {usage.n_files:,} files, which is what budgets count")
    grid.add_row("allocated", f"{usage.files.allocated:,} bytes; {_du(report):,} with folders, as du counts")
    if usage.frames:
        grid.add_row("a frame", f"{usage.bytes_per_frame:,.0f} bytes on disk")
        grid.add_row(
            "all frames",
            f"about {report.every_frame_bytes / 1e3:,.0f} kB (estimate: {usage.source_frames:,} frames of this size)",
        )
    out.print(grid)
    if usage.classes:
        out.print(_table(report))


def print_heading(path: Path, report: MemoryReport) -> None:
    """What the memory holds, in a line."""
    usage = report.usage
    out.print(
        f"[bold]{plain(str(path))}[/]: {_count(len(usage.classes), 'class', 'es')}, "
        f"{_count(usage.videos, 'exemplar')}, {_count(usage.frames, 'frame')}"
    )


def print_damage(report: MemoryReport) -> None:
    """What can't be read, as far as that was looked at."""
    unreadable = [one.name for one in report.usage.classes if one.is_damaged]
    if report.damaged is None:
        for name in unreadable:
            out.print(f"[red]the index of class {plain(repr(name))} is damaged; --verify tells more[/]")
        return
    for damage in report.damaged[:_SHOWN_PROBLEMS]:
        out.print(f"[red]{plain(str(damage))}[/]")
    if (more := len(report.damaged) - _SHOWN_PROBLEMS) > 0:
        out.print(f"... and {more} more (--json lists all)")
    if report.damaged:
        out.print(f"[red]{_count(len(report.damaged), 'exemplar')} damaged[/]; the others can be used all the same")
    else:
        out.print(f"[green]clean[/]: {_count(report.usage.videos, 'exemplar')} read, all as they were written")


def print_packed(
    path: Path, packing: Packing, settings: MemorySettings, update: UpdateReport, report: MemoryReport
) -> None:
    """What was packed, what was passed over, and what it takes of the budget."""
    usage = report.usage
    n_candidates = len(packing.provider.items)
    of_split = f" of split {plain(packing.split)}" if packing.split else ""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(justify="right", style="bold")
    grid.add_column()
    grid.add_row(f"{update.added:,}", f"exemplars packed, of {n_candidates:,} instances{of_split}")
    grid.add_row(f"{usage.frames:,}", f"frames as {plain(settings.codec)}: {_choices(settings)}")
    if update.skipped:
        grid.add_row(f"[red]{len(update.skipped):,}[/]", "passed over, for their frames are damaged")
    if (without := len(packing.classes) - len(usage.classes)) and settings.budget.kind != "none":
        grid.add_row(
            f"[yellow]{without:,}[/]", f"of {len(packing.classes):,} classes have none: the budget is too small"
        )
    out.print(grid)
    for reason in update.skipped[:_SHOWN_PROBLEMS]:
        out.print(f"  [red]{plain(reason)}[/]")
    if (more := len(update.skipped) - _SHOWN_PROBLEMS) > 0:
        out.print(f"  ... and {more} more")
    out.print(f"budget {settings.budget}: {_spent(settings, report)}")
    print_heading(path, report)


def print_quality(quality: MemoryQuality) -> None:
    """What the frames have lost."""
    if quality.psnr_db is None:
        psnr = "PSNR infinite: no frame differs"
    else:
        psnr = f"PSNR {quality.psnr_db:.2f} dB (worst frame {quality.worst_psnr_db:.2f})"
        if quality.identical:
            psnr += f" over the {quality.frames - quality.identical:,} frames that differ"
    ssim = "" if quality.ssim is None else f", SSIM {quality.ssim:.4f} (worst frame {quality.worst_ssim:.4f})"
    out.print(f"{psnr}{ssim}; {_count(quality.frames, 'frame')} compared with what was encoded")


def _table(report: MemoryReport) -> Table:
    usage = report.usage
    rows = [
        (
            f"{one.videos:,}",
            *(("damaged", "", "") if one.is_damaged else ()),
            *(() if one.is_damaged else (f"{one.frames:,}", f"{one.files.apparent:,}", f"{bytes_per_frame(one):,.0f}")),
            report.encoding(one.label),
        )
        for one in usage.classes
    ]
    names = ("exemplars", "frames", "bytes", "bytes a frame", "codec")
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    room = max(_MIN_NAME_WIDTH, out.width - sum(widths) - 2 * len(names))
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("class", no_wrap=True)
    for name in names:
        table.add_column(name, justify="left" if name == "codec" else "right", no_wrap=True)
    for one, row in zip(usage.classes, rows, strict=True):
        name = shortened(one.name, lambda short: cell_len(Text.from_markup(plain(short), emoji=False).plain) <= room)
        table.add_row(plain(name), *map(plain, row), style="red" if one.is_damaged else None)
    return table


def _du(report: MemoryReport) -> int:
    return report.usage.files.allocated + report.usage.folders.allocated


def _choices(settings: MemorySettings) -> str:
    frames = "all" if settings.frames == "all" else f"{settings.frames} {settings.frame_choice}"
    seed = f", seed {settings.seed}" if "random" in (settings.frame_choice, settings.video_choice) else ""
    return f"{frames} of a video, {settings.video_choice} videos{seed}{', rebalanced' if settings.rebalance else ''}"


def _spent(settings: MemorySettings, report: MemoryReport) -> str:
    """What is spent of the budget in its own unit, and in bytes on disk."""
    usage, budget = report.usage, settings.budget
    on_disk = f"{usage.files.apparent:,} bytes on disk ({usage.files.allocated:,} allocated)"
    if budget.kind in ("none", "all"):
        return on_disk
    if budget.kind == "bytes":
        return f"{on_disk}, {usage.files.apparent / budget.amount:.1%} of it"
    spent = usage.videos if budget.kind == "videos" else usage.frames
    return f"{spent:,} {budget.kind} kept, {spent / budget.amount:.1%} of it; {on_disk}"


def _count(number: int, noun: str, plural: str = "s") -> str:
    return f"{number:,} {noun if number == 1 else noun + plural}"
