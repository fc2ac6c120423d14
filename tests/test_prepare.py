"""The result of a prepare run, and what a run refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from fractions import Fraction
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
    vclimb,
    with_instances,
)
from typer.testing import CliRunner
from video_cases import make_video

from vclimb.cli.main import app
from vclimb.pipeline.dataset.catalog import ShardRecord
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.errors import SettingsError, SourceError, TargetBusyError, TargetError
from vclimb.pipeline.sources import read_source
from vclimb.pipeline.sources.table import Instance, SourceTable, SourceVideos
from vclimb.pipeline.transcode.executors import local as executor_module
from vclimb.pipeline.transcode.executors.executor import OnVideo
from vclimb.pipeline.transcode.executors.local import LocalExecutor
from vclimb.pipeline.transcode.target import locked


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_source(tmp_path_factory.mktemp("raw") / "source", classes=3, videos_per_class=4)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.mark.parametrize("codec", ["jpeg", "h264"])
def test_bytes_depend_neither_on_workers_nor_on_batches(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare_folder: Any, codec: str
) -> None:
    monkeypatch.setattr(executor_module, "BATCH_VIDEOS", 3)
    parallel, inline = tmp_path / "parallel" / "data", tmp_path / "inline" / "data"
    prepare_folder(source, parallel, executor=LocalExecutor(3), codec=codec, shard_bytes=2 * 10**9)
    prepare_folder(source, inline, executor=InlineExecutor(), codec=codec)
    assert digests(parallel) == digests(inline)
    assert len(list(parallel.glob("*.tar"))) == 1


def test_the_command_prints_a_summary_and_a_second_run_does_nothing(source: Path, out: Path) -> None:
    first = vclimb("prepare", source, "--out", out, "--shard-size", f"{SHARD_BYTES}B", "--workers", "4")
    assert first.returncode == 0, first.stderr
    assert "Traceback" not in first.stderr  # workers without work are silent too
    assert "12  videos prepared" in first.stdout
    assert f"{out}: 3 classes, 12 videos" in first.stdout
    before, stats = digests(out), shard_files(out)
    second = CliRunner().invoke(app, ["prepare", str(source), "--out", str(out)])
    assert second.exit_code == 0, second.stderr
    assert " 0  videos prepared" in second.stdout
    assert "12  there already" in second.stdout
    summary = json.loads(CliRunner().invoke(app, ["prepare", str(source), "--out", str(out), "--json"]).stdout)
    assert (summary["prepared"], summary["already_there"], summary["failed_now"]) == (0, 12, [])
    assert summary["totals"] == json.loads((out / "dataset.json").read_text())["totals"]
    assert shard_files(out) == stats
    assert digests(out) == before
    assert is_clean(out)


def test_other_settings_are_refused_with_the_difference(source: Path, out: Path, prepare_folder: Any) -> None:
    prepare_folder(source, out, executor=InlineExecutor())
    before = digests(out)
    with pytest.raises(SettingsError) as caught:
        prepare_folder(source, out, executor=InlineExecutor(), quality=9, fps=Fraction(25, 2))
    assert "(quality: 5 before, 9 now; fps: None before, 25/2 now)" in str(caught.value)
    assert "use the same settings, or another --out" in str(caught.value)
    assert digests(out) == before


@pytest.mark.parametrize("codec", ["jpeg", "h264"])
def test_size_rate_and_length_follow_the_settings(tmp_path: Path, out: Path, prepare_folder: Any, codec: str) -> None:
    make_video(tmp_path / "source" / "wide" / "v.mp4", frames=50, size="160x96", fps=25)
    make_video(tmp_path / "source" / "small" / "v.mp4", frames=50, size="48x32", fps=10)
    encode = {"short_side": 48, "fps": Fraction(5), "max_frames": 9, "codec": codec}
    prepare_folder(tmp_path / "source", out, executor=InlineExecutor(), **encode)
    small, wide = StoredDataset.open(out).videos
    assert (wide.width, wide.height, small.width, small.height) == (80, 48, 48, 32)
    assert wide.fps_fraction == small.fps_fraction == 5
    assert (wide.n_frames, small.n_frames) == (9, 9)
    assert is_clean(out)
    shutil.rmtree(out)
    prepare_folder(tmp_path / "source", out, executor=InlineExecutor(), codec=codec, fps=Fraction(5))
    small, wide = StoredDataset.open(out).videos
    assert (wide.width, wide.height) == (160, 96)
    assert (wide.n_frames, small.n_frames) == (10, 25)


def test_two_runs_on_one_folder(source: Path, out: Path, prepare_folder: Any, tmp_path: Path) -> None:
    """The second run is refused and leaves the files of the first run alone."""

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
    target = tmp_path / "undisturbed" / "data"
    undisturbed = prepare_folder(source, target, executor=InlineExecutor(), shard_bytes=SHARD_BYTES)
    assert digests(out) == digests(undisturbed.out)


def test_the_lock_ends_with_the_run(out: Path) -> None:
    for _ in range(2):
        with locked(out), pytest.raises(TargetBusyError), locked(out):
            pass


def test_a_target_that_is_not_a_data_set_is_left_alone(source: Path, tmp_path: Path, prepare_folder: Any) -> None:
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
        prepare_table(SourceTable("test", tmp_path, SourceVideos.of([])), out)
    assert not out.exists()


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
    dataset = StoredDataset.open(out)
    assert [(v.key, v.labels, v.group, v.n_frames) for v in dataset.videos] == [
        ("v_aaaaaaaaaaa", ("Archery", "Bowling"), "aaaaaaaaaaa", 50),
        ("v_bbbbbbbbbbb", ("Bowling",), "bbbbbbbbbbb", 25),
    ]
    assert [(i.key, i.label, i.split, i.start_frame, i.end_frame) for i in dataset.instances] == [
        ("v_aaaaaaaaaaa", "Archery", "train", 0, 13),  # a frame that is half inside counts
        ("v_aaaaaaaaaaa", "Bowling", "train", 12, 26),
        ("v_aaaaaaaaaaa", "Archery", "train", 30, 50),
        ("v_bbbbbbbbbbb", "Bowling", "train", 5, 20),
    ]
    (error,) = dataset.catalog.errors
    assert (error.path, error.stage) == ("videos/v_bbbbbbbbbbb.mp4", "label")
    assert error.reason == "segment [1.5, 2.5) s of class 'Surfing' lies outside the stored video of 1.000 s"
    assert is_clean(out)
    before = digests(out)
    assert prepare_table(table, out).prepared == 0
    prepare_table(table, out, retry_failed=True)
    assert digests(out) == before  # a retry keeps the errors of labels


def test_times_may_be_whole_numbers_of_seconds(source: Path, out: Path) -> None:
    prepare_table(with_instances(source, {"class0/v00.mp4": (Instance("class0", None, 0, 1),)}), out)
    assert is_clean(out)
