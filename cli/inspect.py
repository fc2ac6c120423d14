"""`vclimb inspect`: statistics and a contact sheet of a data set."""

from __future__ import annotations

from typing import Annotated

import typer

import vclimb
from vclimb.cli.console import explain_errors, new_grid, new_table, out, plain, print_json

_SHOWN_CLASSES = 30
_SHOWN_KINDS = 4


def command(
    dataset: Annotated[str, typer.Argument(help="A prepared data set, e.g. shards/NAME.")],
    sheet: Annotated[
        str | None,
        typer.Option(
            "--contact-sheet", help="Draw a PNG: a row for each class, the middle frames of videos.", metavar="PATH"
        ),
    ] = None,
    columns: Annotated[int, typer.Option(min=1, max=32, help="Videos in a row of the contact sheet.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON, all classes listed.")] = False,
) -> None:
    """Show classes, counts, durations, frame rates, bytes a second and a frame, and compression."""

    def work() -> vclimb.DatasetStatistics:
        opened = vclimb.open(dataset)
        if sheet is not None:
            opened.contact_sheet(sheet, columns=columns)
        return opened.statistics()

    statistics = explain_errors(work)
    if as_json:
        print_json(statistics.to_json())
        return
    _print(statistics)
    if sheet is not None:
        out.print(f"contact sheet: [bold]{plain(str(sheet))}[/]")


def _print(figures: vclimb.DatasetStatistics) -> None:
    totals, settings = figures.totals, figures.settings
    out.print(
        f"[bold]{plain(figures.name)}[/]: {totals['classes']} classes, {totals['videos']:,} videos, "
        f"{totals['instances']:,} instances"
    )
    grid = new_grid(style="dim")
    grid.add_row(
        "stored as", f"{settings['codec']}, quality {settings['quality']}, short side up to {settings['short_side']} px"
    )
    grid.add_row("splits", _kinds(figures.splits))
    low, median, high = figures.seconds
    grid.add_row(
        "duration", f"{totals['seconds']:,.0f} s in all; a video {low:.2f} to {high:.2f} s, median {median:.2f} s"
    )
    low, median, high = figures.frames
    grid.add_row("frames", f"{totals['frames']:,} in all; a video {low:.0f} to {high:.0f}, median {median:.0f}")
    grid.add_row("fps", _kinds(figures.fps))
    grid.add_row("size", _kinds(figures.sizes))
    grid.add_row(
        "bytes",
        f"{totals['bytes'] / 1e6:,.1f} MB; {figures.bytes_per_second / 1e3:,.1f} kB a second, "
        f"{figures.bytes_per_frame / 1e3:,.2f} kB a frame",
    )
    grid.add_row("source", f"{totals['source_bytes'] / 1e6:,.1f} MB, {figures.compression:.2f} times what is stored")
    grid.add_row("errors", _kinds(figures.errors) if figures.errors else "none")
    out.print(grid)
    table = new_table("class", "videos", "instances", "frames", "seconds", "MB", left=("class",))
    for row in figures.classes[:_SHOWN_CLASSES]:
        numbers = (f"{row.videos}", f"{row.instances}", f"{row.frames:,}", f"{row.seconds:,.1f}")
        table.add_row(plain(row.label), *numbers, f"{row.bytes / 1e6:,.1f}")
    out.print(table)
    if (more := len(figures.classes) - _SHOWN_CLASSES) > 0:
        out.print(f"... and {more} more classes (--json lists all)")


def _kinds(counts: dict[str, int]) -> str:
    """Write the most common kinds and the count of each."""
    shown = [f"{plain(name)} ({count:,})" for name, count in list(counts.items())[:_SHOWN_KINDS]]
    more = len(counts) - _SHOWN_KINDS
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
