"""What a prepare run gives, and what a second, larger or different one makes of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from dataset_cases import InlineExecutor, Notes, digests, make_source, prepare_table, vclimb, vclimb_json
from video_cases import make_video

from pipeline import executor as executor_module
from pipeline.catalog import ShardRecord
from pipeline.dataset import Dataset
from pipeline.errors import SettingsError, SourceError, TargetBusyError, TargetError
from pipeline.executor import LocalExecutor, OnVideo, ShardJob
from pipeline.sources import read_source
from pipeline.sources.table import Instance, Missing, SourceTable, SourceVideo
from pipeline.target import WORK, locked
from pipeline.verify import verify

SHARD_BYTES = 12_000  # two or three of the videos that make_source makes


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_source(tmp_path_factory.mktemp("raw") / "source", classes=3, videos_per_class=4)


@pytest.fixture
def own_source(source: Path, tmp_path: Path) -> Path:
    """A copy of the source that a test may change."""
    return shutil.copytree(source, tmp_path / "source")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "data"


def shard_files(out: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of change of every shard's files: both stay where a file is left alone."""
    files = [path for suffix in ("tar", "idx", "npy") for path in out.glob(f"*.{suffix}")]
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def is_clean(out: Path) -> bool:
    report = verify(out, True, 1, lambda _: None)
    assert report.problems == []
    assert not report.unfinished
    return True


@pytest.mark.parametrize("codec", ["jpeg", "h264"])
def test_bytes_depend_neither_on_workers_nor_on_batches(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare_folder: Any, codec: str
) -> None:
    folders = [tmp_path / name / "data" for name in ("one", "many", "inline")]
    prepare_folder(source, folders[0], executor=LocalExecutor(1), codec=codec, shard_bytes=SHARD_BYTES)
    monkeypatch.setattr(executor_module, "_BATCH_VIDEOS", 3)
    prepare_folder(source, folders[1], executor=LocalExecutor(3), codec=codec, shard_bytes=2 * 10**9)
    one_shard = prepare_folder(source, tmp_path / "big" / "data", executor=InlineExecutor(), codec=codec)
    assert digests(folders[1]) == digests(one_shard.out)
    prepare_folder(source, folders[2], executor=InlineExecutor(), codec=codec, shard_bytes=SHARD_BYTES)
    assert digests(folders[0]) == digests(folders[2])
    assert len(list(folders[0].glob("*.tar"))) > 1
    assert len(list(folders[1].glob("*.tar"))) == 1


def test_the_command_says_what_it_did_and_a_second_run_does_nothing(source: Path, out: Path) -> None:
    first = vclimb("prepare", source, "--out", out, "--shard-size", f"{SHARD_BYTES}B", "--workers", "4")
    assert first.returncode == 0, first.stderr
    assert "Traceback" not in first.stderr  # nor do workers complain that had nothing to do
    assert "12  videos prepared" in first.stdout
    assert f"{out}: 3 classes, 12 videos" in first.stdout
    before, stats = digests(out), shard_files(out)
    second = vclimb("prepare", source, "--out", out)
    assert second.returncode == 0, second.stderr
    assert " 0  videos prepared" in second.stdout
    assert "12  there already" in second.stdout
    summary = vclimb_json("prepare", source, "--out", out)
    assert (summary["prepared"], summary["already_there"], summary["failed_now"]) == (0, 12, [])
    assert summary["totals"] == json.loads((out / "dataset.json").read_text())["totals"]
    assert shard_files(out) == stats
    assert digests(out) == before
    assert is_clean(out)


def test_new_videos_become_new_shards(own_source: Path, out: Path, prepare_folder: Any) -> None:
    inline = InlineExecutor()
    prepare_folder(own_source, out, executor=inline, shard_bytes=SHARD_BYTES)
    before, stats = digests(out), shard_files(out)
    make_video(own_source / "class0" / "a_first_one.mp4")
    make_video(own_source / "class0" / "v00.avi")  # a name that but for its suffix is there
    make_video(own_source / "new class" / "v.mp4")
    summary = prepare_folder(own_source, out, executor=inline, shard_bytes=SHARD_BYTES)
    assert (summary.prepared, summary.already_there) == (3, 12)
    after = digests(out)
    assert {name: after[name] for name in stats} == {name: before[name] for name in stats}
    assert {name: stat for name, stat in shard_files(out).items() if name in stats} == stats
    dataset = Dataset.open(out)
    first_new = len(stats) // 3  # three files a shard
    assert min(video.shard for video in dataset.videos[12:]) == first_new
    assert sorted(dataset.catalog.shards) == list(range(max(dataset.catalog.shards) + 1))
    assert len({video.key for video in dataset.videos}) == len({video.source for video in dataset.videos}) == 15
    assert dataset.classes == ["class0", "class1", "class2", "new class"]
    assert is_clean(out)


