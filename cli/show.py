"""`vclimb show`: the metrics of a run, as tables and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vclimb.cli.console import explain_errors, out, plain, print_json
from vclimb.cli.train_summary import percent, print_run
from vclimb.pipeline.errors import DatasetError

_SHOWN_CLASSES = 5


def command(
    run: Annotated[Path, typer.Argument(help="A run's folder, e.g. runs/NAME. It may still be training.")],
    png: Annotated[
        Path | None, typer.Option("--png", help="Draw the accuracy matrix and the accuracy after each task.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print metrics.json.")] = False,
) -> None:
    """Show what a run has measured: accuracies, forgetting, memory, time."""

    def work() -> dict[str, Any]:
        from vclimb.training.run_folder import RunFolder

        folder = RunFolder(run)
        if not folder.exists:
            raise DatasetError(f"{run} holds no run; give the folder that `vclimb train --out` wrote")
        metrics = folder.metrics()
        if metrics is None:
            raise DatasetError(f"the run in {run} has not ended its first task yet; show it later")
        if png is not None:
            from vclimb.training.chart import plot_run

            plot_run(metrics, png)
        return metrics

    metrics = explain_errors(work)
    if as_json:
        print_json(metrics)
        return
    print_run(run, metrics)
    _print_classes(metrics)
    if png is not None:
        out.print(f"picture: [bold]{plain(str(png))}[/]")


def _print_classes(metrics: dict[str, Any]) -> None:
    """The classes that are told worst and best."""
    known = [(value, name) for name, value in metrics["accuracy_per_class"].items() if value is not None]
    known.sort(key=lambda one: one[0])
    texts = [f"{plain(name)} {percent(value)}" for value, name in known]
    if len(texts) > 2 * _SHOWN_CLASSES:
        out.print(f"worst classes: {', '.join(texts[:_SHOWN_CLASSES])}")
        out.print(f"best classes: {', '.join(texts[: -_SHOWN_CLASSES - 1 : -1])}")
    else:
        out.print(f"classes: {', '.join(texts)}")
