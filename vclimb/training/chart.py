"""Draw one run: its accuracy matrix, and its accuracy and forgetting after each task."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vclimb.pipeline.errors import TargetError
from vclimb.pipeline.system.folders import writable
from vclimb.pipeline.system.paths import local_path
from vclimb.pipeline.system.progress import printable
from vclimb.training.run_metrics import RunMetrics

# Okabe and Ito's colours, which colour-blind readers can tell apart; lines differ in marker and dashes too.
_ACC, _BWF, _OTHER = "#0072B2", "#D55E00", "#009E73"
_MAX_NUMBERED_TASKS = 14
_MAX_TICKS = 20
_MAX_LETTERS = 60  # of a name
# Suffix -> the bytes that a file of this format begins with.
_FORMATS = {".png": b"\x89PNG\r\n\x1a\n", ".svg": b"<?xml", ".pdf": b"%PDF-"}


def plot_run(metrics: RunMetrics, path: Path | str) -> None:
    """Draw metrics as PNG, SVG or PDF by the path's suffix; an earlier picture of the same format is replaced."""
    path = local_path(path)
    _check_target(path)
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_matrix(figure, left, metrics)
    _draw_curves(right, metrics)
    title = f"{_name(metrics.method)}, {_name(metrics.scenario.name)}, seed {metrics.seed}"
    figure.suptitle(title, fontsize=11)
    with writable(path.parent):
        figure.savefig(path, dpi=150)


def _name(text: str) -> str:
    """Shorten a name, and escape what matplotlib would take for a formula or can't draw: others may have given it."""
    shown = text if len(text) <= _MAX_LETTERS else text[:_MAX_LETTERS] + "..."
    return printable(shown).replace("$", r"\$")


def _check_target(path: Path) -> None:
    if path.suffix.lower() not in _FORMATS:
        raise TargetError(f"{path} names no format of pictures; allowed suffixes: {', '.join(_FORMATS)}")
    beginning = _FORMATS[path.suffix.lower()]
    kind = path.suffix[1:].upper()
    if path.exists() and not (path.is_file() and _begins_with(path, beginning)):
        raise TargetError(f"{path} is there and is no {kind}; give another place for the picture")
    if not path.parent.is_dir():
        raise TargetError(f"{path.parent} is no folder; make it first, or give another place for the picture")


def _begins_with(path: Path, beginning: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(beginning)) == beginning


def _draw_matrix(figure: Figure, axes: Axes, metrics: RunMetrics) -> None:
    values = 100 * metrics.matrix
    image = axes.imshow(values, cmap="cividis", vmin=0, vmax=100, aspect="auto")
    n_rows, n_columns = values.shape
    columns, rows = (range(0, n, -(-n // _MAX_TICKS)) for n in (n_columns, n_rows))
    axes.set_xticks(columns, [str(n + 1) for n in columns])
    axes.set_yticks(rows, [str(n + 1) for n in rows])
    axes.set(xlabel="evaluated on task", ylabel="after learning task")
    axes.set_title(f"accuracy in %, {_name(metrics.classifier.replace('_', ' '))} classifier", fontsize=10)
    if n_columns <= _MAX_NUMBERED_TASKS:
        for (row, column), value in np.ndenumerate(values):
            if not np.isnan(value):
                colour = "white" if value < 55 else "black"
                axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=9)
    figure.colorbar(image, ax=axes, label="%")


def _draw_curves(axes: Axes, metrics: RunMetrics) -> None:
    tasks = np.arange(1, len(metrics.R) + 1)
    curves = [
        ("Acc", metrics.acc_after_each_task, _ACC, "o", "-"),
        ("BWF", metrics.bwf_after_each_task, _BWF, "s", "--"),
    ]
    for name, accuracies in metrics.classifiers.items():
        if name != metrics.classifier:
            curves.append((f"Acc, {_name(name.replace('_', ' '))}", accuracies.acc_after_each_task, _OTHER, "^", ":"))
    for name, values, colour, marker, dashes in curves:
        percent = [np.nan if value is None else 100 * value for value in values]
        axes.plot(tasks, percent, color=colour, marker=marker, linestyle=dashes, label=name)
    axes.set(xlabel="tasks learned", ylabel="%")
    axes.xaxis.set_major_locator(MaxNLocator(_MAX_TICKS, integer=True))
    axes.set_ylim(min(0, axes.get_ylim()[0]), 103)
    axes.grid(color="0.9")
    axes.set_title("after each task", fontsize=10)
    axes.legend(frameon=False, fontsize=9)
