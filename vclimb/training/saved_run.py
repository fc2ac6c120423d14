"""A run that was trained before, read from its folder."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vclimb.pipeline.errors import DatasetError
from vclimb.pipeline.system.paths import local_path
from vclimb.training.config import RunConfig
from vclimb.training.events import Event, read_events
from vclimb.training.run_folder import EVENTS, RunFolder
from vclimb.training.run_metrics import MemoryFacts, RunMetrics

if TYPE_CHECKING:
    from vclimb.memory.api import Memory


class Run:
    """A run: settings, metrics, events and replay memory.

    An attribute is read from the folder at its first use; load the run again to see later changes. A run that
    is still training can be loaded too.

    Args:
        folder: Folder of the run, `runs/NAME`.

    Attributes:
        folder: Folder of the run.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    @classmethod
    def load(cls, folder: Path | str) -> Run:
        """Open the folder of a run.

        Raises:
            DatasetError: the folder holds no run.
        """
        if not RunFolder(folder).exists:
            raise DatasetError(f"{folder} holds no run; give the folder that `vclimb train --out` wrote")
        return cls(folder)

    @cached_property
    def config(self) -> RunConfig:
        """Settings of the run.

        Raises:
            SettingsError: `config.toml` is damaged.
        """
        return RunFolder(self.folder).config()

    @cached_property
    def metrics(self) -> RunMetrics | None:
        """Everything that was measured; None before the first task's end.

        Raises:
            DatasetError: `metrics.json` is damaged.
        """
        return RunFolder(self.folder).metrics()

    @property
    def is_complete(self) -> bool:
        """Whether the last task has ended."""
        return self.metrics is not None and self.metrics.complete

    @cached_property
    def events(self) -> list[Event]:
        """Everything that happened, oldest first; empty where nothing was written."""
        return read_events(self.folder / EVENTS)

    @property
    def acc(self) -> float | None:
        """Mean accuracy over the tasks learned so far, 0 to 1."""
        return self._measured.acc

    @property
    def bwf(self) -> float | None:
        """Backward forgetting over the tasks learned so far."""
        return self._measured.bwf

    @property
    def R(self) -> npt.NDArray[np.float64]:  # noqa: N802  # the name in the papers
        """Accuracy on task j (column) after learning task i (row).

        (tasks, tasks) float64, 0 to 1; NaN above the diagonal, and in rows of tasks that have not ended.
        """
        measured = self._measured.matrix
        matrix = np.full((measured.shape[1], measured.shape[1]), np.nan)
        matrix[: len(measured)] = measured
        return matrix

    @property
    def memory(self) -> MemoryFacts | None:
        """Size of the replay memory; None for a method without memory."""
        return self._measured.memory

    def open_memory(self) -> Memory:
        """Open the replay memory itself.

        Raises:
            DatasetError: the run keeps none, or it can't be read.
        """
        from vclimb.memory.api import Memory  # loads the codecs, which metrics don't need

        return Memory.open(RunFolder(self.folder).memory)

    def plot(self, path: Path | str) -> Path:
        """Draw the accuracy matrix and the curves after each task, as PNG, SVG or PDF by the path's suffix.

        Returns:
            Path of the picture.

        Raises:
            DatasetError: the run has not ended its first task.
            TargetError: the picture can't be written there.
        """
        from vclimb.training.chart import plot_run  # loads matplotlib

        path = local_path(path)
        plot_run(self._measured, path)
        return path

    @property
    def _measured(self) -> RunMetrics:
        if self.metrics is None:
            raise DatasetError(f"the run in {self.folder} has not ended its first task yet; load it later")
        return self.metrics

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"
