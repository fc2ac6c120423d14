"""Files of a memory that expand to more than they should, are no files, or lead elsewhere."""

from __future__ import annotations

import gzip
import os
import re
import resource
from pathlib import Path

import numcodecs
import pytest
from memory_hostile_cases import with_checksum
from memory_store_cases import contents, expected_contents, new_class, update

from vclimb.memory.store.errors import ExemplarDamagedError, MemoryStoreError
from vclimb.memory.store.reader import MemoryStore
from vclimb.memory.store.writer import MemoryWriter
from vclimb.pipeline.errors import TargetError

GROUP = "exemplars/c0001g1"
FRAMES, TABLE = f"{GROUP}/frames", f"{GROUP}/table"


def claiming(n_bytes: int) -> bytes:
    """Make a zstd frame of zeros, as large as it says: a header of one segment, and run-length blocks."""
    blocks, left = [], n_bytes
    while left:
        size = min(left, 2**17)
        left -= size
        blocks.append(((size << 3) | 2 | (not left)).to_bytes(3, "little") + b"\0")
    return b"\x28\xb5\x2f\xfd" + bytes([0b11100000]) + n_bytes.to_bytes(8, "little") + b"".join(blocks)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (claiming(2**33)[:60], rf"it holds {2**33} bytes, not \d+"),
        (claiming(10**6), r"it holds 1000000 bytes, not \d+"),
        (b"\x28\xb5\x2f\xfd\xe0" + b"\xff" * 8 + b"\1\0\0", rf"it holds {2**64 - 1} bytes, not \d+"),
        (b"\x28\xb5\x2f\xfd\x00\x58\x01\x00\x00", r"it holds an unknown number of bytes, not \d+"),
        (gzip.compress(bytes(10**4), mtime=0), r"it holds an unknown number of bytes, not \d+"),
        (bytes(numcodecs.Blosc().encode(bytes(10**4))), r"it holds an unknown number of bytes, not \d+"),
        (b"\x28\xb5\x2f\xfd", r"it holds an unknown number of bytes, not \d+"),
        (b"\x28\xb5\x2f\xfd\xe0\1", r"it holds an unknown number of bytes, not \d+"),
    ],
)
def test_a_chunk_is_expanded_only_to_its_size(
    memory_path: Path, data: bytes, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore.open(memory_path)
    (memory_path / FRAMES / "c.0.0").write_bytes(with_checksum(data))
    with monkeypatch.context() as patch:
        patch.setattr(numcodecs.Zstd, "decode", lambda *_: pytest.fail("it was expanded"))
        with pytest.raises(ExemplarDamagedError, match=says):
            store.exemplar(1, 0)
    (memory_path / TABLE / "c.0.0").write_bytes(with_checksum(data))
    assert len([*MemoryStore.open(memory_path).verify()]) == 3


def test_files_that_are_none(memory_path: Path) -> None:
    """A pipe that would block, a sparse file of a terabyte, and a link to a device."""
    chunk = memory_path / FRAMES / "c.0.0"
    for make, says in (
        (lambda: os.mkfifo(chunk), "it is not a regular file"),
        (lambda: os.truncate(os.open(chunk, os.O_CREAT | os.O_WRONLY), 2**40), f"it has {2**40} bytes; allowed: "),
        (lambda: chunk.symlink_to("/dev/zero"), "it is not a regular file"),
    ):
        chunk.unlink()
        make()
        (damage,) = MemoryStore.open(memory_path).verify()
        assert says in damage.reason
    index = memory_path / "zarr.json"
    index.unlink()
    os.mkfifo(index)
    for opener in (MemoryStore.open, MemoryWriter.open):
        with pytest.raises((MemoryStoreError, TargetError), match=r"not a regular file|is a link"):
            opener(memory_path)


@pytest.mark.parametrize("place", [GROUP, FRAMES, "exemplars", f"{FRAMES}/c.1.0", "exemplars/zarr.json"])
def test_nothing_is_written_or_removed_through_a_link(memory_path: Path, tmp_path: Path, place: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    (memory_path / place).rename(elsewhere)
    if elsewhere.is_dir():
        (elsewhere / "mine.txt").write_text("mine")
    (memory_path / place).symlink_to(elsewhere)
    before = sorted(str(path) for path in elsewhere.rglob("*"))
    with pytest.raises(TargetError, match=re.escape(f"{memory_path / place} is a link, and a memory is never")):
        MemoryWriter.open(memory_path)
    assert sorted(str(path) for path in elsewhere.rglob("*")) == before
    assert contents(MemoryStore.open(memory_path)) == expected_contents([new_class(label, 3) for label in range(3)])


def test_a_memory_that_is_itself_behind_a_link(memory_path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.zarr"
    link.symlink_to(memory_path)
    with MemoryWriter.open(link) as writer:
        update(writer, [new_class(5, 1)])
    assert len(MemoryStore.open(memory_path)) == 10


def test_too_many_open_files_is_no_damage(memory_path: Path) -> None:
    store = MemoryStore.open(memory_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    handles = [os.dup(0) for _ in range(3)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(handles) + 1, hard))
    try:
        for call in (lambda: store.exemplar(0, 0), lambda: [*store.verify()], lambda: MemoryStore.open(memory_path)):
            with pytest.raises(MemoryStoreError, match=r"Too many open files; raise the limit of open files"):
                call()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for handle in handles:
            os.close(handle)
