"""A writer that is killed at any moment leaves the old memory or the new one, never another."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from memory_kill_cases import Killed, is_old_or_new, quick_folder, stopped_at, undisturbed_update
from memory_store_cases import bytes_of, contents, contents_by_zarr, folders_of, make_new, make_old

from vclimb.memory.store.reader import MemoryStore

N_KILLS = 30
HERE = str(Path(__file__).parent)


@pytest.fixture(scope="module")
def old_and_new(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return undisturbed_update(tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture
def folder() -> Iterator[Path]:
    with quick_folder() as folder:
        yield folder


def is_finished_by_the_next_run(path: Path, old_and_new: tuple[Path, Path]) -> bool:
    make_new(path)
    assert bytes_of(path) == bytes_of(old_and_new[1])
    assert folders_of(path) == folders_of(old_and_new[1])
    return True


# For each line "seconds path", forks a process that updates the memory there, and kills it after so long (0: never).
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
    if float(seconds):
        time.sleep(float(seconds))
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


def test_writer_killed_at_random_moments(folder: Path, old_and_new: tuple[Path, Path]) -> None:
    command = [sys.executable, "-c", KILLER, HERE]
    killer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    dice = random.Random(50)
    path = folder / "memory.zarr"

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
        killed_after(0)  # returns once the imports are done, and the update with them
        longest_seconds = 0.005
        while killed_after(longest_seconds):
            longest_seconds *= 1.3
        while len(seen) < N_KILLS or len({which for which, _ in seen}) < 2:
            # As many moments in each fifth of the update; it doesn't take the same time each time.
            if killed_after((len(seen) % 5 + dice.random()) / 5 * longest_seconds):
                complete = bytes_of(path).keys() == bytes_of(old_and_new[0]).keys()
                seen.append((is_old_or_new(path, old_and_new), complete))
                assert contents_by_zarr(path) == contents(MemoryStore.open(path))
                assert is_finished_by_the_next_run(path, old_and_new)
                longest_seconds *= 1.03 if len(seen) % 5 == 0 else 1
            else:
                longest_seconds *= 0.97
        assert killer.stdin is not None
        killer.stdin.close()
    states = {which for which, _ in seen}
    assert states == {"old", "new"}
    assert ("old", False) in seen  # killed while it had files staged


@pytest.fixture
def steps(folder: Path, old_and_new: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the changes that an update makes to files, in order."""
    path = shutil.copytree(old_and_new[0], folder / "steps.zarr")
    with stopped_at(None, monkeypatch, Killed()) as taken:
        make_new(path)
    assert len(taken) > 60
    assert set(taken) == {"write_bytes", "mkdir", "fsync", "replace", "unlink", "rmdir"}
    return taken


@pytest.mark.filterwarnings("ignore:Object at")
def test_killed_at_every_step(
    folder: Path, old_and_new: tuple[Path, Path], steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (contents(MemoryStore.open(path)) for path in old_and_new)
    seen: list[str] = []
    left: object = None
    for step in range(len(steps)):
        path = shutil.copytree(old_and_new[0], folder / "memory.zarr")
        with stopped_at(step, monkeypatch, Killed()) as taken, pytest.raises(Killed):
            make_new(path)
        assert taken == steps[:step]
        before, left = left, (bytes_of(path), folders_of(path))
        if left == before:  # the step before was a sync: the same files were read, and the update finished, already
            seen.append(seen[-1])
            shutil.rmtree(path)
            continue
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


def test_killed_while_the_memory_is_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_old(folder / "undisturbed.zarr")
    path = folder / "memory.zarr"
    for step in range(8):
        with stopped_at(step, monkeypatch, Killed()), pytest.raises(Killed):
            make_old(path)
        make_old(path)
        assert bytes_of(path) == bytes_of(folder / "undisturbed.zarr")
        shutil.rmtree(path)
