"""What a run shows while it trains: a progress bar, and a line for each task."""

from __future__ import annotations

from typing import Self

from rich.progress import TaskID

from vclimb.pipeline.system.progress import is_shown, printable, progress_bar, stderr
from vclimb.training.events import (
    DecoderChosen,
    EpochEnded,
    Event,
    ExemplarsDecoded,
    RunBegun,
    RunWarning,
    TaskBegun,
    TaskEvaluated,
)
from vclimb.training.run_log import RunLog


class TrainProgress(RunLog):
    """Shows a run on stderr.

    Args:
        progress: None: a bar and lines on a terminal and in Jupyter. True: lines elsewhere too. False: nothing.
    """

    def __init__(self, progress: bool | None = None) -> None:
        self._has_lines = is_shown(progress) or progress is True
        self._bar = progress_bar("", progress)
        self._bar_task: TaskID | None = None
        self._task = ""
        self._epoch = ""

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def event(self, event: Event) -> None:
        if isinstance(event, TaskBegun):
            self._task = f"task {event.task + 1}/{event.n_tasks}"
        elif isinstance(event, EpochEnded):
            losses = ", ".join(f"{name} {value:.3f}" for name, value in event.losses.items())
            self._epoch = f"epoch {event.epoch + 1}/{event.epochs}, {losses}"
        elif self._has_lines:
            self._print(event)

    def advance(self, what: str, done: int, total: int) -> None:
        if self._bar_task is None:
            self._bar_task = self._bar.add_task("", total=total, note="")
        note = self._epoch if what == "training" else ""
        self._bar.update(self._bar_task, description=f"{self._task}: {what}", completed=done, total=total, note=note)

    def _print(self, event: Event) -> None:
        if isinstance(event, RunBegun):
            begin = "resuming" if event.resumed else "training"
            processes = f", {event.processes} processes" if event.processes > 1 else ""
            _print_line(
                f"{begin} {event.method}: {event.n_tasks} tasks, {event.n_classes} classes, "
                f"on {event.device}{processes}"
            )
        elif isinstance(event, DecoderChosen) and event.task == 0:
            _print_line(f"decoder {event.decoder}: {event.reason}", "dim")
        elif isinstance(event, ExemplarsDecoded):
            _print_line(f"{self._task}: {event.cost}", "dim")
        elif isinstance(event, RunWarning):
            _print_line(f"warning: {event.text}", "yellow")
        elif isinstance(event, TaskEvaluated):
            memory = event.memory
            kept = f", memory {memory.videos} videos, {memory.bytes_on_disk / 1e6:.2f} MB" if memory else ""
            accuracies = " ".join("-" if a is None else f"{100 * a:.1f}" for a in event.accuracies)
            _print_line(
                f"task {event.task + 1}/{event.n_tasks} in {sum(event.seconds.values()):.1f} s: "
                f"Acc {_percent(event.acc)}, BWF {_percent(event.bwf)} (accuracy on each task: {accuracies}){kept}"
            )


def _print_line(text: str, style: str | None = None) -> None:
    """Print text as it is: names in it are no markup, and hold no commands to the terminal."""
    stderr.print(printable(text), style=style, markup=False)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"
