"""`vclimb bench`: whether data or model limits training on this machine and data set."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

import vclimb
from vclimb.cli.console import EXIT_FAILED, explain_errors, new_table, out, plain, print_result

_QUIET_SPREAD = 1.2


def command(
    dataset: Annotated[str, typer.Argument(help="A prepared data set, e.g. shards/NAME.")],
    clip_frames: Annotated[int, typer.Option(help="Number of frames in a clip.")] = 8,
    size: Annotated[int, typer.Option(help="Side of the square frames in pixels.")] = 224,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Number of clips in a batch. Default: 64 on a GPU, else one for each core, at least 2."),
    ] = None,
    network: Annotated[
        str, typer.Option(help="Network, or a class as package.module:Class; the weights are random.")
    ] = "tsn",
    backbone: Annotated[str, typer.Option(help="Name of a timm model, for tsn and tsm.")] = "resnet34.tv_in1k",
    decoder: Annotated[
        list[str] | None,
        typer.Option(help="cpu, dali, or auto (all that this machine and data set allow). Repeatable. Default: auto."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Number of worker processes, or of DALI's threads. Default: as in training.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Time for each figure; at least three steps are measured.")] = 5,
    device: Annotated[str, typer.Option(help="cuda, cpu, or auto (a GPU if there is one).")] = "auto",
    peers: Annotated[
        bool,
        typer.Option(
            "--peers", help="Compare the CPU stream, without a model, with other loaders that are installed here."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")] = False,
) -> None:
    """Measure each decoder, the model, and training fed by each decoder; say whether data or model limits training.

    Nothing is written or downloaded. A decoder that fails is listed with its error; the exit status is 1 then. With
    --peers, all loaders read the same clips; up to 256 MiB are written to a temporary folder for them, and removed.
    """
    if peers:
        compared = explain_errors(
            lambda: vclimb.bench_peers(
                dataset,
                clip_frames=clip_frames,
                size=size,
                batch_size=batch_size,
                workers=workers,
                seconds=seconds,
                progress=False if as_json else None,
            ),
            "Nothing was changed.",
        )
        print_result(compared, as_json, print_peers)
        if compared.failed:
            raise typer.Exit(EXIT_FAILED)
        return
    report = explain_errors(
        lambda: vclimb.bench(
            dataset,
            clip_frames=clip_frames,
            size=size,
            batch_size=batch_size,
            network=network,
            backbone=backbone,
            decoders=decoder or ["auto"],
            workers=workers,
            seconds=seconds,
            device=device,
            progress=False if as_json else None,
        ),
        "Nothing was changed.",
    )
    is_small = batch_size is None and report.device == "cpu"
    print_result(report, as_json, lambda report: print_report(report, is_small))
    if report.failed:
        raise typer.Exit(EXIT_FAILED)


def print_report(report: vclimb.BenchReport, is_small: bool) -> None:
    """Print the report as a table, with its conclusions.

    Args:
        is_small: Whether the batch size is the small default of a machine without a GPU.
    """
    out.print(
        f"[bold]{plain(report.dataset)}[/]: {report.codec}, {report.n_instances:,} instances; "
        f"{report.clip_frames} frames a clip, {report.size_pixels} px, {report.batch_clips} clips a batch"
    )
    out.print(f"{plain(report.model)} on {plain(report.device)}, {report.n_cores} cores")
    if is_small:
        out.print("[dim]without a GPU, batches are small by default; --batch-size sets them[/]")
    names = ("clips/s", "data alone", "model alone", "training fed", "fed/model", "what binds")
    table = new_table(*names, left=("clips/s", "what binds"))
    for decoder, figures in report.results.items():
        table.add_row(
            plain(decoder),
            _number(figures.decoder_clips_per_second),
            _number(figures.model_clips_per_second),
            _number(figures.fed_clips_per_second),
            f"{figures.fed_per_model:.2f}",
            f"[{'yellow' if figures.binds == 'data' else 'green'}]the {figures.binds}[/]",
        )
    _print_with_unmeasured(table, report)
    for decoder, figures in report.results.items():
        out.print(f"[bold]{plain(decoder)}[/]: {_verdict(figures)}")
    _print_reasons(report)
    out.print(f"--decoder auto takes [bold]{plain(report.auto.decoder)}[/]: {plain(report.auto.reason)}")
    if advice := _advice(report):
        out.print(advice)
    if report.model_spread > _QUIET_SPREAD:
        out.print(
            f"[yellow]the model alone was up to {report.model_spread:.1f} times as fast in one round as in another: "
            "something else uses this machine, and these figures are rough[/]"
        )


def print_peers(report: vclimb.PeersReport) -> None:
    """Print the comparison with other loaders as a table."""
    out.print(
        f"[bold]{plain(report.dataset)}[/]: {report.codec}, {report.n_videos} videos; {report.clip_frames} frames a "
        f"clip, {report.size_pixels} px, {report.batch_clips} clips a batch, {report.n_workers} workers"
    )
    table = new_table("loader", "clips/s", "vclimb / loader", left=("loader",))
    for loader in report.rates:
        table.add_row(plain(loader), _number(report.clips_per_second(loader)), f"{report.ratio(loader):.2f}")
    _print_with_unmeasured(table, report)
    _print_reasons(report)


def _print_with_unmeasured(table: Table, report: vclimb.BenchReport | vclimb.PeersReport) -> None:
    """Print a table of what was measured, with a row for each that failed or was skipped."""
    for name in report.failed:
        table.add_row(plain(name), "[red]failed[/]")
    for name in report.skipped:
        table.add_row(plain(name), "[dim]skipped[/]")
    out.print(table)


def _print_reasons(report: vclimb.BenchReport | vclimb.PeersReport) -> None:
    """Print why something failed or was skipped."""
    for name, error in report.failed.items():
        out.print(f"[bold]{plain(name)}[/]: [red]failed:[/] {plain(error)}")
    for name, reason in report.skipped.items():
        out.print(f"[bold]{plain(name)}[/]: skipped: {plain(reason)}")


def _verdict(figures: vclimb.BenchFigures) -> str:
    data, model = _number(figures.decoder_clips_per_second), _number(figures.model_clips_per_second)
    if figures.binds == "model":
        return f"the model binds; it takes {model} clips/s and {data} can come"
    if figures.slower_alone == "decoder":
        return f"the data binds; {data} clips/s come and the model would take {model}"
    loss = f"{1 - figures.fed_per_model:.0%}"
    return f"the data binds; {data} clips/s can come and the model takes {model}, but together training loses {loss}"


def _advice(report: vclimb.BenchReport) -> str | None:
    """Recommend another decoder than that of `auto` where training is faster with it by more than chance."""
    results, auto, fastest = report.results, report.auto.decoder, report.fastest
    if fastest is None or fastest == auto or auto not in results:
        return None
    gain = results[fastest].fed_per_model / results[auto].fed_per_model - 1
    return f"[yellow]here, training is {gain:.0%} faster with --decoder {plain(fastest)}[/]"


def _number(value: float) -> str:
    """Write a number with three digits, or all before the point: 1,060, 27.3, 0.510."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:#.3g}"
