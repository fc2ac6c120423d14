"""`vclimb prepare`: raw videos become a data set of shards."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from vclimb.cli.console import EXIT_FAILED, err, explain_errors, out, plain, print_json
from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.sizes import parse_size
from vclimb.pipeline.sources import LAYOUTS, read_source
from vclimb.pipeline.sources.table import printable_path
from vclimb.pipeline.system.cores import available_cores
from vclimb.pipeline.transcode.encode import CODECS, EncodeSettings
from vclimb.pipeline.transcode.ffmpeg import find_ffmpeg, require_encoder
from vclimb.pipeline.transcode.local_executor import LocalExecutor
from vclimb.pipeline.transcode.prepare import PrepareOptions, Summary, prepare

_SHOWN_FAILURES = 5


def command(
    source: Annotated[
        Path, typer.Argument(help="Folder of raw videos, or a table (csv, jsonl, parquet) that lists them.")
    ],
    target: Annotated[Path, typer.Option("--out", "-o", help="Folder of the data set, e.g. shards/NAME.")],
    layout: Annotated[str, typer.Option(help=f"How SOURCE is laid out: auto, {', '.join(LAYOUTS)}.")] = "auto",
    annotations: Annotated[
        list[Path] | None,
        typer.Option(help="Annotation file(s) or folder, where they don't lie in SOURCE. Repeatable."),
    ] = None,
    columns: Annotated[
        list[str] | None, typer.Option(help="For tables: our column = theirs, e.g. label=class. Repeatable.")
    ] = None,
    codec: Annotated[
        str, typer.Option(help="jpeg: every frame stands alone, fast. h264: 4x smaller, 4x slower to sample.")
    ] = "jpeg",
    quality: Annotated[
        int | None,
        typer.Option(help="ffmpeg's scale, lower is better. jpeg: 2-31, default 5. h264 (CRF): 0-51, default 23."),
    ] = None,
    short_side: Annotated[
        int, typer.Option(help="Pixels; larger videos are scaled down to it, smaller ones kept.")
    ] = 256,
    fps: Annotated[
        str | None,
        typer.Option(help="Frames a second, e.g. 12 or 30000/1001. Default: each source frame, average rate."),
    ] = None,
    max_frames: Annotated[int | None, typer.Option(help="Store only the first so many frames of a video.")] = None,
    keep_truncated: Annotated[
        bool, typer.Option(help="Store what decodes of damaged videos; default: list as failed.")
    ] = False,
    shard_size: Annotated[str, typer.Option(help="Aimed size of a shard, e.g. 256MB or 1GiB.")] = "256MB",
    workers: Annotated[int | None, typer.Option(help="Processes. Default: one for each core.")] = None,
    limit: Annotated[
        int | None, typer.Option(help="Only so many videos, spread over the classes: a trial run.")
    ] = None,
    retry_failed: Annotated[bool, typer.Option(help="Take just the videos that errors.jsonl lists, again.")] = False,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds that one video may take. Default: 120, and 10 for each second of it.")
    ] = None,
    allow_outside: Annotated[bool, typer.Option(help="Let a table name files outside its own folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Transcode raw videos into verified, frame-addressable WebDataset shards.

    Run it again at any time: only what is missing is done, whatever stopped it before. A video that can't be
    used becomes a row of errors.jsonl and never stops the run.
    """

    def work() -> Summary:
        settings = EncodeSettings(
            codec=codec,
            quality=CODECS[codec][1] if quality is None and codec in CODECS else quality or 0,
            short_side=short_side,
            fps=parse_rate(fps),
            max_frames=max_frames,
            keep_truncated=keep_truncated,
        )
        if timeout is not None and not 0 < timeout < math.inf:
            raise SettingsError(f"--timeout {timeout:g} is out of range; allowed: above 0 s")
        options = PrepareOptions(parse_size(shard_size), _positive("limit", limit), retry_failed, timeout)
        n_workers = _positive("workers", workers) or available_cores()
        ffmpeg = find_ffmpeg()
        require_encoder(ffmpeg, "mjpeg" if codec == "jpeg" else "libx264")
        table = read_source(
            source,
            layout,
            annotations=annotations or (),
            columns=parse_columns(columns or []),
            allow_outside=allow_outside,
        )
        with Reporter(quiet=as_json) as reporter:
            for note in table.notes:
                reporter.note(note)
            reporter.note(f"{len(table.videos)} videos in {table.root}, layout {table.layout}; using {ffmpeg}")
            return prepare(table, target, settings, options, ffmpeg, LocalExecutor(n_workers), reporter)

    summary = explain_errors(work, "What is done is kept: run the same command again to go on.")
    if as_json:
        print_json(summary_json(summary))
    else:
        print_summary(summary)
    if not summary.totals["videos"]:
        raise typer.Exit(EXIT_FAILED)


