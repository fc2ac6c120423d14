"""A writer on a full disk raises an error and leaves the old memory or the new one."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from memory_kill_cases import Killed, is_old_or_new, quick_folder, stopped_at, undisturbed_update
from memory_store_cases import ADDED, KEEP, bytes_of, update

from vclimb.memory.store.writer import MemoryWriter
from vclimb.pipeline.errors import TargetError

HERE = str(Path(__file__).parent)


@pytest.fixture(scope="module")
def old_and_new(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return undisturbed_update(tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture
def folder() -> Iterator[Path]:
    with quick_folder() as folder:
        yield folder


def test_a_disk_that_is_full_at_any_step(
    folder: Path, old_and_new: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer raises an error, the memory is old or new, and the same writer goes on once there is space."""
    path = shutil.copytree(old_and_new[0], folder / "memory.zarr")
    with MemoryWriter.open(path) as writer, stopped_at(None, monkeypatch, Killed()) as steps:
        update(writer, ADDED, KEEP)
    shutil.rmtree(path)
    seen = set()
    for step in range(len(steps)):
        path = shutil.copytree(old_and_new[0], folder / "memory.zarr")
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        writer = MemoryWriter.open(path)
        needs_space = not {"write_bytes", "replace"}.isdisjoint(steps[step:])
        said = pytest.raises(TargetError, match="no space left on the disk of") if needs_space else nullcontext()
        with stopped_at(step, monkeypatch, full), said:
            update(writer, ADDED, KEEP)
        which = is_old_or_new(path, old_and_new)
        if which == "old":
            assert bytes_of(path) == bytes_of(old_and_new[0])
            update(writer, ADDED, KEEP)
        else:
            writer.rollback()
        writer.close()
        seen.add(which)
        assert bytes_of(path) == bytes_of(old_and_new[1])
        shutil.rmtree(path)
    assert seen == {"old", "new"}


FILL = """
import shutil, subprocess, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from memory_store_cases import bytes_of, make_new
from vclimb.pipeline.errors import TargetError

old, disk = Path(sys.argv[1]), Path(sys.argv[2])
if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk]).returncode:
    sys.exit(77)
path = shutil.copytree(old, disk / "memory.zarr")
used = shutil.disk_usage(disk).used
failures = 0
for pages in range(500):
    subprocess.run(["mount", "-o", f"remount,size={used + 4096 * pages}", disk], check=True)
    try:
        make_new(path)
        break
    except TargetError as error:
        assert "no space left on" in str(error), error
        assert bytes_of(path) == bytes_of(old)
        failures += 1
assert failures > 10, failures
shutil.copytree(path, sys.argv[4])
"""


def test_a_disk_of_its_own_that_is_full(tmp_path: Path, old_and_new: tuple[Path, Path]) -> None:
    """A small disk grows by a page each time, until there is space enough."""
    (tmp_path / "disk").mkdir()
    command = [sys.executable, "-c", FILL, old_and_new[0], tmp_path / "disk", HERE, tmp_path / "memory.zarr"]
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("mounting a small disk is not permitted")
    done = subprocess.run(["unshare", "-m", *map(str, command)], capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip("mounting a small disk is not permitted")
    assert done.returncode == 0, done.stderr
    assert bytes_of(tmp_path / "memory.zarr") == bytes_of(old_and_new[1])