def test_other_settings_are_refused_with_the_difference(source: Path, out: Path, prepare_folder: Any) -> None:
    prepare_folder(source, out, executor=InlineExecutor())
    before = digests(out)
    with pytest.raises(SettingsError) as caught:
        prepare_folder(source, out, executor=InlineExecutor(), quality=9, fps=Fraction(25, 2))
    assert "(quality: 5 before, 9 now; fps: None before, 25/2 now)" in str(caught.value)
    assert "use the same settings, or another --out" in str(caught.value)
    assert digests(out) == before


def test_a_limit_takes_some_of_each_class_and_without_it_the_rest_follows(
    source: Path, out: Path, prepare_folder: Any, tmp_path: Path
) -> None:
    inline = InlineExecutor()
    summary = prepare_folder(source, out, executor=inline, limit=5)
    assert [video.source for video in Dataset.open(out).videos] == [
        "class0/v00.mp4", "class0/v01.mp4", "class1/v00.mp4", "class1/v01.mp4", "class2/v00.mp4"
    ]  # fmt: skip
    assert (summary.prepared, summary.gone) == (5, 0)
    stats = shard_files(out)
    assert prepare_folder(source, out, executor=inline, limit=5).prepared == 0
    assert prepare_folder(source, out, executor=inline).prepared == 7
    assert {name: stat for name, stat in shard_files(out).items() if name in stats} == stats
    assert is_clean(out)
    at_once = prepare_folder(source, tmp_path / "at once" / "data", executor=inline)
    assert {(v.key, v.sha256) for v in Dataset.open(out).videos} == {
        (v.key, v.sha256) for v in Dataset.open(at_once.out).videos
    }


@pytest.mark.parametrize("codec", ["jpeg", "h264"])
def test_size_rate_and_length_are_those_asked_for(tmp_path: Path, out: Path, prepare_folder: Any, codec: str) -> None:
    make_video(tmp_path / "source" / "wide" / "v.mp4", frames=50, size="160x96", fps=25)
    make_video(tmp_path / "source" / "small" / "v.mp4", frames=50, size="48x32", fps=10)
    asked = {"short_side": 48, "fps": Fraction(5), "max_frames": 9, "codec": codec}
    prepare_folder(tmp_path / "source", out, executor=InlineExecutor(), **asked)
    small, wide = Dataset.open(out).videos
    assert (wide.width, wide.height, small.width, small.height) == (80, 48, 48, 32)
    assert wide.fps_fraction == small.fps_fraction == 5
    assert (wide.n_frames, small.n_frames) == (9, 9)
    assert is_clean(out)
    shutil.rmtree(out)
    prepare_folder(tmp_path / "source", out, executor=InlineExecutor(), codec=codec, fps=Fraction(5))
    small, wide = Dataset.open(out).videos
    assert (wide.width, wide.height) == (160, 96)
    assert (wide.n_frames, small.n_frames) == (10, 25)


def test_two_runs_on_one_folder(source: Path, out: Path, prepare_folder: Any, tmp_path: Path) -> None:
    """The second one is turned away and leaves the first one's files alone."""

    class Intruded(InlineExecutor):
        def run(self, jobs: Any, on_video: OnVideo) -> Iterator[ShardRecord]:
            for number, record in enumerate(super().run(jobs, on_video)):
                if number == 0:
                    before = digests(out)
                    with pytest.raises(TargetBusyError, match=rf"another run is writing to {out}; wait"):
                        prepare_folder(source, out, executor=InlineExecutor())
                    refused = vclimb("prepare", source, "--out", out)
                    assert (refused.returncode, refused.stdout) == (1, "")
                    assert refused.stderr.splitlines()[-1].startswith("error: another run is writing to")
                    assert digests(out) == before
                yield record

    prepare_folder(source, out, executor=Intruded(), shard_bytes=SHARD_BYTES)
    undisturbed = prepare_folder(source, tmp_path / "undisturbed" / "data", shard_bytes=SHARD_BYTES)
    assert digests(out) == digests(undisturbed.out)


def test_the_lock_ends_with_the_run(out: Path) -> None:
    for _ in range(2):
        with locked(out), pytest.raises(TargetBusyError), locked(out):
            pass


