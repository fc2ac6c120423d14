"""What a run meets on the way: a target that is removed, sources that change, files that are too large, full disks."""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_cases import InlineExecutor, digests, is_clean, make_source, prepare_table
from video_cases import make_video

from vclimb.pipeline.dataset.catalog import ShardRecord
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.dataset.shard import MAX_MEMBER_BYTES, ShardWriter
from vclimb.pipeline.errors import TargetError
from vclimb.pipeline.sources import read_source
from vclimb.pipeline.transcode import transcode, worker
from vclimb.pipeline.transcode.executors.executor import OnVideo
from vclimb.pipeline.transcode.executors.local import LocalExecutor
from vclimb.pipeline.transcode.ffmpeg import Finished, run_ffmpeg
from vclimb.pipeline.transcode.probe import probe_video
from vclimb.pipeline.transcode.target import WORK

SHARD_BYTES = 12_000


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_source(tmp_path / "source", classes=2, videos_per_class=2)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "data"


class Then(InlineExecutor):
    """Calls a function when everything is planned and nothing is made yet."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def run(self, jobs: Any, on_video: OnVideo) -> Iterator[ShardRecord]:
        self.function()
        return super().run(jobs, on_video)


def failures(out: Path) -> list[tuple[str, str, str]]:
    return [(error.path, error.stage, error.reason) for error in StoredDataset.open(out).catalog.errors]


# Sources that change


@pytest.mark.parametrize(
    ("frames", "size", "fps"),
    [(30, "64x48", 25), (5, "64x48", 25), (10, "96x64", 25), (10, "64x48", 10)],
    ids=["longer", "shorter", "larger frames", "slower"],
)
@pytest.mark.parametrize("alone", [True, False], ids=["alone", "together"])
def test_a_source_that_changed_since_the_plan_is_stored_as_it_is(
    source: Path, out: Path, tmp_path: Path, frames: int, size: str, fps: int, alone: bool
) -> None:
    changed = source / "class0" / "v00.mp4"
    if alone:
        (source / "class0" / "v01.mp4").unlink()
    executor = Then(lambda: make_video(changed, frames=frames, size=size, fps=fps))
    prepare_table(read_source(source), out, executor=executor)
    assert failures(out) == []
    assert is_clean(out)
    afterwards = tmp_path / "afterwards" / "data"
    prepare_table(read_source(source), afterwards)
    assert StoredDataset.open(out).videos == StoredDataset.open(afterwards).videos
    video = StoredDataset.open(out).by_key["class0/v00"]
    assert (video.n_frames, f"{video.width}x{video.height}", video.fps) == (frames, size, fps)
    assert video.source_bytes == changed.stat().st_size


def test_a_source_that_became_no_video_is_an_error_of_its_own(source: Path, out: Path) -> None:
    def spoil() -> None:
        (source / "class0" / "v00.mp4").write_text("no video")
        (source / "class0" / "v01.mp4").unlink()
        (source / "class1" / "v00.mp4").write_bytes(b"")

    prepare_table(read_source(source), out, executor=Then(spoil))
    assert [(path, stage) for path, stage, _ in failures(out)] == [
        ("class0/v00.mp4", "probe"), ("class0/v01.mp4", "open"), ("class1/v00.mp4", "open")
    ]  # fmt: skip
    assert [video.key for video in StoredDataset.open(out).videos] == ["class1/v01"]


def test_a_source_that_was_only_touched_gives_the_same_bytes(source: Path, out: Path, tmp_path: Path) -> None:
    prepare_table(read_source(source), out, executor=Then(lambda: os.utime(source / "class0" / "v00.mp4", (1, 1))))
    prepare_table(read_source(source), tmp_path / "again" / "data")
    assert digests(out) == digests(tmp_path / "again" / "data")


def test_a_source_that_changes_while_it_is_transcoded_is_an_error(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = source / "class1" / "v00.mp4"

    def run(argv: Sequence[str], timeout_seconds: float, **options: Any) -> Finished:
        finished = run_ffmpeg(argv, timeout_seconds, **options)
        if f"file:{changed}" in argv:
            make_video(changed, frames=20)
        return finished

    monkeypatch.setattr(transcode, "run_ffmpeg", run)
    prepare_table(read_source(source), out)
    monkeypatch.undo()
    reason = "the file changed while it was transcoded; --retry-failed takes it again"
    assert failures(out) in ([("class1/v00.mp4", "open", reason)], [])  # made again alone, it may be well
    prepare_table(read_source(source), out, retry_failed=True)
    assert failures(out) == []
    assert StoredDataset.open(out).by_key["class1/v00"].n_frames == 20
    assert is_clean(out)


@pytest.mark.parametrize(
    ("lies", "words"),
    [
        ({"declared_seconds": math.inf}, "declared_seconds: input should be a finite number, not inf"),
        ({"rate": Fraction(0)}, "rate: input should be greater than 0"),
        ({"n_packets": 0}, "n_packets: input should be greater than or equal to 1, not 0"),
    ],
)
def test_facts_that_no_plan_can_hold_are_an_error_of_the_video(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch, lies: dict[str, Any], words: str
) -> None:
    """Else the plan that is written could not be read again."""
    liar = source / "class0" / "v00.mp4"
    monkeypatch.setattr(
        worker, "probe_video", lambda path: replace(probe_video(path), **(lies if path == liar else {}))
    )
    prepare_table(read_source(source), out)
    ((path, stage, reason),) = failures(out)
    assert (path, stage) == ("class0/v00.mp4", "probe")
    assert reason.startswith(f"claims what no video has: {words}")


# Videos that no shard can hold


def test_a_video_of_over_8_gib_is_an_error_of_its_own(source: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = source / "class0" / "v01.mp4"

    def run(argv: Sequence[str], timeout_seconds: float, **options: Any) -> Finished:
        finished = run_ffmpeg(argv, timeout_seconds, **options)
        sources = [word for word in argv if word.startswith("file:") and "/drafts-" not in word]
        drafts = [word.removeprefix("file:") for word in argv if "/drafts-" in word]
        for file, draft in zip(sources, drafts, strict=True):
            if file == f"file:{large}":
                os.truncate(draft, MAX_MEMBER_BYTES + 1)  # takes no space
        return finished

    monkeypatch.setattr(transcode, "run_ffmpeg", run)
    summary = prepare_table(read_source(source), out)
    assert summary.prepared == 3
    ((path, stage, reason),) = failures(out)
    assert (path, stage) == ("class0/v01.mp4", "transcode")
    assert reason.startswith(
        "would take 8.6 GB, and a shard holds files of up to 8.6 GB; cut it into several files, or "
    )
    assert all(flag in reason for flag in ("--quality", "--short-side", "--fps", "--codec h264"))
    assert is_clean(out)


@pytest.mark.parametrize("size", [MAX_MEMBER_BYTES, MAX_MEMBER_BYTES + 1])
def test_the_limit_is_that_of_the_tar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    video = tmp_path / "v.mp4"
    video.touch()
    os.truncate(video, size)
    monkeypatch.setattr("tarfile.copyfileobj", lambda *_, **__: None)  # the header alone
    writer = ShardWriter(tmp_path, "data-000000")
    index = np.zeros((1, 3), np.int64)
    if size <= MAX_MEMBER_BYTES:
        writer.add("v", video, b"{}", index)
    else:
        with pytest.raises(ValueError, match="overflow in number field"):
            writer.add("v", video, b"{}", index)


# A target that is removed


def remove(path: Path) -> Any:
    return lambda: shutil.rmtree(path)


@pytest.mark.parametrize(
    ("when", "what"),
    [
        *(("planned", what) for what in ("the folder above", ".work", "the drafts")),
        *(("half made", what) for what in ("the data set", ".work", "the records")),
    ],
)
def test_a_target_that_is_removed_is_one_clear_error(source: Path, tmp_path: Path, what: str, when: str) -> None:
    out = tmp_path / "sets" / "data"

    def removal() -> None:
        if what == "the drafts":
            (drafts,) = (out / WORK).glob("drafts-*")
            shutil.rmtree(drafts)
        else:
            names = {"the data set": out, ".work": out / WORK, "the records": out / WORK / "records"}
            shutil.rmtree(names.get(what, out.parent))

    class Halfway(InlineExecutor):
        def run(self, jobs: Any, on_video: OnVideo) -> Iterator[ShardRecord]:
            n_made = 0 if when == "planned" else 1
            yield from super().run(jobs[:n_made], on_video)
            removal()
            yield from super().run(jobs[n_made:], on_video)

    with pytest.raises(TargetError) as caught:
        prepare_table(read_source(source), out, executor=Halfway(), shard_bytes=SHARD_BYTES)
    assert "removed while" in str(caught.value) or "No such file or directory" in str(caught.value)
    assert str(out) in str(caught.value)
    if out.exists() and (out / "dataset.json").exists():
        assert failures(out) == []
    summary = prepare_table(read_source(source), out, shard_bytes=SHARD_BYTES)
    assert (summary.totals["videos"], summary.failed_now) == (4, [])
    assert is_clean(out)


def test_a_target_that_is_removed_under_workers_is_one_clear_error(source: Path, out: Path) -> None:
    class Removes(LocalExecutor):
        def run(self, jobs: Any, on_video: OnVideo) -> Iterator[ShardRecord]:
            shutil.rmtree(out)
            return super().run(jobs, on_video)

    with pytest.raises(TargetError, match="removed while"):
        prepare_table(read_source(source), out, executor=Removes(2), shard_bytes=SHARD_BYTES)
    assert not out.exists()


# Full disks and limits of file sizes


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A source, and the digests of what it gives."""
    folder = tmp_path_factory.mktemp("undisturbed")
    source = make_source(folder / "source", classes=2, videos_per_class=2)
    prepare_table(read_source(source), folder / "data", shard_bytes=SHARD_BYTES)
    return source, digests(folder / "data")


