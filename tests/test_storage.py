"""Storage: the same bytes from a folder and from a URL, and no more bytes read than clips use."""

from __future__ import annotations

import errno
import itertools
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_cases import (
    all_instances,
    make_tiny_videos,
    prepare_tiny,
    provider_of,
    settings_of,
)
from stream_contract import assert_same_bits

from vclimb.pipeline.clips.provider import InstanceProvider
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.dataset.storage import (
    MAX_GAP_SHARE,
    LocalStorage,
    RemoteStorage,
    Storage,
    merge_ranges,
    open_storage,
)
from vclimb.pipeline.errors import DatasetError, SettingsError
from vclimb.pipeline.stream.cpu import CpuClipStream

quickly = settings(deadline=None, max_examples=60)
CONTENT = np.random.default_rng(0).bytes(10_000)
URL = "memory://bucket/tiny"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    videos = make_tiny_videos(tmp_path_factory.mktemp("videos"))
    return prepare_tiny(videos, tmp_path_factory.mktemp("jpeg") / "tiny", "jpeg")


@pytest.fixture
def memory_files() -> Iterator[fsspec.AbstractFileSystem]:
    """fsspec's memory file system; files that a test puts into `/bucket` are removed afterwards."""
    system = fsspec.filesystem("memory")
    yield system
    if system.exists("/bucket"):
        system.rm("/bucket", recursive=True)


def upload(folder: Path, url: str) -> str:
    fsspec.filesystem("memory").put(f"{folder}/", url, recursive=True)
    return url


class StorageContract:
    """Contract of every storage. A subclass provides the `storage` of a folder with one file, `data`."""

    @pytest.fixture
    def storage(self) -> Storage:
        raise NotImplementedError

    def test_a_whole_file_and_any_of_its_ranges(self, storage: Storage) -> None:
        assert storage.read("data") == CONTENT
        with storage.open("data") as file:
            assert (file.read(9), file.read()) == (CONTENT[:9], CONTENT[9:])
        assert storage.bytes_read == 2 * len(CONTENT)
        ranges = [(9_990, 10), (0, 1), (500, 300), (100, 50), (500, 300), (600, 300), (0, 10_000)]
        assert storage.read_ranges("data", ranges) == [CONTENT[o : o + s] for o, s in ranges]
        assert storage.read_ranges("data", []) == []

    def test_missing_files(self, storage: Storage) -> None:
        with pytest.raises(FileNotFoundError):
            storage.read("other")
        with pytest.raises(DatasetError, match=r"can't (open|read) .*other"):
            storage.read_ranges("other", [(0, 10)])

    @pytest.mark.parametrize("range_", [(9_995, 10), (10_000, 1), (20_000, 5)])
    def test_a_file_that_is_too_short(self, storage: Storage, range_: tuple[int, int]) -> None:
        offset, size = range_
        with pytest.raises(
            DatasetError, match=f"data ends within the {size} bytes at byte {offset}; run vclimb verify"
        ):
            storage.read_ranges("data", [(0, 10), range_])

    def test_a_copy_sent_to_another_process_reads_the_same(self, storage: Storage) -> None:
        storage.read_ranges("data", [(0, 100)])
        copy: Storage = pickle.loads(pickle.dumps(storage))
        assert copy.bytes_read == 0
        assert copy.read_ranges("data", [(7, 9)]) == [CONTENT[7:16]]
        assert str(copy) == str(storage)

    def test_it_can_be_used_again_after_closing(self, storage: Storage) -> None:
        storage.read_ranges("data", [(0, 100)])
        storage.close()
        assert storage.read_ranges("data", [(0, 100)]) == [CONTENT[:100]]


