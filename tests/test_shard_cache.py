"""Copies of the shards of a bucket on this machine: whole, within their limit, made once, and read like the bucket."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest

import vclimb
from vclimb.pipeline.clips.provider import InstanceProvider
from vclimb.pipeline.dataset.cache_settings import CacheSettings
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.dataset.shard import ShardFiles
from vclimb.pipeline.dataset.shard_cache import ShardCache, index_bytes
from vclimb.pipeline.errors import DatasetError, SettingsError
from vclimb.pipeline.system.bucket import Bucket


@pytest.fixture
def url(s3_bucket: str, synth_in_shards: Path) -> str:
    fsspec.filesystem("s3").put(f"{synth_in_shards}/", f"{s3_bucket}/synth", recursive=True)
    return f"{s3_bucket}/synth"


def total_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix in (".tar", ".npy"))


def bytes_of(files: ShardFiles) -> int:
    """Bytes of a shard in the cache: the tar and the frame index."""
    return files.tar_bytes + index_bytes(files)


def cache_of(url: str, folder: Path, n_shards: int) -> tuple[ShardCache, list[str]]:
    """Make a cache that holds the largest shards, `n_shards` of them, and list the names of all shards."""
    shards = list(StoredDataset.open(url).catalog.shards.values())
    sizes = sorted(map(bytes_of, shards), reverse=True)
    settings = CacheSettings(folder, sum(sizes[:n_shards]))
    return ShardCache(Bucket(url), shards, settings, n_shards // 2), [files.tar for files in shards]


def read(cache: ShardCache, name: str) -> bytes:
    descriptor = cache.open(name)
    try:
        return os.pread(descriptor, 10**9, 0)
    finally:
        os.close(descriptor)


def test_copies_are_made_once_read_like_the_disk_and_kept_within_the_limit(
    url: str, synth_in_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, names = cache_of(url, tmp_path / "cache", 4)
    assert len(names) >= 6
    copied = []
    download = Bucket.download

    def counted(bucket: Bucket, name: str, path: Path) -> None:
        copied.append(name)
        download(bucket, name, path)

    monkeypatch.setattr(Bucket, "download", counted)
    with ThreadPoolExecutor(8) as threads:  # all want the same shards at once
        contents = list(threads.map(lambda name: read(cache, name), names[:3] * 8))
    assert contents == [(synth_in_shards / name).read_bytes() for name in names[:3]] * 8
    assert sorted(copied) == names[:3]
    kept = cache.open(names[0])
    for name in names:
        assert read(cache, name) == (synth_in_shards / name).read_bytes()
        assert total_of(tmp_path / "cache") <= cache.settings.max_bytes
    assert os.pread(kept, 10**9, 0) == (synth_in_shards / names[0]).read_bytes()  # removed meanwhile, and still whole
    os.close(kept)
    del copied[:]
    again = ShardCache(Bucket(url), StoredDataset.open(url).catalog.shards.values(), cache.settings, 2)
    again.fetch_ahead(names[-2:])
    again.close()
    assert read(again, names[-1]) == (synth_in_shards / names[-1]).read_bytes()
    assert copied == []  # the latest are there, for another cache too


def test_what_is_fetched_ahead_is_there_before_it_is_needed(url: str, tmp_path: Path) -> None:
    cache, names = cache_of(url, tmp_path / "cache", 4)
    cache.fetch_ahead(names[:3])
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "cache").glob("*.tar"))) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    fsspec.filesystem("s3").rm(url, recursive=True)
    for name in names[:3]:
        assert read(cache, name)
    cache.fetch_ahead(names[4:5])  # it fails, and the reader says so
    with pytest.raises(DatasetError, match=f"{names[4]} is not there; run vclimb verify {url}"):
        cache.open(names[4])
    cache.close()


def test_damaged_shards_are_refused_and_caches_have_room_for_two_groups(url: str, tmp_path: Path) -> None:
    cache, names = cache_of(url, tmp_path / "cache", 4)
    files = fsspec.filesystem("s3")
    content = bytearray(files.cat_file(f"{url}/{names[0]}"))
    content[700] ^= 1
    files.pipe_file(f"{url}/{names[0]}", bytes(content))
    with pytest.raises(DatasetError, match=f"{names[0]} is damaged: its SHA-256 is .* run vclimb verify"):
        cache.open(names[0])
    assert [path.suffix for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"] == []
    with pytest.raises(SettingsError, match=r"two groups of 3 shards, and compute\.cache_bytes is"):
        StoredDataset.open(url).cached(cache.settings, 3)
    with pytest.raises(SettingsError, match="all shuffled together"):
        StoredDataset.open(url).cached(cache.settings, 0)


def _begin_and_hang(bucket: Bucket, name: str, path: Path) -> None:
    path.write_bytes(b"x" * 100)
    time.sleep(600)


def _copy_and_hang(cache: ShardCache, name: str) -> None:
    Bucket.download = _begin_and_hang  # type: ignore[method-assign]
    cache.open(name)


def test_what_a_killed_process_left_is_removed_and_copied_anew(url: str, synth_in_shards: Path, tmp_path: Path) -> None:
    cache, names = cache_of(url, tmp_path / "cache", 4)
    process = multiprocessing.get_context("spawn").Process(target=_copy_and_hang, args=(cache, names[0]))
    process.start()
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size for path in (tmp_path / "cache").glob("*.part")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    reserved = (synth_in_shards / names[0]).stat().st_size
    for name in names[1:5]:  # the bytes that it has reserved count
        assert read(cache, name)
        assert total_of(tmp_path / "cache") + reserved <= cache.settings.max_bytes
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert read(cache, names[5]) == (synth_in_shards / names[5]).read_bytes()
    assert list((tmp_path / "cache").glob("*.part")) == []
    assert read(cache, names[0]) == (synth_in_shards / names[0]).read_bytes()


def test_training_by_groups_gives_the_metrics_of_the_disk_and_copies_each_shard_once(
    url: str, synth_in_shards: Path, tmp_path: Path
) -> None:
    from training_cases import comparable, read_metrics, tiny_config  # loads torch, which a started process shouldn't

    sizes = list(map(bytes_of, StoredDataset.open(url).catalog.shards.values()))
    metrics = []
    for place, name in ((str(synth_in_shards), "disk"), (url, "bucket")):
        more = ("training.shard_group=2", f"compute.cache_bytes={sum(sizes)}", "scenario.tasks=2")
        config = tiny_config(Path("unused"), "naive", *more).model_copy(update={"data": place})
        vclimb.train(config=config, out=tmp_path / name, progress=False)
        metrics.append(comparable(read_metrics(tmp_path / name)))
    assert metrics[0] == metrics[1]
    assert len(list((tmp_path / "caches" / "vclimb" / "shards").glob("*.tar"))) == len(sizes)
    assert config.beginning().training.shard_group == 2
    assert tiny_config(synth_in_shards).shard_group == 0
    assert tiny_config(synth_in_shards).model_copy(update={"data": url}).shard_group == 8


def test_other_processes_read_the_copies(url: str, synth_in_shards: Path, tmp_path: Path) -> None:
    data, there = StoredDataset.open(url), StoredDataset.open(synth_in_shards)
    shards = list(data.catalog.shards.values())
    cached = data.cached(CacheSettings(tmp_path / "cache", sum(map(bytes_of, shards))), 0)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        here = InstanceProvider(cached, data.instances)
        wanted = [(item, np.arange(2)) for item in range(len(data.instances))]
        pool.starmap(here.read, wanted)
        fsspec.filesystem("s3").rm(url, recursive=True)
        clips = pool.starmap(here.read, wanted)
    on_disk = InstanceProvider(there, there.instances)
    assert [clip.units for clip in clips] == [on_disk.read(n, np.arange(2)).units for n in range(len(clips))]
