"""What a run shows while it trains: a progress bar, and a line for each task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.progress import TaskID

from vclimb.pipeline.system.progress import is_shown, printable, progress_bar, stderr
from vclimb.training.events import Event
from vclimb.training.run_log import RunLog
from vclimb.training.start import start_line


class TrainProgress(RunLog):
    """Shows a run on stderr; `progress` is as in `vclimb.train`."""

    def __init__(self, progress: bool | None = None) -> None:
        self._has_lines = is_shown(progress) or progress is True
        self._bar = progress_bar("", progress)
        self._bar_task: TaskID | None = None
        self._task = ""
        self._epoch = ""

    def record(self, event: Event) -> None:
        values = event.values
        if event.kind == "task":
            self._task = f"task {values['task'] + 1}/{values['n_tasks']}"
        elif event.kind == "epoch":
            losses = ", ".join(f"{name} {value:.3f}" for name, value in values["losses"].items())
            self._epoch = f"epoch {values['epoch'] + 1}/{values['epochs']}, {losses}"
        elif self._has_lines:
            self._print(event.kind, values)

    def advance(self, what: str, done: int, total: int) -> None:
        if self._bar_task is None:
            self._bar.start()
            self._bar_task = self._bar.add_task("", total=total, note="")
        note = self._epoch if what == "training" else ""
        self._bar.update(self._bar_task, description=f"{self._task}: {what}", completed=done, total=total, note=note)

    def close(self) -> None:
        self._bar.stop()

    def _print(self, kind: str, values: Mapping[str, Any]) -> None:
        if kind == "run":
            begin = "resuming" if values["resumed"] else "training"
            processes = f", {values['processes']} processes" if values["processes"] > 1 else ""
            counts = f"{values['n_tasks']} tasks, {values['n_classes']} classes"
            _print_line(f"{begin} {values['method']}: {counts}, on {values['device']}{processes}")
        elif kind == "decoder" and values["task"] == 0:
            _print_line(f"decoder {values['decoder']}: {values['reason']}", "dim")
        elif kind == "kernels" and values["task"] == 0:
            _print_line(values["text"], "dim")
        elif kind == "started":
            _print_line(start_line(values["seconds"]), "dim")
        elif kind == "decoded_ahead":
            _print_line(f"{self._task}: {values['cost']}", "dim")
        elif kind == "beginning":
            _print_line(values["text"], "dim" if values["use"] in ("taken", "kept") else "yellow")
        elif kind == "pilot":
            _print_line(values["text"])
        elif kind == "warning":
            _print_line(f"warning: {values['text']}", "yellow")
        elif kind == "evaluated":
            memory = values["memory"]
            kept = f", memory {memory['videos']} videos, {memory['bytes_on_disk'] / 1e6:.2f} MB" if memory else ""
            accuracies = " ".join("-" if a is None else f"{100 * a:.1f}" for a in values["accuracies"])
            _print_line(
                f"{self._task} in {sum(values['seconds'].values()):.1f} s: Acc {_percent(values['acc'])}, "
                f"BWF {_percent(values['bwf'])} (accuracy on each task: {accuracies}){kept}"
            )


def _print_line(text: str, style: str | None = None) -> None:
    """Print text as it is: names in it are no markup, and hold no commands to the terminal."""
    stderr.print(printable(text), style=style, markup=False)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"
