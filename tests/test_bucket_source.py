"""Raw videos in a bucket: the data set is that of the same videos on a disk."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest
from dataset_cases import digests

import vclimb
from vclimb.pipeline.errors import SourceError, VideoError
from vclimb.pipeline.sources.remote import RemoteFile, open_remote
from vclimb.pipeline.system.bucket import Bucket
from vclimb.pipeline.transcode.worker import probe_file


@pytest.fixture
def url(s3_bucket: str, synth_shards: Path) -> str:
    """The drawn videos and their table, in a bucket."""
    fsspec.filesystem("s3").put(f"{synth_shards.parent / 'videos'}/", f"{s3_bucket}/raw", recursive=True)
    return f"{s3_bucket}/raw"


def test_videos_of_a_bucket_give_the_data_set_of_the_disk(url: str, synth_shards: Path, tmp_path: Path) -> None:
    made = vclimb.prepare(url, tmp_path / "synth", short_side=48, workers=2, progress=False)
    assert made.summary is not None
    assert (made.summary.prepared, made.summary.failed_now) == (36, [])
    assert digests(tmp_path / "synth") == digests(synth_shards)
    again = vclimb.prepare(f"{url}/videos.csv", tmp_path / "synth", short_side=48, workers=1, progress=False)
    assert again.summary is not None
    assert (again.summary.prepared, again.summary.already_there, again.summary.changed) == (0, 36, [])
    remote = open_remote(url)
    videos = [path for path in remote.root.rglob("*") if path.suffix in (".mp4", ".avi", ".webm")]
    assert len(videos) == 36
    assert sum(path.stat().st_blocks for path in videos) == 0  # they take no space


def test_a_folder_follows_its_bucket_and_a_bad_object_is_a_row(url: str, tmp_path: Path) -> None:
    files, remote = fsspec.filesystem("s3"), open_remote(url)
    names = sorted(name for name in Bucket(url).list() if name.endswith(".mp4"))
    files.rm_file(f"{url}/{names[0]}")
    files.pipe_file(f"{url}/{names[1]}", b"no video")
    files.pipe_file(f"{url}/more/class/new.mp4", b"no video either")
    gone = probe_file(remote.file(names[0]))
    assert isinstance(gone, VideoError)
    assert (gone.stage, gone.reason) == ("open", "no such object")
    after = open_remote(url)
    assert not (after.root / names[0]).exists()
    assert (after.root / names[1]).stat().st_size == 8
    assert (after.root / "more/class/new.mp4").exists()
    made = vclimb.prepare(url, tmp_path / "few", short_side=48, limit=40, workers=1, progress=False)
    assert made.summary is not None
    assert names[1] in {error.path for error in made.summary.failed_now}
    assert isinstance(probe_file(RemoteFile(Bucket("s3://no-such-bucket"), "x.mp4", tmp_path)), VideoError)


def test_sources_that_cannot_be_read_are_named(s3_bucket: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=f"there is nothing below {s3_bucket}/none"):
        vclimb.prepare(f"{s3_bucket}/none", tmp_path / "x")
    fsspec.filesystem("s3").pipe_file(f"{s3_bucket}/fine/class/b.mp4", b"x")
    with pytest.raises(vclimb.SettingsError, match="allow_outside is for tables of this machine"):
        vclimb.prepare(f"{s3_bucket}/fine", tmp_path / "x", allow_outside=True)
    assert list(tmp_path.glob("x")) == []
