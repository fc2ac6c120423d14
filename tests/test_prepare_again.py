"""Preparing into a data set that is there: new, changed, failed and missing videos, and runs that were stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dataset_cases import (
    SHARD_BYTES,
    InlineExecutor,
    digests,
    is_clean,
    make_source,
    prepare_table,
    shard_files,
    with_instances,
)
from video_cases import make_video

from vclimb.pipeline.dataset.catalog import ShardRecord
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.errors import TargetError
from vclimb.pipeline.sources import read_source
from vclimb.pipeline.sources.table import Instance, Missing, SourceVideos
from vclimb.pipeline.transcode.executors.executor import OnVideo
from vclimb.pipeline.transcode.jobs import ShardJob
from vclimb.pipeline.transcode.target import WORK


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_source(tmp_path / "source", classes=3, videos_per_class=4)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_new_videos_become_new_shards(source: Path, out: Path, prepare_folder: Any) -> None:
    inline = InlineExecutor()
    prepare_folder(source, out, executor=inline, shard_bytes=SHARD_BYTES)
    before, stats = digests(out), shard_files(out)
    make_video(source / "class0" / "a_first_one.mp4")
    make_video(source / "class0" / "v00.avi")  # differs from a stored name in its suffix alone
    make_video(source / "new class" / "v.mp4")
    summary = prepare_folder(source, out, executor=inline, shard_bytes=SHARD_BYTES)
    assert (summary.prepared, summary.already_there) == (3, 12)
    after = digests(out)
    assert {name: after[name] for name in stats} == {name: before[name] for name in stats}
    assert {name: stat for name, stat in shard_files(out).items() if name in stats} == stats
    dataset = StoredDataset.open(out)
    first_new = len(stats) // 3  # three files for each shard
    assert min(video.shard for video in dataset.videos[12:]) == first_new
    assert sorted(dataset.catalog.shards) == list(range(max(dataset.catalog.shards) + 1))
    assert len({video.key for video in dataset.videos}) == len({video.source for video in dataset.videos}) == 15
    assert dataset.classes == ["class0", "class1", "class2", "new class"]
    assert is_clean(out)


def test_a_limit_takes_some_of_each_class_and_a_run_without_limit_takes_the_rest(
    source: Path, out: Path, prepare_folder: Any, tmp_path: Path
) -> None:
    inline = InlineExecutor()
    summary = prepare_folder(source, out, executor=inline, limit=5)
    assert [video.source for video in StoredDataset.open(out).videos] == [
        "class0/v00.mp4", "class0/v01.mp4", "class1/v00.mp4", "class1/v01.mp4", "class2/v00.mp4"
    ]  # fmt: skip
    assert (summary.prepared, summary.gone) == (5, 0)
    stats = shard_files(out)
    assert prepare_folder(source, out, executor=inline, limit=5).prepared == 0
    assert prepare_folder(source, out, executor=inline).prepared == 7
    assert {name: stat for name, stat in shard_files(out).items() if name in stats} == stats
    assert is_clean(out)
    at_once = prepare_folder(source, tmp_path / "at once" / "data", executor=inline)
    assert {(v.key, v.sha256) for v in StoredDataset.open(out).videos} == {
        (v.key, v.sha256) for v in StoredDataset.open(at_once.out).videos
    }


def test_changed_gone_and_missing_sources_are_counted(source: Path, out: Path) -> None:
    table = read_source(source)
    prepare_table(table, out)
    before = digests(out)
    changed, gone = source / "class0" / "v00.mp4", source / "class1" / "v01.mp4"
    changed.write_bytes(changed.read_bytes() + b"\0")
    gone.unlink()
    summary = prepare_table(table, out)  # the table still lists a file that was removed
    assert (summary.changed, summary.gone, summary.prepared) == (["class0/v00.mp4"], 1, 0)
    assert digests(out) == before
    listed = replace(read_source(source), missing=(Missing("class9/v.mp4", "listed, but not on disk"),))
    summary = prepare_table(listed, out)
    assert (summary.changed, summary.gone, summary.missing) == (["class0/v00.mp4"], 1, 1)
    rows = [json.loads(line) for line in (out / "errors.jsonl").read_text().splitlines()]
    assert rows == [{"path": "class9/v.mp4", "stage": "find", "reason": "listed, but not on disk", "stderr": ""}]
    assert prepare_table(read_source(source), out).missing == 0
    assert digests(out) == before


def test_failed_videos_are_left_alone_until_a_retry(source: Path, out: Path) -> None:
    good = (source / "class0" / "v00.mp4").read_bytes()
    (source / "class0" / "v00.mp4").write_text("no video")
    (source / "class0" / "v01.mp4").write_bytes(b"")
    summary = prepare_table(read_source(source), out)
    assert summary.prepared == 10
    assert [(error.path, error.stage) for error in summary.failed_now] == [
        ("class0/v00.mp4", "probe"), ("class0/v01.mp4", "open")
    ]  # fmt: skip
    before = digests(out)
    (source / "class0" / "v00.mp4").write_bytes(good)
    summary = prepare_table(read_source(source), out)
    assert (summary.prepared, summary.failed_before, summary.failed_now) == (0, 2, [])
    assert digests(out) == before
    summary = prepare_table(read_source(source), out, retry_failed=True)
    assert (summary.prepared, summary.already_there, summary.failed_before) == (1, 10, 0)
    assert [error.path for error in summary.failed_now] == ["class0/v01.mp4"]
    assert [error.path for error in StoredDataset.open(out).catalog.errors] == ["class0/v01.mp4"]
    assert prepare_table(read_source(source), out, retry_failed=True).prepared == 0
    assert is_clean(out)


def test_a_retry_that_was_stopped_gives_the_same_bytes(source: Path, tmp_path: Path) -> None:
    class Stops(InlineExecutor):
        def run(self, jobs: Any, on_video: OnVideo) -> Iterator[ShardRecord]:
            raise KeyboardInterrupt
            yield

    good = (source / "class0" / "v00.mp4").read_bytes()
    (source / "class0" / "v00.mp4").write_text("no video")
    table = with_instances(source, {"class1/v01.mp4": (Instance("late", None, 1e3, 2e3), Instance("class1"))})
    once, twice = tmp_path / "once" / "data", tmp_path / "twice" / "data"
    prepare_table(table, once)
    shutil.copytree(once, twice)
    (source / "class0" / "v00.mp4").write_bytes(good)
    prepare_table(table, once, retry_failed=True)
    with pytest.raises(KeyboardInterrupt):
        prepare_table(table, twice, retry_failed=True, executor=Stops())
    assert "going on with an unfinished run of 1 videos" in prepare_table(table, twice).notes
    assert digests(once) == digests(twice)
    assert [(error.path, error.stage) for error in StoredDataset.open(once).catalog.errors] == [
        ("class1/v01.mp4", "label")
    ]


def test_an_unfinished_run_is_not_mixed_up_with_another_source(source: Path, tmp_path: Path, out: Path) -> None:
    class Stops(InlineExecutor):
        def run(self, jobs: Sequence[ShardJob], on_video: OnVideo) -> Iterator[ShardRecord]:
            yield from super().run(jobs[:1], on_video)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_table(read_source(source), out, executor=Stops(), shard_bytes=SHARD_BYTES)
    assert (out / WORK).exists()
    make_video(tmp_path / "other" / "class" / "w.mp4")
    before = digests(out)
    with pytest.raises(TargetError, match=r"unfinished run over another source: none of its 12 videos \('class0/v00"):
        prepare_table(read_source(tmp_path / "other"), out, shard_bytes=SHARD_BYTES)
    assert digests(out) == before
    source.rename(tmp_path / "moved")
    assert prepare_table(read_source(tmp_path / "moved"), out).totals["videos"] == 12
    assert is_clean(out)


def test_keys_differ_though_new_paths_resemble_stored_ones(source: Path, out: Path) -> None:
    """A key that a table gives to another path in a later run is changed for that path."""
    table = read_source(source)
    first, second = table.videos[:2]
    prepare_table(replace(table, videos=table.videos[:1]), out)
    prepare_table(replace(table, videos=SourceVideos.of([replace(second, key=first.key)])), out)
    keys = [video.key for video in StoredDataset.open(out).videos]
    assert keys[0] == first.key
    assert len(set(keys)) == 2
    assert is_clean(out)
