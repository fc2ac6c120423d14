"""What a run shows while it trains: a progress bar, and a line for each task."""

from __future__ import annotations

from typing import Any, Self

from rich.progress import TaskID

from vclimb.pipeline.system.progress import is_shown, printable, progress_bar, stderr
from vclimb.training.run_log import RunLog


class TrainProgress(RunLog):
    """Shows a run on stderr.

    Args:
        progress: None: a bar and lines on a terminal and in Jupyter. True: lines elsewhere too. False: nothing.
    """

    def __init__(self, progress: bool | None = None) -> None:
        self._has_lines = is_shown(progress) or progress is True
        self._bar = progress_bar("", progress)
        self._task: TaskID | None = None
        self._where = ""
        self._note = ""

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def event(self, event: str, **facts: Any) -> None:
        if event == "task":
            self._where = f"task {facts['task'] + 1}/{facts['n_tasks']}"
        elif event == "epoch":
            losses = ", ".join(f"{name} {value:.3f}" for name, value in facts["losses"].items())
            self._note = f"epoch {facts['epoch'] + 1}/{facts['epochs']}, {losses}"
        elif self._has_lines:
            self._print(event, facts)

    def advance(self, what: str, done: int, total: int) -> None:
        if self._task is None:
            self._task = self._bar.add_task("", total=total, note="")
        note = self._note if what == "training" else ""
        self._bar.update(self._task, description=f"{self._where}: {what}", completed=done, total=total, note=note)

    def _print(self, event: str, facts: dict[str, Any]) -> None:
        if event == "run":
            begin = "resuming" if facts["resumed"] else "training"
            processes = f", {facts['processes']} processes" if facts["processes"] > 1 else ""
            _print_line(
                f"{begin} {facts['method']}: {facts['n_tasks']} tasks, {facts['n_classes']} classes, on "
                f"{facts['device']}{processes}"
            )
        elif event == "decoder" and facts["task"] == 0:
            _print_line(f"decoder {facts['decoder']}: {facts['reason']}", "dim")
        elif event == "decoded_ahead":
            _print_line(f"{self._where}: {facts['cost']}", "dim")
        elif event == "warning":
            _print_line(f"warning: {facts['text']}", "yellow")
        elif event == "evaluated":
            memory = facts["memory"]
            kept = f", memory {memory['videos']} videos, {memory['bytes_on_disk'] / 1e6:.2f} MB" if memory else ""
            accuracies = " ".join("-" if a is None else f"{100 * a:.1f}" for a in facts["accuracies"])
            _print_line(
                f"task {facts['task'] + 1}/{facts['n_tasks']} in {sum(facts['seconds'].values()):.1f} s: "
                f"Acc {_percent(facts['acc'])}, BWF {_percent(facts['bwf'])} (accuracy on each task: {accuracies})"
                f"{kept}"
            )


def _print_line(text: str, style: str | None = None) -> None:
    """Print text as it is: no markup, and no control characters, which names of files may hold."""
    stderr.print(printable(text), style=style, markup=False)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"
