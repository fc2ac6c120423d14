"""The memory is a zarr v3 hierarchy: its store keeps zarr's contract, and zarr reads what vclimb reads."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from memory_store_cases import has_no_strays, new_class, size_if_kept, update
from zarr.core.buffer import Buffer, cpu
from zarr.storage import LocalStore
from zarr.testing.store import StoreTests

from vclimb.memory.store.accounting import measure
from vclimb.memory.store.atomic_store import AtomicStore
from vclimb.memory.store.reader import MemoryStore
from vclimb.memory.store.writer import MemoryWriter


class TestAtomicStore(StoreTests[AtomicStore, cpu.Buffer]):
    """zarr-python's own tests of a store."""

    store_cls = AtomicStore
    buffer_cls = cpu.Buffer

    async def set(self, store: AtomicStore, key: str, value: Buffer) -> None:
        (store.root / key).parent.mkdir(parents=True, exist_ok=True)
        (store.root / key).write_bytes(value.to_bytes())
        store.sizes[key] = len(value)

    async def get(self, store: AtomicStore, key: str) -> Buffer:
        held = store._metadata.get(key)
        return self.buffer_cls.from_bytes((store.root / key).read_bytes() if held is None else held)

    @pytest.fixture
    def store_kwargs(self, tmp_path: Path) -> dict[str, Any]:
        return {"root": tmp_path}

    def test_store_repr(self, store: AtomicStore) -> None:
        assert repr(store) == f"AtomicStore({str(store.root)!r})"
        assert str(store) == f"file://{store.root}"

    def test_store_supports_writes(self, store: AtomicStore) -> None:
        assert store.supports_writes

    def test_store_supports_listing(self, store: AtomicStore) -> None:
        assert store.supports_listing


def set_key(store: AtomicStore, key: str, data: bytes) -> None:
    asyncio.run(store.set(key, cpu.Buffer.from_bytes(data)))


def test_a_published_chunk_is_never_written_again(memory_path: Path) -> None:
    store = AtomicStore(memory_path)
    with pytest.raises(ValueError, match=r"chunk exemplars/c0000g1/frames/c\.0\.0 of .* is published"):
        set_key(store, "exemplars/c0000g1/frames/c.0.0", b"x")
    store.end()
    with pytest.raises(ValueError, match="published or given up"):
        set_key(store, "exemplars/c0009g2/frames/c.0.0", b"x")


def test_deleted_groups_are_gone_before_they_are_published(memory_path: Path) -> None:
    store = AtomicStore(memory_path)
    group = zarr.open_group(store, mode="r+", use_consolidated=False)["exemplars"]
    assert isinstance(group, zarr.Group)
    del group["c0001g1"]
    assert sorted(group) == ["c0000g1", "c0002g1"]
    assert sorted(MemoryStore.open(memory_path).classes) == [0, 1, 2]


@pytest.mark.parametrize("n_exemplars", [1, 40])
def test_an_exemplar_is_the_bytes_that_zarr_reads(tmp_path: Path, n_exemplars: int) -> None:
    """vclimb reads chunks without zarr-python, which takes several times as long."""
    path = tmp_path / "memory.zarr"
    with MemoryWriter.open(path) as writer:
        memory = update(writer, [new_class(3, n_exemplars), new_class(4, 1)])
    stored = memory.classes[3]
    for store in (LocalStore(path), AtomicStore(path, read_only=True)):
        group = zarr.open_group(store, mode="r")[stored.folder]
        assert isinstance(group, zarr.Group)
        for name, rows in (("frames", stored.frames), ("table", stored.table)):
            array = group[name]
            assert isinstance(array, zarr.Array)
            ours = b"".join(rows.read_chunk(path, number) for number in range(len(rows.files)))
            expected = np.asarray(array[:])
            assert (
                np.frombuffer(ours, np.uint8).reshape(-1, rows.row_bytes)[: rows.n_rows].tolist() == expected.tolist()
            )


def test_another_part_beside_the_exemplars(memory_path: Path) -> None:
    """What a later part of the memory needs: it is published with the exemplars, counted, and kept."""
    with MemoryWriter.open(memory_path) as writer:
        writer.keep({"statistics/mean": np.full((4, 5), 1.5, np.float32)})
        writer.commit({0: 1})
    usage = measure(memory_path)
    assert usage.parts.keys() == {"exemplars", "statistics"}
    assert usage.parts["statistics"].apparent > 4 * 5
    with MemoryWriter.open(memory_path) as writer:
        assert size_if_kept(writer) == usage.files.apparent
        array = zarr.open_group(memory_path, mode="r")["statistics/mean-g2"]
        assert isinstance(array, zarr.Array)
        assert np.asarray(array[:]).tolist() == [[1.5] * 5] * 4
        assert MemoryStore.open(memory_path).classes[0].n_exemplars == 1
        writer.keep({})
        writer.commit()
    assert has_no_strays(memory_path)
