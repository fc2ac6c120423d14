"""Progress of a study on stderr: one bar for all runs, and a line for each that has ended."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from rich.markup import escape

from vclimb.pipeline.system.progress import is_shown, progress_bar, stderr
from vclimb.study.cells import Cell
from vclimb.study.folder import StudyFolder
from vclimb.study.naming import duration, label, varied
from vclimb.study.running.events import EventTail, TimeLeft
from vclimb.training.run_folder import EVENTS

_LOOK_SECONDS = 0.5
# Share of a run that is under way and has not reported anything.
_BEGUN = 1e-9


class StudyProgress:
    """Progress of a study.

    Args:
        cells: All cells of the study.
        run_ids: Runs to compute.
        folder: Folder of the study.
        progress: `None`: shown where stderr is a terminal, or in Jupyter. `False`: never shown. `True`: the lines also
            go to a log file.
    """

    def __init__(
        self, cells: Sequence[Cell], run_ids: Sequence[str], folder: StudyFolder, progress: bool | None
    ) -> None:
        settings = [cell.settings for cell in cells]
        names = [*varied(settings), "seed"]
        self._labels = {cell.run_id: label(table, names) for cell, table in zip(cells, settings, strict=True)}
        self._folder = folder
        self._has_lines = bool(progress) or is_shown(progress)
        self._bar = progress_bar("runs", progress)
        self._task = self._bar.add_task("running", total=len(run_ids), note="")
        self._tails = {run_id: EventTail(folder.run(run_id) / EVENTS) for run_id in run_ids}
        self._ended: set[str] = set()
        self._left = TimeLeft()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="study-progress", daemon=True)

    def __enter__(self) -> StudyProgress:
        self._bar.start()
        if not self._bar.disable:
            self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        self._bar.stop()

    def says(self, line: str) -> None:
        """Say what an executor has decided."""
        self._print(escape(line))

    def waits(self, run_id: str) -> None:
        """Say that a process of an earlier study still computes a run."""
        self._print(f"[yellow]waiting[/] for {self._name(run_id)}: a process of an earlier study has not ended yet")

    def ended(self, run_id: str, state: str, error: str = "") -> None:
        """Say how a run has ended."""
        self._ended.add(run_id)
        if error:
            self._print(f"[red]{state}[/]   {self._name(run_id)}: {escape(error)}")
        else:
            self._print(f"{state} {self._name(run_id)}")

    def _follow(self) -> None:
        while not self._closing.wait(_LOOK_SECONDS):
            begun = self._folder.begun()
            shares = {
                run_id: 1.0 if run_id in self._ended else self._share(run_id) if run_id in begun else 0.0
                for run_id in self._tails
            }
            n_running = sum(0 < share < 1 for share in shares.values())
            left = self._left.seconds(shares)
            note = f"{n_running} under way" + ("" if left is None else f", about {duration(left)} left")
            self._bar.update(self._task, completed=sum(shares.values()), note=note)

    def _share(self, run_id: str) -> float:
        return self._tails[run_id].share_done() or _BEGUN * self._folder.is_running(run_id)

    def _name(self, run_id: str) -> str:
        return f"{run_id} ({escape(self._labels[run_id])})"

    def _print(self, text: str) -> None:
        if self._has_lines:
            stderr.print(text)
