"""An update of a memory that is stopped at a step, and the state that it leaves."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from memory_store_cases import (
    Contents,
    bytes_of,
    contents,
    folders_of,
    has_no_strays,
    make_new,
    make_old,
)

from vclimb.memory.store.reader import MemoryStore
from vclimb.pipeline.system import durable

REMOVALS = ("unlink", "rmdir")


def undisturbed_update(folder: Path) -> tuple[Path, Path]:
    """Make the memory before an update, and after an update that nothing disturbed."""
    old, new = folder / "old.zarr", folder / "new.zarr"
    make_old(old)
    shutil.copytree(old, new)
    make_new(new)
    assert has_no_strays(old)
    assert has_no_strays(new)
    return old, new


@contextmanager
def quick_folder() -> Iterator[Path]:
    """Make a folder in memory where the system has one: on a disk, hundreds of updates wait for each rename."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        yield Path(folder)


@functools.cache
def _contents_of(path: Path) -> Contents:
    """Read a memory that nobody changes once."""
    return contents(MemoryStore.open(path))


def is_old_or_new(path: Path, old_and_new: tuple[Path, Path]) -> str:
    """Read a whole memory and tell whether it is the old or the new one; reading changes nothing."""
    before = bytes_of(path), folders_of(path)
    memory = MemoryStore.open(path)
    which = {1: "old", 2: "new"}[memory.generation]
    assert contents(memory) == _contents_of(old_and_new[memory.generation - 1])
    assert list(memory.verify()) == []
    assert (bytes_of(path), folders_of(path)) == before
    return which


class Killed(BaseException):
    """Stands for SIGKILL, after which a process does nothing."""


@contextmanager
def stopped_at(step: int | None, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> Iterator[list[str]]:
    """Let changes to files fail from the given step on. Yields the names of the steps taken.

    After a kill nothing is changed any more; on a full disk files and folders can still be removed. A write that fails
    has written half.
    """
    taken: list[str] = []

    def counted(name: str, change: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if step is not None and len(taken) >= step and not (isinstance(error, OSError) and name in REMOVALS):
                if name == "write_bytes" and arguments[0].parent.is_dir():
                    change(arguments[0], arguments[1][: len(arguments[1]) // 2])
                raise error
            taken.append(name)
            return change(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(durable, "_SYNCS_AT_ONCE", 1)
        for name in ("replace", "mkdir", "fsync", *REMOVALS):
            patch.setattr(os, name, counted(name, getattr(os, name)))
        patch.setattr(Path, "write_bytes", counted("write_bytes", Path.write_bytes))
        yield taken