class TestLocal(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Iterator[Storage]:
        (tmp_path / "data").write_bytes(CONTENT)
        storage = open_storage(tmp_path)
        assert isinstance(storage, LocalStorage)
        yield storage
        storage.close()

    def test_exactly_the_ranges_are_read_and_the_file_is_opened_once(self, storage: Storage) -> None:
        open_files = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            storage.read_ranges("data", [(0, 10), (50, 20)])
        assert storage.bytes_read == 3 * 30
        assert len(os.listdir("/proc/self/fd")) == open_files + 1
        storage.close()
        assert len(os.listdir("/proc/self/fd")) == open_files


@pytest.mark.usefixtures("memory_files")
class TestRemote(StorageContract):
    @pytest.fixture
    def storage(self, memory_files: fsspec.AbstractFileSystem) -> Iterator[Storage]:
        memory_files.pipe("/bucket/data", CONTENT)
        storage = open_storage("memory://bucket/")
        assert isinstance(storage, RemoteStorage)
        yield storage
        storage.close()

    def test_ranges_that_were_read_are_not_read_again(self, storage: Storage) -> None:
        storage.read_ranges("data", [(0, 100), (500, 100)])
        assert storage.bytes_read == 200
        assert storage.read_ranges("data", [(500, 100), (0, 100)]) == [CONTENT[500:600], CONTENT[:100]]
        assert storage.bytes_read == 200
        storage.read_ranges("data", [(0, 100), (2_000, 50)])
        assert storage.bytes_read == 250

    def test_the_cache_keeps_the_ranges_used_last_and_no_more_than_it_may(
        self, memory_files: fsspec.AbstractFileSystem
    ) -> None:
        memory_files.pipe("/bucket/data", CONTENT)
        storage = RemoteStorage("memory://bucket", cache_bytes=250)

        def bytes_read_for(offset: int) -> int:
            before = storage.bytes_read
            assert storage.read_ranges("data", [(offset, 100)]) == [CONTENT[offset : offset + 100]]
            return storage.bytes_read - before

        assert [bytes_read_for(offset) for offset in (0, 1_000, 0)] == [100, 100, 0]
        assert bytes_read_for(2_000) == 100  # replaces 1,000, since 0 was used later
        assert [bytes_read_for(offset) for offset in (0, 2_000)] == [0, 0]
        assert bytes_read_for(1_000) == 100
        assert bytes_read_for(0) == 100

    def test_a_range_larger_than_the_cache_is_not_kept(self, memory_files: fsspec.AbstractFileSystem) -> None:
        memory_files.pipe("/bucket/data", CONTENT)
        storage = RemoteStorage("memory://bucket", cache_bytes=250)
        for total in (1_000, 2_000):
            assert storage.read_ranges("data", [(0, 1_000)]) == [CONTENT[:1_000]]
            assert storage.bytes_read == total

    def test_neighbours_are_one_request(
        self, memory_files: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        memory_files.pipe("/bucket/data", CONTENT)
        requests = []
        real = type(memory_files).cat_ranges

        def counting(self: object, paths: list[str], starts: list[int], ends: list[int], **options: object) -> object:
            requests.extend(zip(starts, ends, strict=True))
            return real(self, paths, starts, ends, **options)

        monkeypatch.setattr(type(memory_files), "cat_ranges", counting)
        storage = RemoteStorage("memory://bucket")
        ranges = [(0, 100), (100, 100), (205, 100), (1_000, 100)]
        assert storage.read_ranges("data", ranges) == [CONTENT[o : o + s] for o, s in ranges]
        assert requests == [(0, 305), (1_000, 1_100)]


@quickly
@given(st.sets(st.tuples(st.integers(0, 5_000), st.integers(1, 2_000)), max_size=20))
def test_spans_cover_all_ranges_for_at_most_a_tenth_more_bytes(ranges: set[tuple[int, int]]) -> None:
    ordered = sorted(ranges)
    spans = merge_ranges(ordered)
    assert len(spans) <= len(ordered)
    assert all(start < end for start, end in spans)
    assert all(end < start for (_, end), (start, _) in itertools.pairwise(spans))
    wanted = {byte for offset, size in ordered for byte in range(offset, offset + size)}
    covered = {byte for start, end in spans for byte in range(start, end)}
    assert wanted <= covered
    assert len(covered) <= len(wanted) + MAX_GAP_SHARE * sum(size for _, size in ordered)


@quickly
@given(
    st.lists(st.tuples(st.integers(0, 9_000), st.integers(1, 1_000)), max_size=8),
    st.lists(st.tuples(st.integers(0, 9_000), st.integers(1, 1_000)), max_size=8),
    st.integers(0, 3_000),
)
def test_any_ranges_come_back_through_any_cache(
    first: list[tuple[int, int]], second: list[tuple[int, int]], cache_bytes: int
) -> None:
    fsspec.filesystem("memory").pipe("/ranges/data", CONTENT)
    storage = RemoteStorage("memory://ranges", cache_bytes)
    for ranges in (first, second):
        assert storage.read_ranges("data", ranges) == [CONTENT[o : o + s] for o, s in ranges]


# Data sets


@pytest.mark.usefixtures("memory_files")
def test_a_data_set_streams_the_same_from_a_url(folder: Path) -> None:
    with (
        CpuClipStream(provider_of(folder), settings_of(), workers=0) as local,
        CpuClipStream(provider_of(upload(folder, URL)), settings_of(), workers=0) as remote,
    ):
        assert_same_bits([*remote, *remote], [*local, *local])


@pytest.mark.usefixtures("memory_files")
def test_a_url_without_a_data_set() -> None:
    with pytest.raises(DatasetError, match=r"memory://bucket/none is not a prepared data set \(no dataset\.json\)"):
        StoredDataset.open("memory://bucket/none")
    with pytest.raises(SettingsError, match="can't open nosuch://bucket"):
        StoredDataset.open("nosuch://bucket")


def test_a_disk_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").write_bytes(bytes(100))

    def stale(*_: int) -> bytes:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(os, "pread", stale)
    with pytest.raises(DatasetError, match=rf"{tmp_path}/data can't be read: Stale file handle"):
        LocalStorage(tmp_path).read_ranges("data", [(0, 10)])


def test_a_shard_that_was_cut_off(folder: Path, memory_files: fsspec.AbstractFileSystem) -> None:
    dataset = StoredDataset.open(upload(folder, URL))
    tar = f"/bucket/tiny/{dataset.frame_indices.stem(0)}.tar"
    memory_files.pipe(tar, memory_files.cat(tar)[:5_000])
    with (
        CpuClipStream(InstanceProvider(dataset, dataset.instances), settings_of(), workers=0) as stream,
        pytest.raises(DatasetError, match=r"\.tar ends within the \d+ bytes at byte \d+; run vclimb verify"),
    ):
        list(stream)


@pytest.mark.usefixtures("memory_files")
@pytest.mark.parametrize("remote", [False, True])
def test_bytes_read_are_those_of_the_frames_used(folder: Path, remote: bool) -> None:
    dataset = StoredDataset.open(upload(folder, URL) if remote else folder)
    instances = all_instances(dataset)
    for number in dataset.catalog.shards:
        dataset.frame_indices.table(number)
    before, wanted = dataset.storage.bytes_read, 0
    with CpuClipStream(InstanceProvider(dataset, instances), settings_of(), workers=0) as stream:
        for batch in stream:
            for slot, item in enumerate(batch.plan.items.tolist()):
                instance = instances[item]
                sizes = dataset.frame_ranges(dataset.by_key[instance.key])[instance.start_frame :, 1]
                wanted += int(sizes[batch.plan.distinct_frames(slot)].sum())
    read = dataset.storage.bytes_read - before
    if remote:  # bytes shared by two instances of a video come from the cache the second time
        assert 0.5 * wanted < read <= (1 + MAX_GAP_SHARE) * wanted
    else:
        assert read == wanted


_COUNT = """
import json, sys
from stream_cases import provider_of, settings_of
from vclimb.pipeline.stream.cpu import CpuClipStream

def process_bytes_read():
    with open("/proc/self/io") as file:
        return int(file.readline().removeprefix("rchar:"))

provider = provider_of(sys.argv[1])
stream = CpuClipStream(provider, settings_of(), workers=0)
list(stream)  # imports and opens files
storage = provider._index.storage
counted, started = storage.bytes_read, process_bytes_read()
list(stream)
print(json.dumps([storage.bytes_read - counted, process_bytes_read() - started]))
"""


def test_the_operating_system_counts_the_same_bytes(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _COUNT, folder],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    counted, by_system = json.loads(done.stdout)
    assert counted > 100_000
    assert counted <= by_system <= 1.01 * counted + 2_000  # reading /proc/self/io counts too
