"""With a rebalanced budget of bytes, the disk holds a bounded part of what is encoded, and the memory is the same."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from memory_store_cases import bytes_of, files_of, new_class
from stream_cases import provider_of

from vclimb.memory.choice.budget import MemoryBudget
from vclimb.memory.replay import ClassInstances, MemorySettings, ReplayMemory
from vclimb.memory.store.new_class import NewClass
from vclimb.memory.store.writer import MemoryWriter
from vclimb.pipeline.clips.provider import InstanceProvider


@pytest.fixture(scope="module")
def provider(jpeg_folder: Path) -> InstanceProvider:
    return provider_of(jpeg_folder)


def candidates(label: int, items: list[int]) -> ClassInstances:
    return ClassInstances(label, f"class {label}", np.array(items, np.int64))


@contextmanager
def nothing_trimmed() -> Iterator[None]:
    """Stage each class up to the whole budget, and let all of it lie on the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryWriter, "trim", lambda *_: None)
        yield


tasks_of_classes = st.lists(
    st.lists(st.lists(st.integers(0, 15), max_size=8, unique=True), min_size=1, max_size=4), min_size=1, max_size=3
)


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tasks=tasks_of_classes,
    amount=st.integers(600, 150_000),
    codec=st.sampled_from(["copy", "jpeg:40@32"]),
    frames=st.sampled_from([1, 4, "all"]),
)
@example([[[*range(8)], [3, 5], [7]], [[*range(16)]]], 60_000, "copy", 4)
def test_the_memory_is_that_of_staging_everything(
    provider: InstanceProvider, tasks: list[list[list[int]]], amount: int, codec: str, frames: Any
) -> None:
    wanted = MemorySettings(budget=MemoryBudget("bytes", amount), frames=frames, codec=codec, rebalance=True)
    with tempfile.TemporaryDirectory() as folder:
        ours, simple = (ReplayMemory(Path(folder) / name, wanted) for name in ("ours", "simple"))
        seen: list[int] = []
        for task in tasks:
            new = [candidates(len(seen) + number, items) for number, items in enumerate(task)]
            seen += [one.label for one in new]
            ours.update(provider, new, seen)
            with nothing_trimmed():
                simple.update(provider, new, seen)
            assert bytes_of(ours.path) == bytes_of(simple.path)


def test_many_classes_stage_a_bounded_part_of_the_budget(
    provider: InstanceProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight classes that could each take the whole budget, and one that can't use its share."""
    amount, noted = 60_000, []
    memory = ReplayMemory(
        tmp_path / "m.zarr", MemorySettings(budget=MemoryBudget("bytes", amount), frames=2, rebalance=True)
    )
    stage = MemoryWriter.stage

    def noting(writer: MemoryWriter, new: NewClass) -> None:
        stage(writer, new)
        noted.append(sum(files_of(memory.path).values()))

    monkeypatch.setattr(MemoryWriter, "stage", noting)
    new = [*(candidates(label, [*range(16)]) for label in range(8)), candidates(8, [3])]
    with nothing_trimmed():
        memory.update(provider, new, range(9))
    everything, expected = max(noted), bytes_of(memory.path)
    assert everything > 5 * amount
    noted.clear()
    again = ReplayMemory(tmp_path / "m.zarr", memory.settings)
    again.path = memory.path = tmp_path / "again.zarr"
    again.update(provider, new, range(9))
    largest = max(exemplar.payload_bytes for exemplar in (again.open().exemplar(n, 0) for n in again.open().classes))
    assert len(noted) == 9
    assert max(noted) < 2 * amount + 9 * 2 * largest
    assert bytes_of(again.path) == expected


def test_a_class_that_keeps_more_than_was_foreseen(
    provider: InstanceProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is staged a second time where too much was trimmed."""
    wanted = MemorySettings(budget=MemoryBudget("bytes", 60_000), frames=2, rebalance=True)
    new = [candidates(0, [*range(12)]), candidates(1, [*range(9)])]
    expected = ReplayMemory(tmp_path / "expected.zarr", wanted)
    expected.update(provider, new, [0, 1])
    trim = MemoryWriter.trim
    monkeypatch.setattr(MemoryWriter, "trim", lambda writer, label, count: trim(writer, label, 1))
    memory = ReplayMemory(tmp_path / "m.zarr", wanted)
    report = memory.update(provider, new, [0, 1])
    assert report.added > 2
    assert bytes_of(memory.path) == bytes_of(expected.path)


def test_what_was_trimmed_cannot_be_kept(tmp_path: Path) -> None:
    with MemoryWriter.open(tmp_path / "m.zarr") as writer:
        writer.stage(new_class(0, 5))
        costs = writer.costs(0)
        writer.trim(0, 3)
        writer.trim(0, 4)
        assert (writer.trimmed_count(0), writer.costs(0)) == (3, costs)
        with pytest.raises(ValueError, match="files of label id 0 that are to be kept were trimmed"):
            writer.commit()
        predicted = writer.empty_bytes + writer.class_bytes(0, 3)
        writer.commit({0: 3})
        assert sum(files_of(tmp_path / "m.zarr").values()) == predicted
        assert [*writer.memory.verify()] == []


def test_costs_of_many_exemplars_are_counted_in_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file's size is looked up once when a class is staged, and never when costs are asked for."""
    looked_up = 0

    class Counting(dict[str, int]):
        def get(self, key: str, default: Any = None) -> Any:
            nonlocal looked_up
            looked_up += 1
            return super().get(key, default)

    with MemoryWriter.open(tmp_path / "m.zarr") as writer:
        writer._store.sizes = Counting(writer._store.sizes)
        writer.stage(new_class(0, 700, unit_bytes=2))
        assert looked_up < 2 * 700
        looked_up = 0
        overhead, costs = writer.costs(0)
        assert looked_up <= 1
        assert overhead + sum(costs[:500]) == writer.class_bytes(0, 500)
        writer.commit({0: 500})
        assert sum(files_of(tmp_path / "m.zarr").values()) == writer.empty_bytes + writer.class_bytes(0, 500)
