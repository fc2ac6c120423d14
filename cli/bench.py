"""`vclimb bench`: on this machine and this data set, is it the data or the model that training waits for?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from vclimb.cli.console import EXIT_FAILED, explain_errors, out, plain, print_json, progress

if TYPE_CHECKING:  # torch, timm and DALI take seconds to import: only the command itself does
    from vclimb.benchmark.report import BenchReport, Figures

_QUIET_SPREAD = 1.2


def command(
    dataset: Annotated[str, typer.Argument(help="A prepared data set, e.g. shards/NAME.")],
    frames: Annotated[int, typer.Option(help="Frames of a clip.")] = 8,
    size: Annotated[int, typer.Option(help="Pixels, the side of the square that the model sees.")] = 224,
    batch_size: Annotated[
        int | None, typer.Option(help="Clips. Default: 64 on a GPU; without one, one for each core, at least 2.")
    ] = None,
    model: Annotated[str, typer.Option(help="Any timm backbone; its weights are random.")] = "resnet34.tv_in1k",
    decoder: Annotated[
        list[str] | None,
        typer.Option(help="auto (all that this machine and data set allow), cpu or dali. Repeatable. Default: auto."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that decode, or DALI's threads. Default: what training takes.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="That each figure is measured for; three steps are always done.")] = 5,
    device: Annotated[str, typer.Option(help="auto (a GPU if there is one), cuda or cpu.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")] = False,
) -> None:
    """Measure each decoder, the model, and training fed by each decoder; say what binds.

    Nothing is written or downloaded. A decoder that fails is listed with its error; the exit status is 1 then.
    """

    def work() -> BenchReport:
        with progress("figures", quiet=as_json) as bar:
            task = bar.add_task("opening", total=None, note="")
            from vclimb.benchmark.bench import BenchSettings, bench

            settings = BenchSettings(
                n_frames=frames,
                size=size,
                batch_size=batch_size,
                model=model,
                decoders=tuple(decoder or ["auto"]),
                workers=workers,
                seconds=seconds,
                device=device,
            )
            return bench(
                dataset, settings, lambda what, n, total: bar.update(task, description=what, completed=n, total=total)
            )

    report = explain_errors(work, "Nothing was changed.")
    if as_json:
        print_json(report.to_json())
    else:
        print_report(report, batch_size is None and report.device == "cpu")
    if report.failed:
        raise typer.Exit(EXIT_FAILED)


def print_report(report: BenchReport, is_small: bool) -> None:
    """The report for people: what was measured, a table, and what it means.

    Args:
        report: what to print.
        is_small: the batch is one that nobody asked for, and smaller than on a GPU.
    """
    out.print(
        f"[bold]{plain(report.dataset)}[/]: {report.codec}, {report.n_instances:,} instances; "
        f"{report.clip_frames} frames a clip, {report.size_pixels} px, {report.batch_clips} clips a batch"
    )
    out.print(f"{plain(report.model)} on {plain(report.device)}, {report.n_cores} cores")
    if is_small:
        out.print("[dim]without a GPU, batches are small by default; --batch-size sets them[/]")
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("clips/s")
    for name in ("data alone", "model alone", "training fed", "fed/model"):
        table.add_column(name, justify="right")
    table.add_column("what binds")
    for decoder, figures in report.results.items():
        table.add_row(
            plain(decoder),
            _number(figures.decoder_clips_per_second),
            _number(figures.model_clips_per_second),
            _number(figures.fed_clips_per_second),
            f"{figures.fed_per_model:.2f}",
            f"[{'yellow' if figures.binds == 'data' else 'green'}]the {figures.binds}[/]",
        )
    for decoder in report.failed:
        table.add_row(plain(decoder), "[red]failed[/]")
    for decoder in report.skipped:
        table.add_row(plain(decoder), "[dim]skipped[/]")
    out.print(table)
    for decoder, figures in report.results.items():
        out.print(f"[bold]{plain(decoder)}[/]: {_verdict(figures)}")
    for decoder, error in report.failed.items():
        out.print(f"[bold]{plain(decoder)}[/]: [red]failed:[/] {plain(error)}")
    for decoder, reason in report.skipped.items():
        out.print(f"[bold]{plain(decoder)}[/]: skipped: {plain(reason)}")
    out.print(f"--decoder auto takes [bold]{plain(report.auto.decoder)}[/]: {plain(report.auto.reason)}")
    if advice := _advice(report):
        out.print(advice)
    if report.model_spread > _QUIET_SPREAD:
        out.print(
            f"[yellow]the model alone was up to {report.model_spread:.1f} times as fast in one round as in another: "
            "something else uses this machine, and these figures are rough[/]"
        )


def _verdict(figures: Figures) -> str:
    data, model = _number(figures.decoder_clips_per_second), _number(figures.model_clips_per_second)
    if figures.binds == "model":
        return f"the model binds; it takes {model} clips/s and {data} can come"
    if figures.slower_alone == "decoder":
        return f"the data binds; {data} clips/s come and the model would take {model}"
    loss = f"{1 - figures.fed_per_model:.0%}"
    return f"the data binds; {data} clips/s can come and the model takes {model}, but together training loses {loss}"


def _advice(report: BenchReport) -> str | None:
    """Where training is faster by more than chance with another decoder than auto's, it is said."""
    results, auto, fastest = report.results, report.auto.decoder, report.fastest
    if fastest is None or fastest == auto or auto not in results:
        return None
    gain = results[fastest].fed_per_model / results[auto].fed_per_model - 1
    return f"[yellow]here, training is {gain:.0%} faster with --decoder {plain(fastest)}[/]"


def _number(value: float) -> str:
    """Three digits, or all before the point: 1,060, 27.3, 0.510."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:#.3g}"
