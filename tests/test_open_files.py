"""Open files: a bounded number however many shards there are, and an error of its own where there are none left."""

from __future__ import annotations

import errno
import gc
import itertools
import os
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stream_cases import provider_of, script_environment, settings_of

from vclimb.pipeline.dataset.catalog import Catalog
from vclimb.pipeline.dataset.check import with_checksums
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.dataset.rows import StoredInstance
from vclimb.pipeline.dataset.shard import ShardWriter
from vclimb.pipeline.dataset.storage import LocalStorage
from vclimb.pipeline.errors import TooManyFilesError
from vclimb.pipeline.stream.cpu import CpuClipStream
from vclimb.pipeline.system.open_files import OPEN_FILES, OpenFile, open_files_explained
from vclimb.pipeline.transcode.assembly import sample_json
from vclimb.pipeline.transcode.verify import verify

N_SHARDS = 200


@pytest.fixture(scope="module")
def many_shards(jpeg_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of many shards with one short video each."""
    folder = tmp_path_factory.mktemp("many") / "many"
    (folder / "draft").mkdir(parents=True)
    source = StoredDataset.open(jpeg_folder)
    video = min(source.videos, key=lambda video: video.bytes)
    with source.open_video(video) as file:
        (folder / "draft" / "mp4").write_bytes(file.read())
    ranges = np.asarray(source.frame_ranges(video)) - np.array([video.offset, 0])
    index = with_checksums(folder / "draft" / "mp4", ranges)
    catalog = Catalog("many", source.settings, ["test"])
    with pytest.MonkeyPatch.context() as patch:  # nothing here has to survive a power cut
        patch.setattr("vclimb.pipeline.system.durable.sync", lambda path: None)
        patch.setattr("vclimb.pipeline.dataset.shard.sync", lambda path: None)
        for number in range(N_SHARDS):
            key = f"class{number % 3}/v{number:03d}"
            instance = StoredInstance(key, f"class{number % 3}", None, 0, video.n_frames)
            copy = replace(video, key=key, labels=(instance.label,), shard=number, offset=0, first_frame=0)
            with ShardWriter(folder, f"many-{number:06d}") as writer:
                offset, _ = writer.add(key, folder / "draft" / "mp4", sample_json(copy, [instance]), index)
                catalog.shards[number] = writer.finish()
            catalog.videos.append(replace(copy, offset=offset))
            catalog.instances.append(instance)
        catalog.write(folder)
    (folder / "draft" / "mp4").unlink()
    (folder / "draft").rmdir()
    return folder


@contextmanager
def limited(n_files: int) -> Iterator[None]:
    """Let this process have at most so many open files more than it has now."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)  # the listing opens a file too, by the lowest free number
    os.close(lowest)
    used = set(map(int, os.listdir("/proc/self/fd"))) - {lowest}
    free = (number for number in itertools.count() if number not in used)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next(itertools.islice(free, n_files, None)), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def n_open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


_USE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
from stream_cases import provider_of, settings_of
from vclimb.pipeline.stream.cpu import CpuClipStream
from vclimb.pipeline.transcode.verify import verify

if __name__ == "__main__":
    with CpuClipStream(provider_of(sys.argv[1]), settings_of(batch_size=20), workers=2) as stream:
        print(sum(len(batch.keys) for epoch in range(2) for batch in stream))
    report = verify(sys.argv[1], decode=True, workers=2, progress=False)
    print(report.n_shards, report.problems)
"""


def test_128_open_files_and_little_shared_memory_are_enough_for_any_number_of_shards(many_shards: Path) -> None:
    small = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=64k none /dev/shm && exec "$@"', "sh"]
    if os.geteuid() or shutil.which("unshare") is None or subprocess.run([*small, "true"], check=False).returncode:
        small = []  # a small /dev/shm takes the right to mount
    done = subprocess.run(
        [*small, sys.executable, "-c", _USE, many_shards],
        env=script_environment(),
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"{2 * N_SHARDS}", f"{N_SHARDS} []"]


def test_mapped_frame_indices_hold_no_file(many_shards: Path) -> None:
    dataset = StoredDataset.open(many_shards)
    before = n_open_files()
    tables = [dataset.frame_indices.table(number) for number in range(N_SHARDS)]
    assert n_open_files() == before
    assert {len(table) for table in tables} == {dataset.videos[0].n_frames}


def test_the_tars_used_last_stay_open(many_shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    really_open = os.open

    def counting(path: Path, *arguments: int) -> int:
        opened.append(os.fspath(path))
        return really_open(path, *arguments)

    monkeypatch.setattr(resource, "getrlimit", lambda _: (40, 40))
    dataset = StoredDataset.open(many_shards)
    for video in dataset.videos[:30]:
        dataset.frame_bytes(video, 0)
    monkeypatch.setattr(os, "open", counting)
    for video in dataset.videos[20:30]:
        dataset.frame_bytes(video, 0)
    assert opened == []
    dataset.frame_bytes(dataset.videos[0], 0)
    dataset.frame_bytes(dataset.videos[20], 0)
    assert [Path(path).name for path in opened if path.endswith(".tar")] == ["many-000000.tar", "many-000020.tar"]


def test_files_of_a_storage_are_closed_with_it(many_shards: Path) -> None:
    gc.collect()
    before = n_open_files()
    dataset = StoredDataset.open(many_shards)
    for video in dataset.videos[:5]:
        dataset.frame_bytes(video, 0)
    assert n_open_files() == before + 5
    del dataset
    gc.collect()
    assert n_open_files() == before


def test_a_file_that_is_dropped_is_closed_when_no_thread_reads_it(
    many_shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight files are kept, and many threads read many more."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1, 1))
    dataset = StoredDataset.open(many_shards)
    expected = dataset.frame_bytes(dataset.videos[0], 0)
    failures: list[object] = []

    def read(start: int) -> None:
        try:
            for place in range(2 * N_SHARDS):
                if dataset.frame_bytes(dataset.videos[(start + 7 * place) % N_SHARDS], 0) != expected:
                    failures.append(place)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=read, args=(25 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_no_more_open_files_is_an_error_of_its_own_and_no_finding(many_shards: Path) -> None:
    dataset = StoredDataset.open(many_shards)
    words = r"may open no more than \d+ files \(`ulimit -n`\); raise the limit, e\.g\. `ulimit -n \d+`"
    with limited(0):
        for use in (
            lambda: StoredDataset.open(many_shards),
            lambda: verify(many_shards, workers=1, progress=False),
            lambda: dataset.frame_indices.table(3),
            lambda: LocalStorage(many_shards).read_ranges("many-000000.tar", [(0, 1)]),
        ):
            with pytest.raises(TooManyFilesError, match=words):
                use()
    with limited(1), pytest.raises(TooManyFilesError, match=words):  # not enough for two files at a time
        verify(many_shards, decode=True, workers=1, progress=False)
    assert verify(many_shards, workers=1, progress=False).problems == []


def test_a_stream_that_gets_no_files_for_its_workers_says_so(many_shards: Path) -> None:
    provider = provider_of(many_shards)
    with (
        CpuClipStream(provider, settings_of(batch_size=20), workers=2) as stream,
        limited(3),
        pytest.raises(TooManyFilesError, match="use fewer workers"),
    ):
        next(iter(stream))


def test_a_system_without_open_files_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(TooManyFilesError, match=r"all processes together open no more files; .* fs\.file-max"):
        OPEN_FILES.get(-1, tmp_path / "x")


def test_other_errors_of_the_system_are_kept() -> None:
    with pytest.raises(PermissionError), open_files_explained():
        raise PermissionError(errno.EACCES, "no")


def test_a_file_is_closed_after_the_modules_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of a process. An error would be printed, and pytest makes it a failure."""
    (tmp_path / "file").write_bytes(b"x")
    file = OpenFile(tmp_path / "file")
    descriptor = file.descriptor
    monkeypatch.setattr("vclimb.pipeline.system.open_files.os", None)
    del file
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
