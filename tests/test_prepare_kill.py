"""A run that was killed at any moment continues and gives the bytes of an undisturbed run."""

from __future__ import annotations

import glob
import hashlib
import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from dataset_cases import RunningCommand, digests, is_clean, make_source, prepare_table, vclimb_json
from memory_kill_cases import quick_folder
from video_cases import make_video

from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.dataset.header import HEADER
from vclimb.pipeline.sources import read_source
from vclimb.pipeline.sources.table import Instance, SourceTable, SourceVideos
from vclimb.pipeline.transcode import transcode
from vclimb.pipeline.transcode.ffmpeg import Finished, run_ffmpeg
from vclimb.pipeline.transcode.plan import PLAN
from vclimb.pipeline.transcode.target import WORK

N_VIDEOS = 24
SHARD_BYTES = 22_000


@dataclass(frozen=True)
class State:
    """Progress of a run, judged by its files."""

    has_work: bool
    has_plan: bool
    is_writing_video: bool
    n_parts: int
    is_writing_tar: bool
    n_tars: int
    n_records: int
    has_catalog: bool

    @classmethod
    def of(cls, out: Path) -> State:
        work = out / WORK

        def count(pattern: str, folder: Path = work) -> int:
            return len(glob.glob(pattern, root_dir=folder))  # unlike Path.glob, it allows folders to vanish

        return cls(
            has_work=work.exists(),
            has_plan=(work / PLAN).exists(),
            is_writing_video=count("drafts-*/*.mp4") > 0,
            n_parts=count("[0-9]*/*.json"),
            is_writing_tar=count("drafts-*/*.tar") > 0,
            n_tars=count("*.tar", out),
            n_records=count("records/*.json"),
            has_catalog=(out / HEADER).exists(),
        )


# Name of a moment to whether it has come since the run was started. The run is killed a little later.
MOMENTS: dict[str, Callable[[State, State], bool]] = {
    "started": lambda before, now: True,
    "probing": lambda before, now: now.has_work and not now.has_plan,
    "planned": lambda before, now: now.has_plan and not before.has_plan,
    "writing a video": lambda before, now: now.is_writing_video and not before.is_writing_video,
    "a part is done": lambda before, now: now.n_parts > before.n_parts,
    "writing a tar": lambda before, now: now.is_writing_tar and not before.is_writing_tar,
    "a shard is published": lambda before, now: now.n_tars > before.n_tars,
    "a shard is recorded": lambda before, now: now.n_records > before.n_records,
    "the catalog is written": lambda before, now: now.has_catalog and not before.has_catalog,
    "the plan is done with": lambda before, now: now.has_catalog and not now.has_plan,
}


