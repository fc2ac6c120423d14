"""Data sets in a bucket of a real S3 server: read, verified and trained from like those on the disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import fsspec
import pytest
import torch
from dataset_cases import command_environment, digests
from training_cases import comparable, read_metrics, tiny_config

import vclimb
from vclimb.pipeline.errors import DatasetError, DatasetMissingError
from vclimb.pipeline.system.bucket import Bucket
from vclimb.training.config import read_config


@pytest.fixture
def shards(s3_bucket: str, jpeg_folder: Path) -> str:
    """The tiny videos as JPEG frames, in a bucket."""
    fsspec.filesystem("s3").put(f"{jpeg_folder}/", f"{s3_bucket}/tiny", recursive=True)
    return f"{s3_bucket}/tiny"


def test_objects_are_written_listed_and_created_once(s3_bucket: str, tmp_path: Path) -> None:
    bucket = Bucket(f"{s3_bucket}/a b")
    bucket.write("x/y", b"one")
    (tmp_path / "file").write_bytes(b"two")
    bucket.upload(tmp_path / "file", "z")
    assert {name: facts.n_bytes for name, facts in bucket.list().items()} == {"x/y": 3, "z": 3}
    assert list(bucket.list("x")) == ["x/y"]
    assert bucket.create("lock", b"first")
    assert not bucket.create("lock", b"second")
    assert bucket.read("lock") == b"first"
    bucket.remove(["lock", "lock"])
    assert bucket.list("nothing") == {}
    with pytest.raises(FileNotFoundError):
        bucket.read("lock")


def test_verify_finds_a_flipped_byte(shards: str, jpeg_folder: Path) -> None:
    here = vclimb.verify(jpeg_folder, decode=True, workers=1)
    assert vclimb.verify(shards, decode=True, workers=2) == here
    assert here.problems == []
    files = fsspec.filesystem("s3")
    data = vclimb.open(shards)
    video = data.videos[4]
    offset = int(data.frame_ranges(video)[0, 0]) + 40
    tar, _, _ = data.shard_names(video.shard)
    content = bytearray(files.cat_file(f"{shards}/{tar}"))
    content[offset] ^= 1
    files.pipe_file(f"{shards}/{tar}", bytes(content))
    files.rm_file(f"{shards}/{data.shard_names(0)[1]}")
    files.pipe_file(f"{shards}/stray", b"")
    problems = [(problem.file, problem.key) for problem in vclimb.verify(shards, workers=1).problems]
    assert {(tar, None), (tar, video.key), (data.shard_names(0)[1], None), ("stray", None)} <= set(problems)
    with pytest.raises(vclimb.VclimbError, match=f"frame 0 of '{video.key}'"):
        data.decode_frame(video, 0)


def test_memories_and_sheets_are_those_of_the_disk(shards: str, jpeg_folder: Path, tmp_path: Path) -> None:
    memories = [vclimb.pack(data, tmp_path / name, budget="4v") for name, data in (("a", jpeg_folder), ("b", shards))]
    assert memories[1].packed is not None
    assert memories[1].packed.dataset == shards
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_training_gives_the_metrics_of_the_disk(s3_bucket: str, synth_shards: Path, tmp_path: Path) -> None:
    fsspec.filesystem("s3").put(f"{synth_shards}/", f"{s3_bucket}/synth", recursive=True)
    url = f"{s3_bucket}/synth"
    metrics = []
    for data, name in ((synth_shards, "disk"), (url, "bucket")):
        config = tiny_config(Path("unused"), "naive", "scenario.tasks=2").model_copy(update={"data": str(data)})
        vclimb.train(config=config, out=tmp_path / name, progress=False)
        metrics.append(comparable(read_metrics(tmp_path / name)))
    assert metrics[0] == metrics[1]
    assert read_config(tmp_path / "bucket" / "config.toml").data == url


def test_worker_processes_stream_the_clips_of_the_disk(shards: str, jpeg_folder: Path, tmp_path: Path) -> None:
    script = "import sys, torch, vclimb; stream = vclimb.open(sys.argv[1]).stream(None, batch_size=4, size=32, "
    script += "workers=1, device='cpu'); torch.save([batch.frames for batch in stream], sys.argv[2])"
    command = [sys.executable, "-c", script, shards, str(tmp_path / "remote")]  # the server's address is set anew
    subprocess.run(command, check=True, timeout=120, env=command_environment())
    stream = vclimb.open(jpeg_folder).stream(None, batch_size=4, size=32, workers=0, device="cpu")
    local, remote = [batch.frames for batch in stream], torch.load(tmp_path / "remote")
    assert len(local) == len(remote) > 0
    assert all(map(torch.equal, local, remote))


def test_what_is_not_there_is_named(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatasetMissingError, match=f"{s3_bucket}/none is not a prepared data set"):
        vclimb.open(f"{s3_bucket}/none")
    with pytest.raises(DatasetMissingError, match="no-such-bucket/x is not a prepared data set"):
        vclimb.verify("s3://no-such-bucket/x")
    with pytest.raises(vclimb.SettingsError, match="can't open nothing://x"):
        vclimb.open("nothing://x")
    monkeypatch.setattr(Bucket, "_path", lambda self, name: "s3://Not A Bucket/x")
    with pytest.raises(DatasetError, match=r"dataset.json of s3://.* can't be read"):
        vclimb.open(f"{s3_bucket}/none")
