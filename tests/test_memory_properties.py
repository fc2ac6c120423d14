"""Any sequence of updates and any contents: the memory holds them, in the bytes that were forecast."""

from __future__ import annotations

import shutil
import tempfile
from itertools import accumulate
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
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
    size_if_kept,
    update,
)

from vclimb.memory.store.exemplar import Exemplar
from vclimb.memory.store.new_class import NewClass
from vclimb.memory.store.reader import MemoryStore
from vclimb.memory.store.writer import MemoryWriter
from vclimb.pipeline.codecs.encoded import one_unit_a_frame, one_unit_for_all

LABELS = range(4)


class MemoryMachine(RuleBasedStateMachine):
    """Compares a memory with a dict after each of a sequence of updates."""

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "memory.zarr"
        self.writer = MemoryWriter.open(self.path)
        self.model: Contents = {}
        self.number = 0

    def _new(self, label: int, n_exemplars: int, n_frames: int, codec: str, keeps: str = "frames") -> NewClass:
        counts = [1 + (n_frames + i) % 4 for i in range(n_exemplars)]
        exemplars = [make_exemplar(self.number + i, n, codec, keeps=keeps) for i, n in enumerate(counts)]
        self.number += n_exemplars
        return NewClass(label, f"class {label}", f"{codec}:75", exemplars)

    @rule(
        sizes=st.dictionaries(st.sampled_from(LABELS), st.integers(1, 4), max_size=3),
        n_frames=st.integers(0, 3),
        codec=st.sampled_from(["jpeg", "h264"]),
        keeps=st.sampled_from(["frames", "frames and logits", "features"]),
        keep=st.dictionaries(st.sampled_from(LABELS), st.integers(0, 5)),
        reopens=st.booleans(),
    )
    def update(
        self, sizes: dict[int, int], n_frames: int, codec: str, keeps: str, keep: dict[int, int], reopens: bool
    ) -> None:
        added = [self._new(label, n, n_frames, codec, keeps) for label, n in sizes.items() if label not in self.model]
        generation = self.writer.memory.generation
        for new in added:
            self.writer.stage(new)
        staged = {new.label for new in added}
        keep = {label: n for label, n in keep.items() if label in self.model or label in staged}
        wanted = self.model | expected_contents(added)
        wanted = {
            label: (name, spec, all_[: keep.get(label, len(all_))]) for label, (name, spec, all_) in wanted.items()
        }
        wanted = {label: what for label, what in wanted.items() if what[2]}

        predicted = size_if_kept(self.writer, keep)
        parts = {label: self.writer.class_bytes(label, len(what[2])) for label, what in wanted.items()}
        for label in staged:
            assert len(self.writer.kept_frames(label)) == sizes[label]
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
        assert size_if_kept(self.writer) == sum(files_of(self.path).values())

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
    """Make an exemplar, also one that no codec makes, such as with empty units."""
    start = draw(st.integers(0, 10**9))
    frames = np.array(sorted(draw(st.sets(st.integers(start, start + 30), min_size=1, max_size=5))), np.int64)
    unit = st.binary(max_size=20) | st.just(bytes(9))
    if draw(st.booleans()):
        clip = one_unit_for_all("h264", draw(unit), len(frames))
    else:
        clip = one_unit_a_frame("h264", [draw(unit) for _ in frames])
    return Exemplar(
        draw(any_key), start, start + 31, frames, clip, draw(st.integers(1, 8192)), draw(st.integers(1, 8192))
    )


@settings(max_examples=40, deadline=None)
@given(name=any_text, encoding=any_text, exemplars=st.lists(any_exemplar(), min_size=1, max_size=4))
def test_any_contents_come_back(name: str, encoding: str, exemplars: list[Exemplar]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "memory.zarr"
        new = NewClass(7, name, encoding, exemplars)
        with MemoryWriter.open(path) as writer:
            update(writer, [new])
        assert contents(MemoryStore.open(path)) == expected_contents([new])
        assert contents_by_zarr(path) == expected_contents([new])
