"""`vclimb prepare`: transcode raw videos into a data set of shards."""

from __future__ import annotations

from typing import Annotated

import typer

import vclimb
from vclimb.cli.console import EXIT_FAILED, explain_errors, new_grid, out, plain, print_result
from vclimb.cli.ray_option import RayAddress, use_ray_address

_SHOWN_FAILURES = 5
_LAYOUTS = "auto, folder, table, ucf101, hmdb51, kinetics, activitynet, ssv2"


def command(
    source: Annotated[
        str, typer.Argument(help="Folder of raw videos, or a table (csv, jsonl, parquet) that lists them.")
    ],
    target: Annotated[
        str, typer.Option("--out", "-o", help="Folder of the data set, e.g. shards/NAME.", metavar="PATH")
    ],
    layout: Annotated[str, typer.Option(help=f"How SOURCE is laid out: {_LAYOUTS}.")] = "auto",
    annotations: Annotated[
        list[str] | None,
        typer.Option(help="Annotation file or folder, if not in SOURCE. Repeatable.", metavar="PATH"),
    ] = None,
    columns: Annotated[
        list[str] | None, typer.Option(help="For tables: OURS=THEIRS names of a column, e.g. label=class. Repeatable.")
    ] = None,
    codec: Annotated[
        str, typer.Option(help="jpeg: every frame stands alone, fast. h264: 4x smaller, 4x slower to sample.")
    ] = "jpeg",
    quality: Annotated[
        int | None,
        typer.Option(help="Quality of ffmpeg, lower is better. jpeg: 2-31, default 5. h264 (CRF): 0-51, default 22."),
    ] = None,
    b_frames: Annotated[
        int | None,
        typer.Option(help="B-frames of h264 between two other frames, 0-10, default 3: more are faster to sample."),
    ] = None,
    short_side: Annotated[int, typer.Option(help="Short side in pixels that larger videos are scaled down to.")] = 256,
    fps: Annotated[
        str | None,
        typer.Option(help="Frames a second, e.g. 12 or 30000/1001. Default: each source frame, average rate."),
    ] = None,
    max_frames: Annotated[int | None, typer.Option(help="Greatest number of frames stored of a video.")] = None,
    keep_truncated: Annotated[
        bool, typer.Option(help="Store what decodes of damaged videos instead of listing them as failed.")
    ] = False,
    shard_size: Annotated[str, typer.Option(help="Aimed size of a shard, e.g. 256MB or 1GiB.")] = "256MB",
    workers: Annotated[
        int | None, typer.Option(help="Processes; with Ray, shards at a time. Default: one for each core.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Greatest number of videos, spread over the classes, for a trial run.")
    ] = None,
    retry_failed: Annotated[bool, typer.Option(help="Try just the videos that errors.jsonl lists.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option(help="Seconds that one video may take. Default: 120, and 10 for each second of video."),
    ] = None,
    allow_outside: Annotated[bool, typer.Option(help="Let a table name files outside its own folder.")] = False,
    executor: Annotated[
        str, typer.Option(help="Where shards are made: local, ray, an installed executor, or package.module:Class.")
    ] = "local",
    ray_address: RayAddress = None,
    by_node: Annotated[
        bool, typer.Option(help="With Ray: show what each node does, and the shards that run longest, every 5 s.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Transcode raw videos into verified, frame-addressable WebDataset shards.

    Run it again at any time: it makes only what is missing, whatever stopped it before. A video that can't be used
    becomes a row of errors.jsonl and never stops the run.
    """
    use_ray_address(ray_address)
    dataset = explain_errors(
        lambda: vclimb.prepare(
            source,
            target,
            layout=layout,
            annotations=annotations or (),
            columns=_parse_columns(columns or []),
            codec=codec,
            quality=quality,
            b_frames=b_frames,
            short_side=short_side,
            fps=fps,
            max_frames=max_frames,
            keep_truncated=keep_truncated,
            shard_size=shard_size,
            workers=workers,
            limit=limit,
            retry_failed=retry_failed,
            timeout_seconds=timeout,
            allow_outside=allow_outside,
            executor=executor,
            by_node=by_node,
            progress=not as_json,
        ),
        "Finished videos are kept: run the same command again to go on.",
    )
    summary = dataset.summary
    assert summary is not None
    print_result(summary, as_json, _print_summary)
    if not summary.totals["videos"]:
        raise typer.Exit(EXIT_FAILED)


def _print_summary(summary: vclimb.PrepareSummary) -> None:
    totals = summary.totals
    grid = new_grid(justify="right", style="bold")
    failed = f"failed: see {plain(f'{summary.out}/errors.jsonl')}"
    grid.add_row(str(summary.prepared), "videos prepared")
    for number, what in (
        (summary.already_there, "there already"),
        (len(summary.failed_now), failed),
        (summary.failed_before, "failed in an earlier run; --retry-failed takes them again"),
        (summary.missing, "listed by the source but not on disk (in errors.jsonl)"),
        (len(summary.changed), "source files changed since; kept as prepared (a new --out takes them)"),
        (summary.gone, "no longer in the source; kept"),
    ):
        if number:
            grid.add_row(f"[red]{number}[/]" if what == failed else str(number), what)
    out.print(grid)
    for error in summary.failed_now[:_SHOWN_FAILURES]:
        out.print(f"  [red]{plain(error.path)}[/]: {plain(error.stage)}: {plain(error.reason)}")
    if (more := len(summary.failed_now) - _SHOWN_FAILURES) > 0:
        out.print(f"  ... and {more} more")
    if totals["videos"]:
        out.print(
            f"[bold]{plain(str(summary.out))}[/]: {totals['classes']} classes, {totals['videos']:,} videos, "
            f"{totals['frames']:,} frames, {totals['seconds']:,.0f} s, {totals['bytes'] / 1e6:,.1f} MB "
            f"(source {totals['source_bytes'] / 1e6:,.1f} MB)"
        )
    else:
        out.print("[red]nothing could be prepared[/]")


def _parse_columns(pairs: list[str]) -> dict[str, str]:
    columns = {}
    for pair in pairs:
        ours, _, theirs = pair.partition("=")
        if not ours or not theirs:
            raise vclimb.SettingsError(f"--columns {pair!r} is not understood; write OURS=THEIRS, e.g. label=class")
        columns[ours] = theirs
    return columns
