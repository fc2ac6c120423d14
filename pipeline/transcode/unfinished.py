"""Checks of what an earlier run left unfinished: whether it is of this source, and its records of its plan."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from vclimb.pipeline.dataset.catalog import ShardRecord
from vclimb.pipeline.errors import DatasetError, TargetError
from vclimb.pipeline.sources.table import SourceTable, printable_path
from vclimb.pipeline.system.garbage import collection_paused
from vclimb.pipeline.transcode.assembly import read_published, record_path
from vclimb.pipeline.transcode.plan import PLAN, Plan


@collection_paused()
def refuse_other_source(plan: Plan, table: SourceTable, out: Path, work: Path) -> None:
    """Raise unless an unfinished plan is of this source. A source that was moved is fine.

    Raises:
        TargetError: The source holds no video of the plan.
        DatasetError: The plan has a path that leads out of the source, as only the source's table may.
    """
    listed = set(table.videos.paths)
    first, n_listed = None, 0
    for path in plan.shards.paths():
        first = path if first is None else first
        n_listed += path in listed
        if _leads_outside(path) and path not in listed:
            raise DatasetError(
                f"{work / PLAN} plans {path!r}, which is outside of {table.root} and not listed by the source; "
                "remove the plan and run the same command again: finished shards are kept"
            )
    if first is not None and not n_listed:
        raise TargetError(
            f"{out} holds an unfinished run over another source: none of its {plan.n_videos} videos "
            f"({printable_path(first)!r}, ...) is in {table.root}; complete it with its own source "
            "first, or choose another --out"
        )


def _leads_outside(path: str) -> bool:
    """Whether a path that is relative to a source's root may leave it, as only a table may allow."""
    return os.path.isabs(path) or ".." in path.split("/")


def published_of(plan: Plan, work: Path, known: Collection[int] = ()) -> dict[int, ShardRecord]:
    """The records of the shards of a plan that are published, without those whose numbers are known.

    Raises a DatasetError for a record of another plan.
    """
    records = {published.record.number: published.record for published in read_published(work, known)}
    for number, record in records.items():
        shard = plan.shards.numbered(number)
        keys = {planned.video.key for planned in shard.videos} if shard is not None else set()
        other_name = record.files is not None and record.files.tar != f"{plan.name}-{number:06d}.tar"
        if not keys or other_name or not keys.issuperset(video.key for video in record.videos):
            raise DatasetError(
                f"{record_path(work, number)} is not the record of a shard that {work / PLAN} plans; "
                "remove it and run the same command again: this shard is made again, and the others are kept"
            )
    return records
