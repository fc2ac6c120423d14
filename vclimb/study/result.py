"""Result of a study: the states of its runs, and the way to its report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from vclimb.study.report.results import read_results
from vclimb.study.report.write import Report, write_report
from vclimb.study.stored import Failure


@dataclass(frozen=True)
class StudyResult:
    """States of a study's runs, by their names.

    Attributes:
        folder: Folder of the study.
        complete: Runs that were complete before.
        ran: Runs that were completed by the call which returned this result.
        failed: Runs that failed in that call, with the reasons.
        failed_before: Runs that failed earlier and were not tried again, with the reasons.
        unfinished: Runs that have neither ended nor failed; the next `Study.run` goes on with them.
    """

    folder: Path
    complete: tuple[str, ...]
    ran: tuple[str, ...]
    failed: Mapping[str, Failure]
    failed_before: Mapping[str, Failure]
    unfinished: tuple[str, ...]

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read the result of a study from its folder, or from any folder that holds run folders.

        Raises:
            DatasetError: There is no run in it.
            StudyError: A file of the study is damaged.
        """
        results = read_results(folder)
        return cls(
            folder=results.path,
            complete=tuple(run.run_id for run in results.complete),
            ran=(),
            failed={},
            failed_before=results.failures,
            unfinished=(*(run.run_id for run in results.unfinished), *results.damaged, *results.waiting),
        )

    @property
    def is_complete(self) -> bool:
        """Whether every run is complete."""
        return not (self.failed or self.failed_before or self.unfinished)

    @property
    def n_runs(self) -> int:
        """Number of runs of the study."""
        parts = (self.complete, self.ran, self.failed, self.failed_before, self.unfinished)
        return sum(len(part) for part in parts)

    def report(self, out: Path | str | None = None, progress: bool | None = None) -> Report:
        """Write the report: a page, tables and plots.

        Args:
            out: Folder of the report; None: the study's folder.
            progress: Whether progress is shown on stderr. None: if stderr is a terminal or a notebook.

        Raises:
            DatasetError: There is no run.
            TargetError: The folder can't be written.
        """
        return write_report(self.folder, out, progress)

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values."""
        return {
            "complete_before": list(self.complete),
            "ran": list(self.ran),
            "failed": {run_id: failure.error for run_id, failure in self.failed.items()},
            "failed_before": {run_id: failure.error for run_id, failure in self.failed_before.items()},
            "unfinished": list(self.unfinished),
            "is_complete": self.is_complete,
        }