def test_a_target_that_is_not_ours_is_left_alone(source: Path, tmp_path: Path, prepare_folder: Any) -> None:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("precious")
    before = digests(tmp_path)
    for target, message in {
        tmp_path / "file": "can't be a folder: .*; choose another folder",
        tmp_path / "file" / "below": "can't be a folder: .*; choose another folder",
        tmp_path / "folder": r"files that are not a data set \('thesis.tex' and 0 more\); choose an empty",
        tmp_path / ("n" * 300): "can't write to .*File name too long; choose another folder",
    }.items():
        with pytest.raises(TargetError, match=message):
            prepare_folder(source, target, executor=InlineExecutor())
    assert digests(tmp_path) == before


def test_nothing_to_prepare_leaves_nothing_behind(tmp_path: Path, out: Path) -> None:
    with pytest.raises(SourceError, match="no videos to prepare"):
        prepare_table(SourceTable("test", tmp_path, ()), out)
    assert not out.exists()


def test_changed_gone_and_missing_sources_are_counted(own_source: Path, out: Path) -> None:
    table = read_source(own_source)
    prepare_table(table, out)
    before = digests(out)
    changed, gone = own_source / "class0" / "v00.mp4", own_source / "class1" / "v01.mp4"
    changed.write_bytes(changed.read_bytes() + b"\0")
    gone.unlink()
    summary = prepare_table(table, out)  # a table that lists a file which is no longer there
    assert (summary.changed, summary.gone, summary.prepared) == (["class0/v00.mp4"], 1, 0)
    assert digests(out) == before
    listed = replace(read_source(own_source), missing=(Missing("class9/v.mp4", "listed, but not on disk"),))
    summary = prepare_table(listed, out)
    assert (summary.changed, summary.gone, summary.missing) == (["class0/v00.mp4"], 1, 1)
    rows = [json.loads(line) for line in (out / "errors.jsonl").read_text().splitlines()]
    assert rows == [{"path": "class9/v.mp4", "stage": "find", "reason": "listed, but not on disk", "stderr": ""}]
    assert prepare_table(read_source(own_source), out).missing == 0
    assert digests(out) == before


def test_failed_videos_are_left_until_a_retry_is_asked_for(own_source: Path, out: Path) -> None:
    good = (own_source / "class0" / "v00.mp4").read_bytes()
    (own_source / "class0" / "v00.mp4").write_text("no video")
    (own_source / "class0" / "v01.mp4").write_bytes(b"")
    summary = prepare_table(read_source(own_source), out)
    assert summary.prepared == 10
    assert [(row["path"], row["stage"]) for row in summary.failed_now] == [
        ("class0/v00.mp4", "probe"), ("class0/v01.mp4", "open")
    ]  # fmt: skip
    before = digests(out)
    (own_source / "class0" / "v00.mp4").write_bytes(good)
    summary = prepare_table(read_source(own_source), out)
    assert (summary.prepared, summary.failed_before, summary.failed_now) == (0, 2, [])
    assert digests(out) == before
    summary = prepare_table(read_source(own_source), out, retry_failed=True)
    assert (summary.prepared, summary.already_there, summary.failed_before) == (1, 10, 0)
    assert [row["path"] for row in summary.failed_now] == ["class0/v01.mp4"]
    assert [row["path"] for row in Dataset.open(out).catalog.errors] == ["class0/v01.mp4"]
    assert prepare_table(read_source(own_source), out, retry_failed=True).prepared == 0
    assert is_clean(out)


def test_a_retry_that_was_stopped_ends_like_one_that_was_not(own_source: Path, tmp_path: Path) -> None:
    class Stops(InlineExecutor):
        def run(self, jobs: Any, on_video: OnVideo) -> Iterator[ShardRecord]:
            raise KeyboardInterrupt
            yield

    good = (own_source / "class0" / "v00.mp4").read_bytes()
    (own_source / "class0" / "v00.mp4").write_text("no video")
    table = with_instances(own_source, {"class1/v01.mp4": (Instance("late", None, 1e3, 2e3), Instance("class1"))})
    once, twice = tmp_path / "once" / "data", tmp_path / "twice" / "data"
    prepare_table(table, once)
    shutil.copytree(once, twice)
    (own_source / "class0" / "v00.mp4").write_bytes(good)
    prepare_table(table, once, retry_failed=True)
    with pytest.raises(KeyboardInterrupt):
        prepare_table(table, twice, retry_failed=True, executor=Stops())
    notes = Notes()
    prepare_table(table, twice, notes=notes)
    assert "going on with an unfinished run of 1 videos" in notes.sentences
    assert digests(once) == digests(twice)
    assert [(row["path"], row["stage"]) for row in Dataset.open(once).catalog.errors] == [("class1/v01.mp4", "label")]


