"""Tables and sentences of the `vclimb memory` commands."""

from __future__ import annotations

from rich.table import Table

import vclimb
from vclimb.cli.console import new_grid, out, parts_text, plain

_SHOWN_PROBLEMS = 50


def print_memory(memory: vclimb.Memory) -> None:
    """Print the totals, and a row for each class, no wider than the terminal."""
    usage = memory.usage
    _print_heading(memory)
    grid = new_grid(style="dim")
    if usage.frames:
        grid.add_row("payload", f"{usage.payload_bytes:,} bytes of encoded frames")
    grid.add_row("on disk", f"{memory.bytes_on_disk:,} bytes in {usage.n_files:,} files, which is what budgets count")
    if len(usage.part_bytes) > 2:
        grid.add_row("parts", parts_text(usage.part_bytes))
    for name, array in sorted(memory.store.arrays.items()):
        grid.add_row("array", f"{name}: {array.dtype}, {' x '.join(map(str, array.shape))}")
    with_folders = usage.files.allocated + usage.folders.allocated
    grid.add_row("allocated", f"{usage.files.allocated:,} bytes; {with_folders:,} with folders, as du counts")
    if usage.frames:
        grid.add_row("a frame", f"{usage.bytes_per_frame:,.0f} bytes on disk")
        grid.add_row(
            "all frames",
            f"about {usage.every_frame_bytes / 1e3:,.0f} kB (estimate: {usage.source_frames:,} frames of this size)",
        )
    out.print(grid)
    if usage.classes:
        out.print(_class_table(memory), soft_wrap=False)


def print_damage(memory: vclimb.Memory, damaged: tuple[vclimb.Damage | vclimb.ArrayDamage, ...] | None) -> None:
    """Print what can't be read.

    Args:
        damaged: Damaged exemplars and arrays; None where they were not looked for.
    """
    usage = memory.usage
    if damaged is None:
        for class_usage in usage.classes:
            if class_usage.is_damaged:
                out.print(f"[red]the table of class {plain(repr(class_usage.name))} is damaged; --verify says more[/]")
        return
    for damage in damaged[:_SHOWN_PROBLEMS]:
        out.print(f"[red]{plain(str(damage))}[/]")
    if (more := len(damaged) - _SHOWN_PROBLEMS) > 0:
        out.print(f"... and {more} more (--json lists all)")
    if damaged:
        n_exemplars = sum(isinstance(damage, vclimb.Damage) for damage in damaged)
        counts = [_count(n_exemplars, "exemplar")] if n_exemplars else []
        counts += [f"{_count(n_files, 'file')} of arrays"] if (n_files := len(damaged) - n_exemplars) else []
        out.print(f"[red]{' and '.join(counts)} damaged[/]; the others can be used all the same")
    else:
        arrays = f" and {_count(len(memory.store.arrays), 'array')}" if memory.store.arrays else ""
        out.print(f"[green]clean[/]: {_count(usage.videos, 'exemplar')}{arrays} read, all as they were written")


def print_packed(memory: vclimb.Memory, packed: vclimb.PackSummary) -> None:
    """Print what was packed, what was passed over, and how much of the budget is used."""
    usage, settings = memory.usage, packed.settings
    in_split = f" of split {plain(packed.split)}" if packed.split else ""
    frames = "all" if settings.frames == "all" else f"{settings.frames} {settings.frame_choice}"
    seed = f", seed {settings.seed}" if "random" in (settings.frame_choice, settings.video_choice) else ""
    choices = (
        f"{frames} of a video, {settings.video_choice} videos{seed}{', rebalanced' if settings.rebalances else ''}"
    )
    grid = new_grid(justify="right", style="bold")
    grid.add_row(f"{packed.added:,}", f"exemplars packed, of {packed.candidates:,} instances{in_split}")
    grid.add_row(f"{usage.frames:,}", f"frames as {plain(settings.codec)}: {choices}")
    if packed.skipped:
        grid.add_row(f"[red]{len(packed.skipped):,}[/]", "passed over, for their frames are damaged")
    if (empty := packed.candidate_classes - len(usage.classes)) and settings.budget.kind != "none":
        grid.add_row(
            f"[yellow]{empty:,}[/]", f"of {packed.candidate_classes:,} classes have none: the budget is too small"
        )
    out.print(grid)
    for reason in packed.skipped[:_SHOWN_PROBLEMS]:
        out.print(f"  [red]{plain(reason)}[/]")
    if (more := len(packed.skipped) - _SHOWN_PROBLEMS) > 0:
        out.print(f"  ... and {more} more")
    out.print(f"budget {settings.budget}: {_used(memory, packed)}")
    _print_heading(memory)


def print_quality(quality: vclimb.MemoryQuality) -> None:
    """Print what the frames have lost."""
    if quality.psnr_db is None:
        psnr = "PSNR infinite: no frame differs"
    else:
        psnr = f"PSNR {quality.psnr_db:.2f} dB (worst frame {quality.worst_psnr_db:.2f})"
        if quality.identical:
            psnr += f" over the {quality.frames - quality.identical:,} frames that differ"
    ssim = "" if quality.ssim is None else f", SSIM {quality.ssim:.4f} (worst frame {quality.worst_ssim:.4f})"
    out.print(f"{psnr}{ssim}; {_count(quality.frames, 'frame')} compared with what was encoded")


def print_sheet(sheet: vclimb.SheetSummary | None) -> None:
    """Print what a picture shows, where one was drawn."""
    if sheet is not None:
        damaged = f", [red]{sheet.damaged} of them damaged[/]" if sheet.damaged else ""
        out.print(
            f"contact sheet: [bold]{plain(str(sheet.path))}[/], {sheet.classes:,} classes, "
            f"{sheet.exemplars:,} exemplars{damaged}"
        )


def _print_heading(memory: vclimb.Memory) -> None:
    usage = memory.usage
    out.print(
        f"[bold]{plain(str(memory.path))}[/]: {_count(len(usage.classes), 'class', 'es')}, "
        f"{_count(usage.videos, 'exemplar')}, {_count(usage.frames, 'frame')}"
    )


def _class_table(memory: vclimb.Memory) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("class", overflow="fold", min_width=12)
    for name in ("exemplars", "frames", "bytes", "bytes a frame", "codec"):
        table.add_column(name, justify="left" if name == "codec" else "right", no_wrap=True)
    for usage in memory.usage.classes:
        per_frame = f"{usage.bytes_per_frame:,.0f}" if usage.frames else "-"
        sizes = (f"{usage.frames:,}", f"{usage.files.apparent:,}", per_frame)
        table.add_row(
            plain(usage.name),
            f"{usage.videos:,}",
            *(("damaged", "", "") if usage.is_damaged else sizes),
            plain(usage.encoding),
            style="red" if usage.is_damaged else None,
        )
    return table


def _used(memory: vclimb.Memory, packed: vclimb.PackSummary) -> str:
    """Say what is used of the budget in its own unit, and in bytes on disk."""
    usage, budget = memory.usage, packed.settings.budget
    on_disk = f"{memory.bytes_on_disk:,} bytes on disk ({usage.files.allocated:,} allocated)"
    if budget.kind in ("none", "all"):
        return on_disk
    if budget.kind == "bytes":
        return f"{on_disk}, {memory.bytes_on_disk / budget.amount:.1%} of it"
    used = usage.videos if budget.kind == "videos" else usage.frames
    return f"{used:,} {budget.kind} kept, {used / budget.amount:.1%} of it; {on_disk}"


def _count(number: int, noun: str, plural: str = "s") -> str:
    return f"{number:,} {noun if number == 1 else noun + plural}"
