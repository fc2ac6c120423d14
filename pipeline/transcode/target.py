"""The folder that a data set is written to: locked while a run lasts, and checked before anything is written.

While a run is unfinished, the folder holds `.work/`: the plan, the records of published shards, finished parts, and one
folder of drafts for each run. A complete run leaves none of these.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vclimb.pipeline.dataset.header import HEADER
from vclimb.pipeline.errors import TargetError
from vclimb.pipeline.system.folders import held_folder, writable
from vclimb.pipeline.transcode.plan import PLAN
from vclimb.pipeline.transcode.work_names import RECORDS, WORK

_DRAFTS = "drafts-"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder of a data set for this process.

    Raises a TargetBusyError where another run holds it, and a TargetError where it can't be made or written, or holds
    files that are not a data set.
    """
    with held_folder(folder):
        _refuse_links(folder / WORK)
        foreign = [name for name in os.listdir(folder) if name not in (WORK, HEADER)]
        if foreign and not (folder / HEADER).exists() and not (folder / WORK).exists():
            raise TargetError(
                f"{folder} holds files that are not a data set ({foreign[0]!r} and {len(foreign) - 1} more); "
                "choose an empty or a new folder"
            )
        yield


def _refuse_links(path: Path) -> None:
    """Raise a TargetError where `.work/`, in which files are written and removed, is a link or holds one."""
    if path.is_symlink():
        raise TargetError(
            f"{path} is a symbolic link to {str(path.readlink())!r}; files are written and removed there, "
            "which must lie in the data set; remove the link"
        )
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(path) as entries:
        for entry in entries:
            if entry.is_symlink() or entry.is_dir():
                _refuse_links(Path(entry.path))


@contextmanager
def work_folder(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Make `.work/` and a new folder for this run's drafts; remove the drafts of earlier runs.

    The draft folder has a new name each time, so that an ffmpeg that outlived a killed run can't write into it.
    """
    work = folder / WORK
    with writable(folder):
        if work.exists() and not (work / PLAN).exists():  # killed while planning, or the plan was damaged and removed
            for leftover in work.iterdir():
                if leftover.name != RECORDS:
                    shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        (work / RECORDS).mkdir(parents=True, exist_ok=True)
        for leftover in work.glob(f"{_DRAFTS}*"):
            shutil.rmtree(leftover)
        drafts = Path(tempfile.mkdtemp(prefix=_DRAFTS, dir=work))
    try:
        yield work, drafts
    except OSError:  # a TargetError, too
        if drafts.exists() and (work / RECORDS).exists():
            raise
        message = f"{work}, or a part of it, was removed while a run wrote to it; run the same command again"
        raise TargetError(message) from None
    finally:
        shutil.rmtree(drafts, ignore_errors=True)
        if not (work / PLAN).exists() and not any((work / RECORDS).glob("*")):
            shutil.rmtree(work, ignore_errors=True)
            with suppress(FileNotFoundError):
                if not os.listdir(folder):  # leave no empty data set
                    folder.rmdir()


def finish_work(work: Path) -> None:
    """End a run for good. The plan is removed first: without a plan, only the records count, which the catalog has."""
    (work / PLAN).unlink(missing_ok=True)
    shutil.rmtree(work / RECORDS)
    (work / RECORDS).mkdir()
