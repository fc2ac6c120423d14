"""A memory holds the exemplars that were written, by rank, and any zarr reader opens it."""

from __future__ import annotations

import json
import pickle
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memory_store_cases import (
    contents,
    contents_by_zarr,
    expected_contents,
    files_of,
    has_no_strays,
    make_exemplar,
    new_class,
    plain,
    update,
)

from vclimb.memory.store.errors import MemoryChangedError
from vclimb.memory.store.exemplar import Exemplar
from vclimb.memory.store.new_class import NewClass
from vclimb.memory.store.reader import MemoryStore
from vclimb.memory.store.writer import MemoryWriter
from vclimb.pipeline.codecs.encoded import EncodedClip
from vclimb.pipeline.errors import DatasetError, SettingsError, TargetBusyError


class TestReading:
    def test_zarr_opens_all_of_it_without_a_warning(self, memory_path: Path) -> None:
        expected = expected_contents([new_class(label, 3) for label in range(3)])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert contents_by_zarr(memory_path) == expected
            assert contents_by_zarr(memory_path, use_consolidated=False) == expected

    def test_what_the_metadata_says_to_people(self, memory_path: Path) -> None:
        group = json.loads((memory_path / "exemplars/c0001g1/zarr.json").read_text())
        assert group["attributes"] == {"label": 1, "class_name": "class 1", "encoding": "jpeg:75", "codec": "jpeg"}
        attributes = json.loads((memory_path / "zarr.json").read_text())["attributes"]
        assert (attributes["format"], attributes["format_version"], attributes["generation"]) == ("vclimb memory", 3, 1)

    def test_opening_to_read_changes_nothing(self, memory_path: Path) -> None:
        (memory_path / "exemplars/c0009g2/frames").mkdir(parents=True)  # as a killed writer leaves it
        (memory_path / ".zarr.json.new").write_bytes(b"{")
        before = {file: (memory_path / file).stat().st_mtime_ns for file in files_of(memory_path)}
        memory = MemoryStore.open(memory_path)
        assert list(memory.verify()) == []
        assert len(contents(memory)) == 3
        assert {file: (memory_path / file).stat().st_mtime_ns for file in files_of(memory_path)} == before
        assert (memory_path / "exemplars/c0009g2/frames").exists()

    def test_several_threads_read_the_same(self, memory_path: Path) -> None:
        memory = MemoryStore.open(memory_path)
        ranks = [(label, rank) for label in range(3) for rank in range(3)] * 30
        with ThreadPoolExecutor(4) as pool:
            read = [*pool.map(lambda which: plain(memory.exemplar(*which)), ranks)]
        expected = expected_contents([new_class(label, 3) for label in range(3)])
        assert read == [expected[label][2][rank] for label, rank in ranks]

    def test_it_can_be_sent_to_another_process(self, memory_path: Path) -> None:
        memory = MemoryStore.open(memory_path)
        assert contents(pickle.loads(pickle.dumps(memory))) == contents(memory)

    def test_an_old_memory_is_read_as_far_as_it_is_there(self, memory_path: Path) -> None:
        old = MemoryStore.open(memory_path)
        with MemoryWriter.open(memory_path) as writer:
            update(writer, [new_class(5, 1)], {0: 1, 1: 0})
            update(writer, [new_class(1, 3, n_frames=2)])  # of the same label id, and not what was there
        expected = expected_contents([new_class(label, 3) for label in range(3)])
        assert [plain(old.exemplar(2, rank)) for rank in range(3)] == expected[2][2]
        assert plain(old.exemplar(0, 0)) == expected[0][2][0]
        for label, rank in [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]:
            with pytest.raises(MemoryChangedError, match=r"at generation 3, not 1.*open it again"):
                old.exemplar(label, rank)
        with pytest.raises(MemoryChangedError):
            list(old.verify())
        shutil.rmtree(memory_path)
        with pytest.raises(MemoryChangedError, match="doesn't exist"):
            old.exemplar(2, 0)

    def test_a_class_or_rank_that_is_not_there(self, memory_path: Path) -> None:
        memory = MemoryStore.open(memory_path)
        with pytest.raises(DatasetError, match=r"no class of label id 9; it has \[0, 1, 2\]"):
            memory.exemplar(9, 0)
        for rank in (3, -1):
            with pytest.raises(DatasetError, match=f"class 'class 0' has no exemplar {rank} .*; it has 3"):
                memory.exemplar(0, rank)


