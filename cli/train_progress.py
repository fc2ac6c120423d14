"""What is seen of a run while it trains: the task, the epoch, its loss, and a line when a task has ended."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from vclimb.cli.console import err, plain, progress, warn
from vclimb.training.run_log import RunLog

if TYPE_CHECKING:
    from rich.progress import TaskID


class TrainProgress(RunLog):
    """A progress bar on stderr, and a line for each task; says nothing where it is quiet. A `RunLog`."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._bar = progress("", quiet)
        self._task: TaskID | None = None
        self._where = ""
        self._note = ""

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def event(self, event: str, **facts: Any) -> None:
        if event == "task":
            self._where = f"task {facts['task'] + 1}/{facts['n_tasks']}"
        elif event == "epoch":
            losses = ", ".join(f"{name} {value:.3f}" for name, value in facts["losses"].items())
            self._note = f"epoch {facts['epoch'] + 1}/{facts['epochs']}, {losses}"
        elif not self._quiet:
            self._say(event, facts)

    def advance(self, what: str, done: int, total: int) -> None:
        if self._task is None:
            self._task = self._bar.add_task("", total=total, note="")
        note = self._note if what == "training" else ""
        self._bar.update(self._task, description=f"{self._where}: {what}", completed=done, total=total, note=note)

    def close(self) -> None: ...

    def _say(self, event: str, facts: dict[str, Any]) -> None:
        if event == "run":
            how = "going on with" if facts["resumed"] else "training"
            processes = f", {facts['processes']} processes" if facts["processes"] > 1 else ""
            err.print(
                f"{how} {facts['method']}: {facts['n_tasks']} tasks, {facts['n_classes']} classes, on "
                f"{facts['device']}{processes}"
            )
        elif event == "decoder" and facts["task"] == 0:
            err.print(f"[dim]decoder {facts['decoder']}: {plain(facts['reason'])}[/]")
        elif event == "decoded_ahead":
            err.print(f"[dim]{self._where}: {plain(facts['cost'])}[/]")
        elif event == "warning":
            warn(facts["text"])
        elif event == "evaluated":
            memory = facts["memory"]
            kept = f", memory {memory['videos']} videos, {memory['bytes_on_disk'] / 1e6:.2f} MB" if memory else ""
            accuracies = " ".join("-" if a is None else f"{100 * a:.1f}" for a in facts["accuracies"])
            err.print(
                f"task {facts['task'] + 1}/{facts['n_tasks']} in {sum(facts['seconds'].values()):.1f} s: "
                f"Acc {_percent(facts['acc'])}, BWF {_percent(facts['bwf'])} (accuracy on each task: {accuracies})"
                f"{kept}"
            )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"