def with_instances(source: Path, of_paths: dict[str, tuple[Instance, ...]]) -> SourceTable:
    """A folder's table in which some videos have other instances."""
    table = read_source(source)
    return replace(table, videos=tuple(replace(v, instances=of_paths.get(v.path, v.instances)) for v in table.videos))


def test_an_unfinished_run_is_not_mixed_up_with_another_source(own_source: Path, tmp_path: Path, out: Path) -> None:
    class Stops(InlineExecutor):
        def run(self, jobs: list[ShardJob], on_video: OnVideo) -> Iterator[ShardRecord]:  # type: ignore[override]
            yield from super().run(jobs[:1], on_video)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_table(read_source(own_source), out, executor=Stops(), shard_bytes=SHARD_BYTES)
    assert (out / WORK).exists()
    make_video(tmp_path / "other" / "class" / "w.mp4")
    before = digests(out)
    with pytest.raises(TargetError, match=r"unfinished run over another source: none of its 12 videos \('class0/v00"):
        prepare_table(read_source(tmp_path / "other"), out, shard_bytes=SHARD_BYTES)
    assert digests(out) == before
    own_source.rename(tmp_path / "moved")
    assert prepare_table(read_source(tmp_path / "moved"), out).totals["videos"] == 12
    assert is_clean(out)


def test_videos_of_several_instances_are_stored_once(tmp_path: Path, out: Path) -> None:
    folder = tmp_path / "anet"
    make_video(folder / "videos" / "v_aaaaaaaaaaa.mp4", frames=50, fps=25)
    make_video(folder / "videos" / "v_bbbbbbbbbbb.mp4", frames=25, fps=25)
    segments = {
        "aaaaaaaaaaa": [("Archery", 0, 0.5), ("Bowling", 0.5, 1.01), ("Archery", 1.21, 9.0)],
        "bbbbbbbbbbb": [("Bowling", 0.2, 0.8), ("Surfing", 1.5, 2.5)],
    }
    database = {
        name: {
            "duration": 2.0,
            "subset": "training",
            "annotations": [{"label": label, "segment": [start, end]} for label, start, end in rows],
        }
        for name, rows in segments.items()
    }
    (folder / "activity_net.json").write_text(json.dumps({"database": database}))
    table = read_source(folder, "activitynet")
    prepare_table(table, out)
    dataset = Dataset.open(out)
    assert [(v.key, v.labels, v.group, v.n_frames) for v in dataset.videos] == [
        ("v_aaaaaaaaaaa", ("Archery", "Bowling"), "aaaaaaaaaaa", 50),
        ("v_bbbbbbbbbbb", ("Bowling",), "bbbbbbbbbbb", 25),
    ]
    assert [(i.key, i.label, i.split, i.start_frame, i.end_frame) for i in dataset.instances] == [
        ("v_aaaaaaaaaaa", "Archery", "train", 0, 13),  # a frame that is half in counts
        ("v_aaaaaaaaaaa", "Bowling", "train", 12, 26),
        ("v_aaaaaaaaaaa", "Archery", "train", 30, 50),
        ("v_bbbbbbbbbbb", "Bowling", "train", 5, 20),
    ]
    (row,) = dataset.catalog.errors
    assert (row["path"], row["stage"]) == ("videos/v_bbbbbbbbbbb.mp4", "label")
    assert row["reason"] == "segment [1.5, 2.5) s of class 'Surfing' lies outside the stored video of 1.000 s"
    assert is_clean(out)
    before = digests(out)
    assert prepare_table(table, out).prepared == 0
    prepare_table(table, out, retry_failed=True)
    assert digests(out) == before  # what is wrong with a label isn't lost by a retry


def test_whole_numbers_of_seconds_are_times_too(own_source: Path, out: Path) -> None:
    prepare_table(with_instances(own_source, {"class0/v00.mp4": (Instance("class0", None, 0, 1),)}), out)
    assert is_clean(out)


def test_keys_differ_though_new_paths_resemble_stored_ones(own_source: Path, out: Path) -> None:
    """A key that a table gives twice over time, to another path each time, is changed for the later one."""
    table = read_source(own_source)
    first, second = table.videos[:2]
    prepare_table(replace(table, videos=(first,)), out)
    prepare_table(replace(table, videos=(SourceVideo(second.path, first.key, second.instances),)), out)
    keys = [video.key for video in Dataset.open(out).videos]
    assert keys[0] == first.key
    assert len(set(keys)) == 2
    assert is_clean(out)
