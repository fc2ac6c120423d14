"""Result of a prepare run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vclimb.pipeline.dataset.rows import FailedVideo
from vclimb.pipeline.sources.table import printable_path


@dataclass(frozen=True)
class PrepareSummary:
    """Result of a prepare run.

    Attributes:
        out: Folder or URL of the data set.
        prepared: Number of videos that this run stored.
        already_there: Number of videos that were stored before.
        failed_now: Rows that this run added to `errors.jsonl`.
        failed_before: Number of videos left alone because they failed in an earlier run.
        missing: Number of videos that the source lists and the disk lacks.
        changed: Paths of stored videos whose source file changed its size since. They are kept as stored.
        gone: Number of stored videos that the source no longer has. They are kept.
        totals: Counts, bytes and seconds of the whole data set.
        notes: Sentences for the user: guesses, things ignored, warnings.
    """

    out: Path | str
    prepared: int
    already_there: int
    failed_now: list[FailedVideo]
    failed_before: int
    missing: int
    changed: list[str]
    gone: int
    totals: dict[str, Any]
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """The summary as plain JSON values."""
        row = {**asdict(self), "out": printable_path(str(self.out))}
        del row["notes"]
        return row
