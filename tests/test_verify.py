"""Damage that `verify` must find, and the sample that it must name."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from damage_cases import DAMAGES, Damage, flip, flip_frame, swap_videos, tar_of
from dataset_cases import make_source, prepare_table, with_instances
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from vclimb.cli.main import app
from vclimb.pipeline.dataset.catalog import Catalog
from vclimb.pipeline.dataset.check import with_checksums
from vclimb.pipeline.dataset.dataset import StoredDataset, StoredVideo
from vclimb.pipeline.dataset.header import HEADER, INSTANCES, VIDEOS
from vclimb.pipeline.dataset.shard import ShardWriter, publish
from vclimb.pipeline.dataset.storage import LocalStorage
from vclimb.pipeline.errors import DatasetError
from vclimb.pipeline.sources import read_source
from vclimb.pipeline.sources.table import Instance
from vclimb.pipeline.transcode import shard_problems
from vclimb.pipeline.transcode.assembly import sample_json
from vclimb.pipeline.transcode.shard_problems import Problem
from vclimb.pipeline.transcode.target import WORK
from vclimb.pipeline.transcode.verify import VerifyReport, verify

SHARD_BYTES = 22_000


@pytest.fixture(scope="module", params=["jpeg", "h264"])
def intact(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An intact data set."""
    folder = tmp_path_factory.mktemp("intact")
    source = make_source(folder / "source", classes=2, videos_per_class=3, frames=14)
    prepare_table(read_source(source), folder / "data", codec=request.param, shard_bytes=SHARD_BYTES)
    return folder / "data"


@pytest.fixture
def damaged(intact: Path, tmp_path: Path) -> Path:
    """A copy of the intact data set, to be damaged."""
    return shutil.copytree(intact, tmp_path / "data")


def check(folder: Path, decode: bool = False, workers: int = 1) -> VerifyReport:
    return verify(folder, decode=decode, workers=workers, progress=False)


@pytest.mark.parametrize(("decode", "workers"), [(False, 1), (True, 2)])
def test_intact_data_set_is_clean(intact: Path, decode: bool, workers: int) -> None:
    report = check(intact, decode, workers)
    dataset = StoredDataset.open(intact)
    assert report.problems == []
    assert (report.n_shards, report.n_videos, report.n_frames, report.decoded, report.unfinished) == (
        len(dataset.catalog.shards), 6, 2 * (14 + 15 + 16), decode, False
    )  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_is_found_and_the_sample_named(damaged: Path, damage: Damage) -> None:
    first, video = StoredDataset.open(damaged).videos[:2]
    damage.do(damaged, video)
    report = check(damaged)
    assert [problem for problem in report.problems if problem.file.endswith(damage.file)]
    reported = [problem.what for problem in report.problems if problem.key == video.key]
    for words in damage.sample_words:
        assert any(words in what for what in reported), report.problems
    assert bool(reported) == bool(damage.sample_words)
    assert damage.do is swap_videos or first.key not in [problem.key for problem in report.problems]
    check(damaged, decode=True)  # raises nothing either


