"""The folder that a data set is written to: ours alone while a run lasts, checked before anything is written.

While a run is unfinished the folder holds `.work/`: the plan, the records of published shards, finished parts, and one
folder of drafts that belongs to the run that made it. A complete run leaves none of it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vclimb.pipeline.dataset.catalog import HEADER
from vclimb.pipeline.errors import TargetError
from vclimb.pipeline.system.folders import held_folder, writable
from vclimb.pipeline.transcode.assembly import RECORDS
from vclimb.pipeline.transcode.plan import PLAN

WORK = ".work"
_DRAFTS = "drafts-"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder of a data set for this process.

    Raises:
        TargetBusyError: another run holds it.
        TargetError: it can't be made or written, or holds something that isn't ours.
    """
    with held_folder(folder):
        foreign = [name for name in os.listdir(folder) if name not in (WORK, HEADER)]
        if foreign and not (folder / HEADER).exists() and not (folder / WORK).exists():
            raise TargetError(
                f"{folder} holds files that are not a data set ({foreign[0]!r} and {len(foreign) - 1} more); "
                "choose an empty or a new folder"
            )
        yield


@contextmanager
def work_folder(folder: Path) -> Iterator[tuple[Path, Path]]:
    """`.work/` and a fresh folder for this run's drafts; what an earlier run left half done is removed.

    A draft folder has a new name each time, so that an ffmpeg that outlived a killed run can't write into this one.
    """
    work = folder / WORK
    with writable(folder):
        if work.exists() and not (work / PLAN).exists():  # killed while planning, or while removing `.work`
            shutil.rmtree(work)
        (work / RECORDS).mkdir(parents=True, exist_ok=True)
        for leftover in work.glob(f"{_DRAFTS}*"):
            shutil.rmtree(leftover)
        drafts = Path(tempfile.mkdtemp(prefix=_DRAFTS, dir=work))
    try:
        yield work, drafts
    finally:
        shutil.rmtree(drafts, ignore_errors=True)
        if not (work / PLAN).exists():
            shutil.rmtree(work, ignore_errors=True)
            if not os.listdir(folder):  # nothing came of it: leave no empty data set
                folder.rmdir()


def finish_work(work: Path) -> None:
    """End an unfinished run for good. The plan goes first: without it the rest counts as nothing."""
    (work / PLAN).unlink()
    shutil.rmtree(work / RECORDS)
    (work / RECORDS).mkdir()
