"""A writer that is killed, or whose disk is full, at any moment leaves the old memory or the new one, never another."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from memory_store_cases import (
    ADDED,
    KEEP,
    bytes_of,
    contents,
    contents_by_zarr,
    digest,
    expected_contents,
    folders_of,
    has_no_strays,
    make_new,
    make_old,
    new_class,
)

from pipeline.errors import TargetError
from vclimb.memory import durable
from vclimb.memory.store import MemoryStore
from vclimb.memory.writer import MemoryWriter

N_KILLS = 50
REMOVALS = ("unlink", "rmdir")
HERE = str(Path(__file__).parent)


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the processes that tests start sync: nothing in this one could tell the difference."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(scope="module")
def old_and_new(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The memory before an update, and after one that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    old, new = folder / "old.zarr", folder / "new.zarr"
    make_old(old)
    shutil.copytree(old, new)
    make_new(new)
    assert has_no_strays(old)
    assert has_no_strays(new)
    return old, new


@pytest.fixture
def quick_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that no disk is behind, where there is one: hundreds of updates wait for many a rename otherwise."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def is_old_or_new(path: Path, old_and_new: tuple[Path, Path]) -> str:
    """Which of the two a memory is, all of its contents read; looking at it changes nothing."""
    before = bytes_of(path), folders_of(path)
    memory = MemoryStore.open(path)
    which = {1: "old", 2: "new"}[memory.generation]
    undisturbed = MemoryStore.open(old_and_new[memory.generation - 1])
    assert contents(memory) == contents(undisturbed)
    assert list(memory.verify()) == []
    assert (bytes_of(path), folders_of(path)) == before
    return which


def is_finished_by_the_next_run(path: Path, old_and_new: tuple[Path, Path]) -> bool:
    make_new(path)
    assert bytes_of(path) == bytes_of(old_and_new[1])
    assert folders_of(path) == folders_of(old_and_new[1])
    return True


# Forks, for each line "seconds path", a process that updates the memory there, and kills it after those seconds.
KILLER = """
import os, signal, sys, time
sys.path.insert(0, sys.argv[1])
from memory_store_cases import make_new

for line in sys.stdin:
    seconds, path = line.split(maxsplit=1)
    pid = os.fork()
    if pid == 0:
        make_new(path.strip())
        os._exit(0)
    time.sleep(float(seconds))
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


def test_writer_killed_at_fifty_random_moments(quick_folder: Path, old_and_new: tuple[Path, Path]) -> None:
    command = [sys.executable, "-c", KILLER, HERE]
    killer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    dice = random.Random(50)
    path = quick_folder / "memory.zarr"

    def killed_after(seconds: float) -> bool:
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(old_and_new[0], path)
        assert killer.stdin is not None
        assert killer.stdout is not None
        killer.stdin.write(f"{seconds} {path}\n")
        killer.stdin.flush()
        code = int(killer.stdout.readline())
        assert code in (0, -9)
        return code == -9

    seen = []
    with killer:
        killed_after(5)  # the imports are done, and the update with them
        longest_seconds = 0.005
        while killed_after(longest_seconds):
            longest_seconds *= 1.3
        while len(seen) < N_KILLS:
            # As many moments in each fifth of the update; it doesn't take the same time each time.
            if killed_after((len(seen) % 5 + dice.random()) / 5 * longest_seconds):
                complete = bytes_of(path).keys() == bytes_of(old_and_new[0]).keys()
                seen.append((is_old_or_new(path, old_and_new), complete))
                assert contents_by_zarr(path) == contents(MemoryStore.open(path))
                assert is_finished_by_the_next_run(path, old_and_new)
            else:
                longest_seconds *= 0.97
        assert killer.stdin is not None
        killer.stdin.close()
    states = {which for which, _ in seen}
    assert states == {"old", "new"}
    assert ("old", False) in seen  # killed while it had files staged


class Killed(BaseException):
    """Nothing that a process does after SIGKILL."""


