"""`vclimb show`: the metrics of a run, as tables and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import vclimb
from vclimb.cli.console import brief, explain_errors, out, plain, print_json
from vclimb.cli.train_summary import percent, print_run

_SHOWN_CLASSES = 5


def command(
    run: Annotated[str, typer.Argument(help="Folder of a run, e.g. runs/NAME. It may still be training.")],
    png: Annotated[
        str | None,
        typer.Option("--png", help="Draw the accuracy matrix and the accuracy after each task.", metavar="PATH"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the metrics as JSON.")] = False,
) -> None:
    """Show what a run has measured: accuracies, forgetting, memory, time."""

    def load() -> vclimb.RunMetrics:
        loaded = vclimb.Run.load(run)
        if loaded.metrics is None:
            raise vclimb.DatasetError(f"the run in {run} has not ended its first task yet; show it later")
        if png is not None:
            loaded.plot(png)
        return loaded.metrics

    metrics = explain_errors(load)
    if as_json:
        print_json(metrics.to_json())
        return
    print_run(Path(run), metrics)
    _print_classes(metrics)
    if png is not None:
        out.print(f"picture: [bold]{plain(str(png))}[/]")


def _print_classes(metrics: vclimb.RunMetrics) -> None:
    """Print the classes of lowest and of highest accuracy."""
    known = [(accuracy, name) for name, accuracy in metrics.accuracy_per_class.items() if accuracy is not None]
    known.sort(key=lambda pair: pair[0])
    shown = known if len(known) <= 2 * _SHOWN_CLASSES else [*known[:_SHOWN_CLASSES], *known[-_SHOWN_CLASSES:]]
    texts = [f"{brief(name)} {percent(accuracy)}" for accuracy, name in shown]
    if len(shown) < len(known):
        out.print(f"worst classes: {', '.join(texts[:_SHOWN_CLASSES])}")
        out.print(f"best classes: {', '.join(texts[: -_SHOWN_CLASSES - 1 : -1])}")
    else:
        out.print(f"classes: {', '.join(texts)}")