class TestWriting:
    def test_one_writer_at_a_time(self, memory_path: Path) -> None:
        with MemoryWriter.open(memory_path) as writer:
            with pytest.raises(TargetBusyError, match="another run is writing"):
                MemoryWriter.open(memory_path)
            assert len(MemoryStore.open(memory_path)) == 9
        writer.close()
        MemoryWriter.open(memory_path).close()
        with pytest.raises(ValueError, match="is closed"):
            writer.commit({0: 1})

    def test_nobody_sees_what_is_staged(self, memory_path: Path) -> None:
        before = files_of(memory_path)
        with MemoryWriter.open(memory_path) as writer:
            writer.stage(new_class(4, 2))
            assert sorted(MemoryStore.open(memory_path).classes) == [0, 1, 2]
            assert sorted(contents_by_zarr(memory_path)) == [0, 1, 2]
        assert files_of(memory_path) == before

    def test_a_failing_update_leaves_the_old_memory(self, memory_path: Path) -> None:
        before = files_of(memory_path)
        with MemoryWriter.open(memory_path) as writer:
            with pytest.raises(SettingsError, match=r"neither in .* nor staged"):
                update(writer, [new_class(4, 2)], {17: 1})
            assert files_of(memory_path) == before
            with pytest.raises(SettingsError, match="NUL"):
                update(writer, [new_class(4, 2), with_key(5, "a\0b")])
            assert files_of(memory_path) == before
            update(writer, [new_class(4, 2)])
        assert sorted(MemoryStore.open(memory_path).classes) == [0, 1, 2, 4]

    def test_nothing_to_do_is_no_new_generation(self, memory_path: Path) -> None:
        with MemoryWriter.open(memory_path) as writer:
            assert writer.commit({0: 3, 1: 99}).generation == 1
            assert update(writer, [new_class(8, 1)], {8: 0}).generation == 1
        assert has_no_strays(memory_path)

    @pytest.mark.parametrize(
        ("new", "message"),
        [
            (lambda: new_class(1, 2), r"class 'class 1' \(label id 1\) can't be added .*keep 0 of it"),
            (lambda: NewClass(9, "class 1", "", [make_exemplar(1)]), r"has class 'class 1' \(label id 1\)"),
            (lambda: NewClass(9, "a", "", []), "class 'a' .* has no exemplars"),
            (lambda: NewClass(-1, "a", "", [make_exemplar(1)]), "a label id is 0 or more"),
            (lambda: NewClass(9, "a", "", [make_exemplar(1), make_exemplar(2, codec="h264")]), "codecs h264, jpeg"),
            (lambda: with_key(9, "a\udc80"), "isn't valid Unicode"),
            (lambda: with_unit(9, 3), r"has 3 frames in 3 units; allowed: one unit for each frame"),
        ],
    )
    def test_what_cannot_be_stored(self, memory_path: Path, new: Any, message: str) -> None:
        before = files_of(memory_path)
        with MemoryWriter.open(memory_path) as writer:
            with pytest.raises(SettingsError, match=message):
                writer.stage(new())
            with pytest.raises(SettingsError, match=r"can't keep -1 exemplars of label id 0; allowed: 0 or more"):
                writer.commit({0: -1})
            assert files_of(memory_path) == before


def with_key(label: int, key: str) -> NewClass:
    one = make_exemplar(1)
    exemplar = Exemplar(key, one.start_frame, one.end_frame, one.frames, one.clip, one.width, one.height)
    return NewClass(label, "a", "jpeg", [exemplar])


def with_unit(label: int, unit: int) -> NewClass:
    one = make_exemplar(1)
    clip = EncodedClip("jpeg", one.clip.units, np.full(3, unit, np.int64), one.clip.position)
    return NewClass(label, "a", "jpeg", [Exemplar("k", one.start_frame, one.end_frame, one.frames, clip, 32, 24)])