def test_command_killed_at_each_moment(tmp_path: Path) -> None:
    source = make_source(tmp_path / "raw" / "source", classes=4, videos_per_class=N_VIDEOS // 4)
    undisturbed, out = tmp_path / "undisturbed" / "data", tmp_path / "killed" / "data"
    prepare_table(read_source(source), undisturbed, shard_bytes=SHARD_BYTES)
    expected = digests(undisturbed)
    arguments: list[str | Path] = ["prepare", source, "--out", out, "--shard-size", f"{SHARD_BYTES}B", "--workers", "2"]
    dice = random.Random(20)
    moments = [*MOMENTS]
    states: list[State] = []
    while moments:
        before, moment = State.of(out), moments[0]
        run = RunningCommand(*arguments)
        run.wait_until(lambda was=before, moment=moment: MOMENTS[moment](was, State.of(out)))
        if moment == "started":
            time.sleep(dice.uniform(0, 1.2))
        elif "writing" not in moment:
            time.sleep(dice.choice([0, 0, 0.01, 0.04]))
        run.process.kill()
        _, stderr = run.process.communicate(timeout=120)
        assert run.wait_until_alone() == []
        if run.process.returncode == -signal.SIGKILL:
            states.append(State.of(out))
            del moments[0]
        else:  # it was complete before that moment came
            assert run.process.returncode == 0, stderr
            assert digests(out) == expected
            shutil.rmtree(out)
    summary = vclimb_json(*arguments)
    assert (summary["totals"]["videos"], summary["failed_now"]) == (N_VIDEOS, [])
    assert digests(out) == expected  # no file is missing or left over
    assert is_clean(out)

    assert len(states) == len(MOMENTS)
    assert any(state.has_work and not state.has_plan for state in states)
    assert any(state.has_plan and not state.n_tars for state in states)
    assert sum(state.n_tars > 0 and not state.has_catalog for state in states) >= 2
    assert any(state.has_catalog for state in states)
    assert any(state.is_writing_video for state in states)
    assert any(state.is_writing_tar for state in states)


class Killed(BaseException):
    """Stands for SIGKILL: no code of ours runs after it."""


@contextmanager
def killed_at_step(step: int | None, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Suppress every change to a folder from the given step on. Yields the names of the steps taken."""
    taken: list[str] = []

    def counted(name: str, change: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if step is not None and len(taken) >= step:
                raise Killed
            taken.append(name)
            return change(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        for name in ("replace", "unlink", "mkdir", "rmdir", "fsync"):
            patch.setattr(os, name, counted(name, getattr(os, name)))
        yield taken


def remembering_ffmpeg(folder: Path) -> Callable[..., Finished]:
    """Run the real ffmpeg once for each source, and copy its output at later calls."""

    def run(argv: Sequence[str], timeout_seconds: float, **options: Any) -> Finished:
        target = Path(argv[next(i for i, word in enumerate(argv) if "/drafts-" in word)].removeprefix("file:"))
        source = next(word for word in argv if word.startswith("file:") and "/drafts-" not in word)
        remembered = folder / re.sub(r"\W", "_", source)
        if not remembered.exists():
            finished = run_ffmpeg(argv, timeout_seconds, **options)
            assert finished == Finished(0, "", False)
            shutil.copy(target, remembered)
            return finished
        shutil.copy(remembered, target)
        return Finished(0, "", False)

    return run


def table_of(source: Path) -> SourceTable:
    """The table of a folder, whose first video has another instance after its end."""
    table = read_source(source)
    first = table.videos[0]
    instances = (*first.instances, Instance("late", None, 1e3, 2e3))
    return replace(table, videos=SourceVideos.of([replace(first, instances=instances), *table.videos[1:]]))


def state_of(out: Path) -> dict[str, str]:
    """The bytes of all files and the names of all folders, whatever the drafts are called."""
    folders = {str(path.relative_to(out)): "" for path in out.rglob("*") if path.is_dir()}
    return {re.sub(r"drafts-\w+", "drafts", name): digest for name, digest in {**folders, **digests(out)}.items()}


@pytest.fixture
def quick() -> Iterator[Path]:
    with quick_folder() as folder:
        yield folder


@pytest.mark.parametrize("beginning", ["nothing is there", "a failed video is retried"])
def test_killed_at_every_step(quick: Path, monkeypatch: pytest.MonkeyPatch, beginning: str) -> None:
    """Each rename, removal and sync of a run is suppressed once."""
    (quick / "remembered").mkdir()
    monkeypatch.setattr(transcode, "run_ffmpeg", remembering_ffmpeg(quick / "remembered"))
    source, start = quick / "source", quick / "start" / "data"
    make_video(source / "a" / "1.mp4")
    make_video(source / "b" / "2.mp4")
    (source / "a" / "bad.mp4").write_text("no video")
    options: dict[str, Any] = {"shard_bytes": 1}
    if beginning == "nothing is there":
        start.mkdir(parents=True)
    else:
        prepare_table(table_of(source), start, **options)
        assert [error.stage for error in StoredDataset.open(start).catalog.errors] == ["label", "probe"]
        make_video(source / "a" / "bad.mp4")
        options["retry_failed"] = True
    undisturbed = shutil.copytree(start, quick / "undisturbed" / "data")
    with killed_at_step(None, monkeypatch) as steps:
        prepare_table(table_of(source), undisturbed, **options)
    expected = digests(undisturbed)
    assert len(steps) > 40
    left: object = None
    for step in range(len(steps)):
        out = shutil.copytree(start, quick / str(step) / "data")
        with killed_at_step(step, monkeypatch) as taken, pytest.raises(Killed):
            prepare_table(table_of(source), out, **options)
        assert taken == steps[:step]
        before, left = left, state_of(out)
        if left == before:  # the step before was a sync: the run that goes on from these files was compared already
            shutil.rmtree(out.parent)
            continue
        if (out / HEADER).exists():  # published videos are whole and listed once
            dataset = StoredDataset.open(out)
            assert len(dataset.by_key) == len(dataset.videos)
            for video in dataset.videos:
                assert hashlib.sha256(dataset.open_video(video).read()).hexdigest() == video.sha256
        prepare_table(table_of(source), out, **options)
        assert digests(out) == expected, f"killed before step {step}, {steps[step]}"
