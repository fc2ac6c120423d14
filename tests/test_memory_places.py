"""Paths that hold no memory, a damaged one or foreign files: each gets a clear error and is left alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from memory_store_cases import (
    files_of,
    has_no_strays,
    new_class,
    update,
)

from vclimb.memory.store.reader import MemoryStore
from vclimb.memory.store.writer import MemoryWriter
from vclimb.pipeline.errors import DatasetError, TargetError


class TestPlaces:
    def test_there_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        for name, words in [("none", "doesn't exist"), ("", "is not a memory"), ("file", "is not a folder")]:
            with pytest.raises(DatasetError, match=f"{words}; give the path of a `memory.zarr`"):
                MemoryStore.open(tmp_path / name)
        with pytest.raises(TargetError, match="can't be a folder"):
            MemoryWriter.open(tmp_path / "file")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]

    def test_another_format_or_version(self, memory_path: Path) -> None:
        root = memory_path / "zarr.json"
        whole = root.read_bytes()
        for old, new, message in [
            (b'"format_version": 3', b'"format_version": 2', "format version 2 is not known; this vclimb reads 3"),
            (b'"vclimb memory"', b'"something else"', "a zarr group, but not a memory"),
            (b'"shape": [3,', b'"shape": [2,', "damaged, or was changed by another program"),
            (b'"generation": 1', b'"generation": 0', "damaged, or was changed by another program"),
            (b'"checksum"', b'"checksun"', "damaged, or was changed by another program"),
        ]:
            root.write_bytes(whole.replace(old, new, 1))
            before = files_of(memory_path)
            for opener in (MemoryStore.open, MemoryWriter.open):
                with pytest.raises(DatasetError, match=message):
                    opener(memory_path)
            assert files_of(memory_path) == before
        root.write_bytes(whole)
        MemoryWriter.open(memory_path).close()  # the lock was given back each time

    def test_foreign_files_are_left_alone(self, memory_path: Path) -> None:
        for name in ("notes.txt", "exemplars/notes.txt"):
            (memory_path / name).write_text("mine")
            with pytest.raises(TargetError, match=rf"no part of a memory \('{name}' and 0 more\); move it elsewhere"):
                MemoryWriter.open(memory_path)
            assert (memory_path / name).read_text() == "mine"
            assert len(MemoryStore.open(memory_path)) == 9
            (memory_path / name).unlink()

    def test_classes_without_an_index_are_not_thrown_away(self, memory_path: Path) -> None:
        (memory_path / "zarr.json").unlink()
        before = files_of(memory_path)
        with pytest.raises(TargetError, match=re.escape("has classes but no zarr.json")):
            MemoryWriter.open(memory_path)
        assert files_of(memory_path) == before

    def test_a_folder_of_something_else(self, tmp_path: Path) -> None:
        (tmp_path / "video.mp4").write_bytes(b"x")
        with pytest.raises(TargetError, match="no part of a memory"):
            MemoryWriter.open(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["video.mp4"]

    def test_many_classes_and_large_label_ids(self, tmp_path: Path) -> None:
        labels = [0, 9_999, 10_000, 123_456]
        with MemoryWriter.open(tmp_path / "m.zarr") as writer:
            update(writer, [new_class(label, 1) for label in labels])
        with MemoryWriter.open(tmp_path / "m.zarr") as writer:
            assert writer.commit({9_999: 0}).generation == 2
        assert sorted(MemoryStore.open(tmp_path / "m.zarr").classes) == [0, 10_000, 123_456]
        assert has_no_strays(tmp_path / "m.zarr")