@pytest.mark.parametrize(
    ("place", "code"),
    [
        *((place, errno.ENOSPC) for place in ("frames.npy", "000000.json", ".tar", "plan.json", "dataset.json")),
        *((place, errno.EFBIG) for place in ("frames.npy", ".tar")),
        ("000000.json", errno.EDQUOT),
    ],
)
def test_a_write_that_fails_is_one_clear_error_and_the_run_goes_on_later(
    undisturbed: tuple[Path, dict[str, str]], out: Path, monkeypatch: pytest.MonkeyPatch, code: int, place: str
) -> None:
    source, expected = undisturbed
    write, open_tar = Path.write_bytes, ShardWriter.add
    full = OSError(code, os.strerror(code))

    def write_bytes(path: Path, data: bytes | Iterable[bytes]) -> int:
        if place in path.name:
            raise full
        return write(path, data if isinstance(data, bytes) else b"".join(data))

    def add(*arguments: Any) -> Any:
        if place == ".tar":
            raise full
        return open_tar(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write_bytes)
        patch.setattr(ShardWriter, "add", add)
        patch.setattr("vclimb.pipeline.system.durable._write", write_bytes)
        with pytest.raises(TargetError) as caught:
            prepare_table(read_source(source), out, shard_bytes=SHARD_BYTES)
    words = ("File too large", "takes no file of this size") if code == errno.EFBIG else ("o space left", "Disk quota")
    assert any(word in str(caught.value) for word in words)
    prepare_table(read_source(source), out, shard_bytes=SHARD_BYTES)
    assert digests(out) == expected
