"""A run as a picture: the accuracy matrix, and what accuracy and forgetting are after each task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vclimb.pipeline.transcode.target import writable

matplotlib.use("agg")

# Okabe and Ito's colours, which the colour-blind can tell apart; lines differ in marker and dashes too.
_ACC, _BWF, _OTHER = "#0072B2", "#D55E00", "#009E73"
_MOST_NUMBERED_TASKS = 14


def draw_run(metrics: dict[str, Any], path: Path) -> None:
    """Draw a run's metrics as a PNG.

    Raises:
        TargetError: it can't be written there.
    """
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _matrix(figure, left, metrics)
    _curves(right, metrics)
    scenario = metrics["scenario"]
    consistency = f"{metrics['method']}, {scenario['name']}, seed {metrics['seed']}"
    figure.suptitle(consistency.replace("$", r"\$"), fontsize=11)
    with writable(path.parent):
        figure.savefig(path, dpi=150, format="png")


def _matrix(figure: Figure, axes: Axes, metrics: dict[str, Any]) -> None:
    values = np.array([[np.nan if v is None else 100 * v for v in row] for row in metrics["R"]], float)
    image = axes.imshow(values, cmap="cividis", vmin=0, vmax=100, aspect="auto")
    n_rows, n_columns = values.shape
    axes.set_xticks(range(n_columns), [str(n + 1) for n in range(n_columns)])
    axes.set_yticks(range(n_rows), [str(n + 1) for n in range(n_rows)])
    axes.set_xlabel("evaluated on task")
    axes.set_ylabel("after learning task")
    axes.set_title(f"accuracy in %, {metrics['classifier'].replace('_', ' ')} classifier", fontsize=10)
    if n_columns <= _MOST_NUMBERED_TASKS:
        for (row, column), value in np.ndenumerate(values):
            if not np.isnan(value):
                colour = "white" if value < 55 else "black"
                axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=9)
    figure.colorbar(image, ax=axes, label="%")


def _curves(axes: Axes, metrics: dict[str, Any]) -> None:
    tasks = np.arange(1, len(metrics["R"]) + 1)
    lines = [
        ("Acc", metrics["acc_after_each_task"], _ACC, "o", "-"),
        ("BWF", metrics["bwf_after_each_task"], _BWF, "s", "--"),
    ]
    for name, of in metrics["classifiers"].items():
        if name != metrics["classifier"]:
            lines.append((f"Acc, {name.replace('_', ' ')}", of["acc_after_each_task"], _OTHER, "^", ":"))
    for name, values, colour, marker, dashes in lines:
        percent = [np.nan if value is None else 100 * value for value in values]
        axes.plot(tasks, percent, color=colour, marker=marker, linestyle=dashes, label=name)
    axes.set_xlabel("tasks learned")
    axes.set_ylabel("%")
    axes.set_xticks(tasks)
    axes.set_ylim(min(0, axes.get_ylim()[0]), 103)
    axes.grid(color="0.9")
    axes.set_title("after each task", fontsize=10)
    axes.legend(frameon=False, fontsize=9)
