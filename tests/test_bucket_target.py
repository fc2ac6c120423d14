"""Data sets prepared into a bucket: the bytes of a folder's, whatever stops the run, and one writer at a time."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest
from dataset_cases import command_environment, digests
from typer.testing import CliRunner

import vclimb
from vclimb.cli.main import app
from vclimb.pipeline.errors import DatasetMissingError, TargetBusyError, TargetError
from vclimb.pipeline.system.bucket import Bucket

SETTINGS = {"short_side": 48, "shard_size": 30_000, "workers": 1, "limit": 12}
KILLED_AT_AN_UPLOAD = """
import os, signal, sys, vclimb
from vclimb.pipeline.system.bucket import Bucket
upload, left = Bucket.upload, int(sys.argv[3])
def killed(bucket, path, name):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    upload(bucket, path, name)
Bucket.upload = killed
vclimb.prepare(sys.argv[1], sys.argv[2], short_side=48, shard_size=30_000, workers=1, limit=12, progress=False)
"""


@pytest.fixture(scope="module")
def videos(synth_shards: Path) -> Path:
    return synth_shards.parent / "videos"


@pytest.fixture(scope="module")
def expected(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of the files of a data set in a folder."""
    data = vclimb.prepare(videos, tmp_path_factory.mktemp("local") / "synth", progress=False, **SETTINGS)  # type: ignore[arg-type]
    assert len(data.catalog.shards) >= 3
    return digests(data.folder)


def fetched(url: str, out: Path) -> Path:
    shutil.rmtree(out, ignore_errors=True)
    fsspec.filesystem("s3").get(f"{url}/", f"{out}/", recursive=True)
    return out


def test_a_bucket_has_the_bytes_of_a_folder_and_nothing_is_made_twice(
    videos: Path, expected: dict[str, str], s3_bucket: str, tmp_path: Path
) -> None:
    url = f"{s3_bucket}/synth"
    argv = ["prepare", str(videos), "--out", url, "--short-side", "48", "--shard-size", "30kB", "--workers", "2"]
    argv += ["--limit", "12"]
    first = CliRunner().invoke(app, [*argv, "--json"])
    assert first.exit_code == 0, first.output
    summary = json.loads(first.stdout)
    assert (summary["out"], summary["prepared"]) == (url, 12)
    assert digests(fetched(url, tmp_path / "got")) == expected
    assert vclimb.verify(url, decode=True, workers=1).problems == []
    again = vclimb.prepare(videos, url, progress=False, **SETTINGS)  # type: ignore[arg-type]
    assert again.summary is not None
    assert (again.summary.prepared, again.summary.already_there) == (0, 12)
    assert digests(fetched(url, tmp_path / "got")) == expected
    with pytest.raises(vclimb.SettingsError, match=f"{url} was prepared with other settings"):
        vclimb.prepare(videos, url, short_side=32, progress=False)


@pytest.mark.parametrize(  # killed while a shard's files are uploaded, or its record, or the next shard's tar
    ("uploads", "elsewhere"), [(2, False), (4, False), (5, True)], ids=["files", "record", "elsewhere"]
)
def test_a_killed_run_goes_on_and_leaves_nothing_that_looks_whole(
    videos: Path,
    expected: dict[str, str],
    s3_bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    uploads: int,
    elsewhere: bool,
) -> None:
    url = f"{s3_bucket}/synth"
    argv = [sys.executable, "-c", KILLED_AT_AN_UPLOAD, str(videos), url, str(uploads)]
    killed = subprocess.run(argv, env=command_environment(), capture_output=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with pytest.raises(DatasetMissingError, match="is not a prepared data set"):
        vclimb.verify(url)
    with pytest.raises(DatasetMissingError, match="is not a prepared data set"):
        vclimb.open(url)
    if elsewhere:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
        with pytest.raises(
            TargetBusyError, match=rf"another run on \S+ \(process \d+, since .*remove {url}/\.work/lock"
        ):
            vclimb.prepare(videos, url, progress=False, **SETTINGS)  # type: ignore[arg-type]
        fsspec.filesystem("s3").rm(f"{url}/.work/lock.json")
    whole = [name for name in Bucket(url).list() if name.startswith(".work/records/")]
    uploaded = []
    upload = Bucket.upload

    def noted(bucket: Bucket, path: Path, name: str) -> None:
        uploaded.append(name)
        upload(bucket, path, name)

    monkeypatch.setattr(Bucket, "upload", noted)
    vclimb.prepare(videos, url, executor="local", progress=False, **SETTINGS)  # type: ignore[arg-type]
    assert digests(fetched(url, tmp_path / "got")) == expected
    assert not {Path(name).name for name in whole} & {Path(name).name for name in uploaded}


def test_one_writer_at_a_time_and_no_foreign_objects(videos: Path, s3_bucket: str) -> None:
    bucket = Bucket(f"{s3_bucket}/synth")
    bucket.write(".work/lock.json", b'{"host": "node7", "folder": "/x", "process": 5, "began": "today"}')
    with pytest.raises(TargetBusyError, match=r"another run on node7 \(process 5, since today\) is writing to s3://"):
        vclimb.prepare(videos, bucket.url, progress=False)
    assert list(bucket.list()) == [".work/lock.json"]
    other = Bucket(f"{s3_bucket}/other")
    other.write("thesis.pdf", b"x")
    with pytest.raises(TargetError, match=r"holds objects that are not a data set \('thesis.pdf' and 0 more\)"):
        vclimb.prepare(videos, other.url, progress=False)
    assert list(other.list()) == ["thesis.pdf"]
    with pytest.raises(TargetError, match="can't write to s3://no-such-bucket/x: there is no such bucket"):
        vclimb.prepare(videos, "s3://no-such-bucket/x", progress=False)