@contextmanager
def stopped_at(step: int | None, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> Iterator[list[str]]:
    """Let changes to files fail from the given one on. Yields the names of the steps that were taken.

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


@pytest.fixture
def steps(quick_folder: Path, old_and_new: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All that an update does to files, in order."""
    path = shutil.copytree(old_and_new[0], quick_folder / "steps.zarr")
    with stopped_at(None, monkeypatch, Killed()) as taken:
        make_new(path)
    assert len(taken) > 60
    assert set(taken) == {"write_bytes", "mkdir", "fsync", "replace", "unlink", "rmdir"}
    return taken


@pytest.mark.filterwarnings("ignore:Object at")
def test_killed_at_every_step(
    quick_folder: Path, old_and_new: tuple[Path, Path], steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (contents(MemoryStore.open(path)) for path in old_and_new)
    seen = []
    for step in range(len(steps)):
        path = shutil.copytree(old_and_new[0], quick_folder / "memory.zarr")
        with stopped_at(step, monkeypatch, Killed()) as taken, pytest.raises(Killed):
            make_new(path)
        assert taken == steps[:step]
        seen.append(is_old_or_new(path, old_and_new))
        # Whoever doesn't know consolidated metadata finds whole classes, of the old memory or of the new one.
        for label, found in contents_by_zarr(path, use_consolidated=False).items():
            assert found in (old.get(label), new.get(label))
        assert is_finished_by_the_next_run(path, old_and_new)
        shutil.rmtree(path)
    commit = seen.index("new")
    assert seen == ["old"] * commit + ["new"] * (len(steps) - commit)
    assert commit > 30
    assert len(steps) - commit > 10


def test_killed_while_the_memory_is_made(quick_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_old(quick_folder / "undisturbed.zarr")
    path = quick_folder / "memory.zarr"
    for step in range(8):
        with stopped_at(step, monkeypatch, Killed()), pytest.raises(Killed):
            make_old(path)
        make_old(path)
        assert bytes_of(path) == bytes_of(quick_folder / "undisturbed.zarr")
        shutil.rmtree(path)


def test_a_disk_that_is_full_at_any_step(
    quick_folder: Path, old_and_new: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer says so, the memory is old or new, and the same writer goes on once there is space."""
    path = shutil.copytree(old_and_new[0], quick_folder / "memory.zarr")
    with MemoryWriter.open(path) as writer, stopped_at(None, monkeypatch, Killed()) as steps:
        writer.update(ADDED, KEEP)
    shutil.rmtree(path)
    seen = set()
    for step in range(len(steps)):
        path = shutil.copytree(old_and_new[0], quick_folder / "memory.zarr")
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        writer = MemoryWriter.open(path)
        needs_space = not {"write_bytes", "replace"}.isdisjoint(steps[step:])
        said = pytest.raises(TargetError, match="no space left on the disk of") if needs_space else nullcontext()
        with stopped_at(step, monkeypatch, full), said:
            writer.update(ADDED, KEEP)
        which = is_old_or_new(path, old_and_new)
        if which == "old":
            assert bytes_of(path) == bytes_of(old_and_new[0])
            writer.update(ADDED, KEEP)
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
from pipeline.errors import TargetError

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
    """A small disk that grows by a page each time, until there is space enough."""
    (tmp_path / "disk").mkdir()
    command = [sys.executable, "-c", FILL, old_and_new[0], tmp_path / "disk", HERE, tmp_path / "memory.zarr"]
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("mounting a small disk is not permitted")
    done = subprocess.run(["unshare", "-m", *map(str, command)], capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip("mounting a small disk is not permitted")
    assert done.returncode == 0, done.stderr
    assert bytes_of(tmp_path / "memory.zarr") == bytes_of(old_and_new[1])


READER = """
import os, sys
sys.path.insert(0, sys.argv[1])
import zarr
from memory_store_cases import contents, digest
from vclimb.memory.errors import MemoryChangedError
from vclimb.memory.store import MemoryStore

path, stop = sys.argv[2:]
while True:
    is_last = os.path.exists(stop)
    try:
        memory = MemoryStore.open(path)
        print(memory.generation, "vclimb", digest(contents(memory)), flush=True)
    except MemoryChangedError:
        print("changed", flush=True)
    root = zarr.open_group(path, mode="r")
    names = {group.attrs["label"]: group["payload"].shape[0] for _, group in root["classes"].groups()}
    print(root.attrs["generation"], "zarr", sorted(names.items()), flush=True)
    if is_last:
        break
"""


def test_a_reader_meets_whole_memories_while_a_writer_writes(tmp_path: Path) -> None:
    path, stop = tmp_path / "memory.zarr", tmp_path / "stop"
    MemoryWriter.open(path).close()
    expected = {0: digest({})}
    shapes: dict[int, list[tuple[int, int]]] = {0: []}
    model: dict[int, Any] = {}
    with (tmp_path / "read.txt").open("w") as out:
        reader = subprocess.Popen([sys.executable, "-c", READER, HERE, path, stop], stdout=out)
    with reader, MemoryWriter.open(path) as writer:
        try:
            deadline = time.monotonic() + 30
            while not (tmp_path / "read.txt").read_text():
                assert reader.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)
            for number in range(20):
                new = new_class(number % 7, 1 + number % 4, unit_bytes=2000)
                keep = {label: max(0, len(exemplars) - 1) for label, (_, _, exemplars) in model.items()}
                writer.commit(keep | {new.label: 0} if new.label in model else keep)
                model = {label: what for label, what in shrunk(model, keep).items() if label != new.label}
                note(expected, shapes, writer.memory.generation, model)
                model |= expected_contents([new])
                note(expected, shapes, writer.memory.generation + 1, model)
                writer.update([new])
                time.sleep(0.01)
        finally:
            stop.touch()
    assert reader.returncode == 0
    lines = (tmp_path / "read.txt").read_text().splitlines()
    seen = set()
    for line in lines:
        if line != "changed":
            generation, by, found = line.split(maxsplit=2)
            assert found == (expected[int(generation)] if by == "vclimb" else str(shapes[int(generation)]))
            seen.add(int(generation))
    assert max(seen) == max(expected)
    assert len(seen) > 5


def shrunk(model: dict[int, Any], keep: dict[int, int]) -> dict[int, Any]:
    of = {label: (name, spec, exemplars[: keep[label]]) for label, (name, spec, exemplars) in model.items()}
    return {label: what for label, what in of.items() if what[2]}


def note(expected: dict[int, str], shapes: dict[int, list[tuple[int, int]]], generation: int, model: Any) -> None:
    expected[generation] = digest(model)
    shapes[generation] = sorted((label, len(exemplars)) for label, (_, _, exemplars) in model.items())