def test_damage_is_the_same_however_many_frames_are_read_at_once(
    damaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip_frame(damaged, StoredDataset.open(damaged).videos[1])
    problems = check(damaged).problems
    assert any(problem.what.startswith("frame 3: ") for problem in problems)
    monkeypatch.setattr(shard_problems, "_SPAN_BYTES", 1000)
    assert check(damaged).problems == problems


def test_shards_around_a_video_without_instances_are_clean(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", classes=1, videos_per_class=3, frames=6)
    table = with_instances(source, {"class0/v01.mp4": (Instance("class0", None, 1e3, 2e3),)})
    prepare_table(table, tmp_path / "data", shard_bytes=1)
    report = check(tmp_path / "data")
    assert (report.n_shards, report.problems) == (3, [])


@pytest.mark.parametrize("suffix", [".tar", ".idx", ".frames.npy"])
def test_missing_shard_file_is_found(damaged: Path, suffix: str) -> None:
    name = f"data-{max(StoredDataset.open(damaged).catalog.shards):06d}{suffix}"
    (damaged / name).unlink()
    for decode in (False, True):
        assert Problem(name, None, "is missing") in check(damaged, decode).problems


@pytest.mark.parametrize("name", [VIDEOS, INSTANCES])
def test_missing_or_damaged_table_is_found(damaged: Path, name: str) -> None:
    """Shards are not checked against a damaged table, which would mislead."""
    whole = (damaged / name).read_bytes()
    (damaged / "data-000000.tar").unlink()
    (damaged / name).write_bytes(whole[:-20])
    assert check(damaged).problems == [Problem(name, None, "its SHA-256 is not the one in dataset.json")]
    (damaged / name).unlink()
    assert check(damaged).problems == [Problem(name, None, "it is missing")]


def test_missing_or_damaged_header_is_explained(damaged: Path) -> None:
    whole = (damaged / HEADER).read_bytes()
    (damaged / HEADER).write_bytes(whole.replace(b'"frames": 9', b'"frames": 8'))
    with pytest.raises(
        DatasetError, match=r"dataset.json of .* is damaged: its content doesn't have the SHA-256 that it names"
    ):
        check(damaged)
    (damaged / HEADER).write_bytes(whole[:-20])
    with pytest.raises(DatasetError, match=r"dataset.json of .* is damaged: it is not JSON"):
        check(damaged)
    (damaged / HEADER).unlink()
    with pytest.raises(DatasetError, match="is not a prepared data set"):
        check(damaged)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_every_flipped_bit_of_the_catalog_is_noticed(
    intact: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """A data set with a flipped bit is refused with an explanation, or reported as damaged; never accepted."""
    folder = tmp_path_factory.getbasetemp() / f"flipped-{intact.parent.name}"
    if not folder.exists():
        shutil.copytree(intact, folder)
    path = folder / data.draw(st.sampled_from([HEADER, VIDEOS, INSTANCES]))
    whole = path.read_bytes()
    flip(path, data.draw(st.integers(0, len(whole) - 1)), 1 << data.draw(st.integers(0, 7)))
    try:
        complaint = " ".join(map(str, check(folder).problems))
    except DatasetError as error:
        complaint = str(error)
    finally:
        path.write_bytes(whole)
    assert path.name in complaint or str(folder) in complaint


def rerecord(folder: Path, video: StoredVideo, frame: int, change: Callable[[bytes], bytes]) -> None:
    """Damage a frame before anything was hashed: write shard and catalog as if the frame had always been so."""
    dataset, catalog = StoredDataset.open(folder), Catalog.read(LocalStorage(folder))
    tar = tar_of(folder, video)
    (folder / "new").mkdir()
    with ShardWriter(folder / "new", tar.stem) as writer:
        for stored in (other for other in dataset.videos if other.shard == video.shard):
            mp4, ranges = (
                bytearray(dataset.open_video(stored).read()),
                dataset.frame_ranges(stored) - [stored.offset, 0],
            )
            if stored == video:
                offset, size = ranges[frame].tolist()
                mp4[offset : offset + size] = change(bytes(mp4[offset : offset + size]))
            (folder / "new" / "video").write_bytes(mp4)
            place = catalog.videos.index(stored)
            catalog.videos[place] = replace(stored, sha256=hashlib.sha256(mp4).hexdigest())
            instances = [instance for instance in catalog.instances if instance.key == stored.key]
            metadata = sample_json(catalog.videos[place], instances)
            index = with_checksums(folder / "new" / "video", ranges)
            writer.add(stored.key, folder / "new" / "video", metadata, index)
        catalog.shards[video.shard] = writer.finish()
    publish(folder / "new", folder, tar.stem)
    shutil.rmtree(folder / "new")
    catalog.write(folder)


def second_half_zeroed(data: bytes) -> bytes:
    return data[: len(data) // 2].ljust(len(data), b"\0")


def test_decode_finds_frames_that_were_bad_before_they_were_hashed(damaged: Path) -> None:
    video = StoredDataset.open(damaged).videos[4]
    rerecord(damaged, video, 13, second_half_zeroed)
    assert check(damaged).problems == []
    for workers in (1, 2):
        (problem,) = check(damaged, decode=True, workers=workers).problems
        assert (problem.file, problem.key) == (tar_of(damaged, video).name, video.key)
        assert problem.what.startswith("frame 13: ")
        assert len(problem.what) > len("frame 13: ")


def verify_command(folder: Path, *flags: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["verify", str(folder), "--workers", "1", *flags])


@pytest.mark.parametrize("intact", ["jpeg"], indirect=True)
def test_command_names_what_is_wrong(damaged: Path) -> None:
    clean = verify_command(damaged)
    assert (clean.exit_code, clean.stderr) == (0, "")
    assert f"{damaged}: clean (" in clean.stdout
    video = StoredDataset.open(damaged).videos[2]
    flip_frame(damaged, video)
    bad = verify_command(damaged, "--decode")
    assert (bad.exit_code, bad.stderr) == (1, "")
    tar = tar_of(damaged, video).name
    assert f"{tar}: {video.key}: the SHA-256 of its mp4 is not the recorded one\n" in bad.stdout
    assert f"{tar}: {video.key}: frame 3: its bytes don't have the checksum of the frame index\n" in bad.stdout
    listed = verify_command(damaged, "--json")
    assert listed.exit_code == 1
    report = json.loads(listed.stdout)
    assert {problem["key"] for problem in report["problems"]} == {None, video.key}
    assert report == check(damaged).to_json()
    (damaged / HEADER).unlink()
    broken = verify_command(damaged)
    assert (broken.exit_code, broken.stdout) == (1, "")
    assert broken.stderr.startswith(f"error: {damaged} is not a prepared data set (no dataset.json)")


def test_unfinished_run_is_reported_and_its_files_are_no_strays(damaged: Path) -> None:
    (damaged / WORK).mkdir()
    (damaged / "data-000009.tar").write_bytes(b"published, but not recorded yet")
    report = check(damaged)
    assert (report.unfinished, report.problems) == (True, [])