class Reporter:
    """Progress on stderr: videos and seconds of video done, and the time left by seconds of video."""

    def __init__(self, quiet: bool) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[videos]}/{task.fields[n_videos]} videos"),
            TextColumn("{task.fields[seconds]:,.0f}/{task.fields[n_seconds]:,.0f} s of video", style="dim"),
            TimeRemainingColumn(),
            console=err,
            disable=quiet or not err.is_terminal,
            transient=True,
        )
        self._quiet = quiet
        self._task: Any = None

    def __enter__(self) -> Reporter:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def note(self, sentence: str) -> None:
        if not self._quiet:
            self._progress.console.print(f"[dim]{plain(sentence)}[/]")

    def start(self, phase: str, videos: int, seconds: float) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(
            phase, total=seconds or videos, videos=0, n_videos=videos, seconds=0.0, n_seconds=seconds
        )

    def advance(self, videos: int, seconds: float) -> None:
        task = self._progress.tasks[0]
        self._progress.update(
            self._task,
            advance=seconds if task.fields["n_seconds"] else videos,
            videos=task.fields["videos"] + videos,
            seconds=task.fields["seconds"] + seconds,
        )


def summary_json(summary: Summary) -> dict[str, Any]:
    """The summary as `--json` prints it."""
    return {
        "out": printable_path(str(summary.out)),
        "prepared": summary.prepared,
        "already_there": summary.already_there,
        "failed_now": summary.failed_now,
        "failed_before": summary.failed_before,
        "missing": summary.missing,
        "changed": summary.changed,
        "gone": summary.gone,
        "totals": summary.totals,
    }


def print_summary(summary: Summary) -> None:
    """The summary for people: what was done, skipped and failed, and where it lies."""
    totals = summary.totals
    grid = Table.grid(padding=(0, 2))
    grid.add_column(justify="right", style="bold")
    grid.add_column()
    grid.add_row(str(summary.prepared), "videos prepared")
    if summary.already_there:
        grid.add_row(str(summary.already_there), "there already")
    if summary.failed_now:
        grid.add_row(f"[red]{len(summary.failed_now)}[/]", f"failed: see {plain(str(summary.out / 'errors.jsonl'))}")
    if summary.failed_before:
        grid.add_row(str(summary.failed_before), "failed in an earlier run; --retry-failed takes them again")
    if summary.missing:
        grid.add_row(str(summary.missing), "listed by the source but not on disk (in errors.jsonl)")
    if summary.changed:
        grid.add_row(str(len(summary.changed)), "source files changed since; kept as prepared (a new --out takes them)")
    if summary.gone:
        grid.add_row(str(summary.gone), "no longer in the source; kept")
    out.print(grid)
    for row in summary.failed_now[:_SHOWN_FAILURES]:
        out.print(f"  [red]{plain(row['path'])}[/]: {plain(row['stage'])}: {plain(row['reason'])}")
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


def parse_rate(text: str | None) -> Fraction | None:
    """Frames a second as an exact fraction.

    Raises:
        SettingsError: it isn't a number or a fraction.
    """
    if text is None:
        return None
    try:
        return Fraction(text).limit_denominator(1001)
    except (ValueError, ZeroDivisionError):
        raise SettingsError(f"fps {text!r} is not a number; write e.g. 12, 29.97 or 30000/1001") from None


def parse_columns(pairs: list[str]) -> dict[str, str]:
    """`label=class` pairs as a mapping.

    Raises:
        SettingsError: one has no `=`.
    """
    columns = {}
    for pair in pairs:
        ours, equals, theirs = pair.partition("=")
        if not equals or not ours or not theirs:
            raise SettingsError(f"--columns {pair!r} is not understood; write OURS=THEIRS, e.g. label=class")
        columns[ours] = theirs
    return columns


def _positive(name: str, value: int | None) -> int | None:
    if value is not None and value < 1:
        raise SettingsError(f"--{name} {value} is out of range; allowed: 1 or more")
    return value
