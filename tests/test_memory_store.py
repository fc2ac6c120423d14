"""A memory holds what was put into it, rank by rank, takes the bytes that it says, and any zarr reader opens it."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from memory_store_cases import (
    Contents,
    contents,
    contents_by_zarr,
    expected_contents,
    files_of,
    has_no_strays,
    make_exemplar,
    new_class,
    plain,
)

from pipeline.clips import EncodedClip
from pipeline.errors import DatasetError, SettingsError, TargetBusyError, TargetError
from vclimb.memory.errors import MemoryChangedError
from vclimb.memory.exemplar import Exemplar
from vclimb.memory.staging import NewClass
from vclimb.memory.store import MemoryStore
from vclimb.memory.writer import MemoryWriter

LABELS = range(4)


class MemoryMachine(RuleBasedStateMachine):
    """Any sequence of updates against a dict that says what the memory should hold."""

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "memory.zarr"
        self.writer = MemoryWriter.open(self.path)
        self.model: Contents = {}
        self.number = 0

    def _new(self, label: int, n_exemplars: int, n_frames: int, codec: str) -> NewClass:
        exemplars = [make_exemplar(self.number + i, 1 + (n_frames + i) % 4, codec) for i in range(n_exemplars)]
        self.number += n_exemplars
        return NewClass(label, f"class {label}", f"{codec}:75", exemplars)

    @rule(
        sizes=st.dictionaries(st.sampled_from(LABELS), st.integers(1, 4), max_size=3),
        n_frames=st.integers(0, 3),
        codec=st.sampled_from(["jpeg", "h264"]),
        keep=st.dictionaries(st.sampled_from(LABELS), st.integers(0, 5)),
        reopens=st.booleans(),
    )
    def update(self, sizes: dict[int, int], n_frames: int, codec: str, keep: dict[int, int], reopens: bool) -> None:
        added = [self._new(label, n, n_frames, codec) for label, n in sizes.items() if label not in self.model]
        generation = self.writer.memory.generation
        staged = {new.label: self.writer.stage(new) for new in added}
        keep = {label: n for label, n in keep.items() if label in self.model or label in staged}
        wanted = self.model | expected_contents(added)
        wanted = {
            label: (name, spec, all_[: keep.get(label, len(all_))]) for label, (name, spec, all_) in wanted.items()
        }
        wanted = {label: what for label, what in wanted.items() if what[2]}

        predicted = self.writer.size_if_kept(keep)
        parts = {label: self.writer.class_bytes(label, len(what[2])) for label, what in wanted.items()}
        for label, one in staged.items():
            assert len(one.exemplar_bytes) == sizes[label]
            assert self.writer.exemplar_bytes(label) == one.exemplar_bytes
        for label in (*self.writer.memory.classes, *staged):
            overhead, costs = self.writer.costs(label)
            totals = [self.writer.class_bytes(label, n) for n in range(1, len(costs) + 1)]
            assert [*accumulate(costs, initial=overhead)][1:] == totals
            assert min(overhead, *costs) > 0
            assert self.writer.class_bytes(label, 0) == 0
        empty = self.writer.empty_bytes
        self.writer.commit(keep)

        assert sum(files_of(self.path).values()) == predicted
        if wanted != self.model:
            assert self.writer.memory.generation == generation + 1
            assert empty + sum(parts.values()) == predicted
        else:
            assert self.writer.memory.generation == generation
        self.model = wanted
        if reopens:
            self.writer.close()
            before = files_of(self.path)
            self.writer = MemoryWriter.open(self.path)
            assert files_of(self.path) == before

    @rule(n_exemplars=st.integers(1, 3))
    def think_better_of_it(self, n_exemplars: int) -> None:
        free = [label for label in LABELS if label not in self.model]
        if free:
            self.writer.stage(self._new(free[0], n_exemplars, 1, "jpeg"))
            self.writer.rollback()

    @invariant()
    def holds_what_it_should(self) -> None:
        assert contents(self.writer.memory) == self.model
        assert contents(MemoryStore.open(self.path)) == self.model
        assert has_no_strays(self.path)
        assert self.writer.size_if_kept() == sum(files_of(self.path).values())

    def teardown(self) -> None:
        if hasattr(self, "writer"):
            self.writer.close()
            assert contents_by_zarr(self.path) == self.model
            assert contents_by_zarr(self.path, use_consolidated=False) == self.model
            shutil.rmtree(self.folder)


MemoryMachine.TestCase.settings = settings(
    max_examples=12, stateful_step_count=8, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
test_any_sequence_of_updates = MemoryMachine.TestCase


any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
any_key = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@st.composite
def any_exemplar(draw: st.DrawFn) -> Exemplar:
    """Also ones that no codec gives: no frames, empty units, several frames in several units in any order."""
    start = draw(st.integers(0, 10**9))
    numbers = draw(st.sets(st.integers(start, start + 30), max_size=5))
    frames = np.array(sorted(numbers), np.int64)
    units = draw(st.lists(st.binary(max_size=20) | st.just(bytes(9)), min_size=1, max_size=4))
    unit = [draw(st.integers(0, len(units) - 1)) for _ in numbers]
    position = [draw(st.integers(0, 11)) for _ in numbers]
    clip = EncodedClip("h264", units, np.array(unit, np.int64), np.array(position, np.int64))
    return Exemplar(
        draw(any_key), start, start + 31, frames, clip, draw(st.integers(1, 9999)), draw(st.integers(1, 9999))
    )


@settings(max_examples=40, deadline=None)
@given(name=any_text, encoding=any_text, exemplars=st.lists(any_exemplar(), min_size=1, max_size=4))
def test_any_contents_come_back(name: str, encoding: str, exemplars: list[Exemplar]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "memory.zarr"
        new = NewClass(7, name, encoding, exemplars)
        with MemoryWriter.open(path) as writer:
            writer.update([new])
        assert contents(MemoryStore.open(path)) == expected_contents([new])
        assert contents_by_zarr(path) == expected_contents([new])


@pytest.fixture
def memory_path(tmp_path: Path) -> Path:
    """A memory of classes 0, 1 and 2 with three exemplars each."""
    path = tmp_path / "memory.zarr"
    with MemoryWriter.open(path) as writer:
        writer.update([new_class(label, 3) for label in range(3)])
    return path


class TestReading:
    def test_zarr_opens_all_of_it_without_a_warning(self, memory_path: Path) -> None:
        expected = expected_contents([new_class(label, 3) for label in range(3)])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert contents_by_zarr(memory_path) == expected
            assert contents_by_zarr(memory_path, use_consolidated=False) == expected

    def test_what_the_metadata_says_to_people(self, memory_path: Path) -> None:
        group = json.loads((memory_path / "classes/c0001g1/zarr.json").read_text())
        assert group["attributes"] == {"label": 1, "class_name": "class 1", "encoding": "jpeg:75", "codec": "jpeg"}
        attributes = json.loads((memory_path / "zarr.json").read_text())["attributes"]
        assert (attributes["format"], attributes["format_version"], attributes["generation"]) == ("vclimb memory", 1, 1)

    def test_opening_to_read_changes_nothing(self, memory_path: Path) -> None:
        (memory_path / "classes/c0009g2/payload").mkdir(parents=True)  # as a killed writer leaves it
        (memory_path / ".zarr.json.new").write_bytes(b"{")
        before = {file: (memory_path / file).stat().st_mtime_ns for file in files_of(memory_path)}
        memory = MemoryStore.open(memory_path)
        assert list(memory.verify()) == []
        assert len(contents(memory)) == 3
        assert {file: (memory_path / file).stat().st_mtime_ns for file in files_of(memory_path)} == before
        assert (memory_path / "classes/c0009g2/payload").exists()

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
            writer.update([new_class(5, 1)], {0: 1, 1: 0})
            writer.update([new_class(1, 3, n_frames=2)])  # of the same label id, and not what was there
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
                writer.update([new_class(4, 2)], {17: 1})
            assert files_of(memory_path) == before
            with pytest.raises(SettingsError, match="NUL"):
                writer.update([new_class(4, 2), with_key(5, "a\0b")])
            assert files_of(memory_path) == before
            writer.update([new_class(4, 2)])
        assert sorted(MemoryStore.open(memory_path).classes) == [0, 1, 2, 4]

    def test_nothing_to_do_is_no_new_generation(self, memory_path: Path) -> None:
        with MemoryWriter.open(memory_path) as writer:
            assert writer.commit({0: 3, 1: 99}).generation == 1
            assert writer.update([new_class(8, 1)], {8: 0}).generation == 1
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
            (lambda: with_unit(9, 3), r"has 3 units; its frames name \[3, 3, 3\]"),
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
            (b'"format_version":1', b'"format_version":2', "format version 2 is not known; this vclimb reads 1"),
            (b'"vclimb memory"', b'"something else"', "a zarr group, but not a memory"),
            (b'"shape":[3,', b'"shape":[2,', "damaged, or was changed by another program"),
            (b'"generation":1', b'"generation":0', "damaged, or was changed by another program"),
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
        for name in ("notes.txt", "classes/notes.txt"):
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
            writer.update([new_class(label, 1) for label in labels])
        with MemoryWriter.open(tmp_path / "m.zarr") as writer:
            assert writer.commit({9_999: 0}).generation == 2
        assert sorted(MemoryStore.open(tmp_path / "m.zarr").classes) == [0, 10_000, 123_456]
        assert has_no_strays(tmp_path / "m.zarr")
