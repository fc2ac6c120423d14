"""The folder that a data set is written to: ours alone while a run lasts, checked before anything is written.

While a run is unfinished the folder holds `.work/`: the plan, the records of published shards, finished parts, and one
folder of drafts that belongs to the run that made it. A complete run leaves none of it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vclimb.pipeline.dataset.catalog import HEADER
from vclimb.pipeline.errors import TargetBusyError, TargetError
from vclimb.pipeline.transcode.assembly import RECORDS
from vclimb.pipeline.transcode.plan import PLAN

WORK = ".work"
_DRAFTS = "drafts-"


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Turn what the system says about a full, read-only or forbidden disk into a `TargetError`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = f"no space left on the disk of {folder}; free some and run the same command again"
        elif error.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENAMETOOLONG, errno.ELOOP):
            message = f"can't write to {folder}: {error.strerror}; choose another folder"
        elif error.errno in (errno.ENOTDIR, errno.EEXIST):
            message = f"{folder} can't be a folder: {error.strerror}; choose another folder"
        else:
            raise
        raise TargetError(message) from None


@contextmanager
def held_folder(folder: Path, doing: str = "writing to") -> Iterator[None]:
    """Make a folder and hold it for this process. The lock is the kernel's: it ends with the process, however it ends.

    Args:
        doing: what another run that holds it is doing, for the error.

    Raises:
        TargetBusyError: another run holds it.
        TargetError: it can't be made or written.
    """
    with writable(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:  # such as below /proc, where nothing can be made
            raise TargetError(f"can't make the folder {folder}: {error.strerror}; choose another folder") from None
        handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TargetBusyError(
                f"another run is {doing} {folder}; wait for it to end, or choose another folder"
            ) from None
        yield
    finally:
        os.close(handle)


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
