"""Arrays beside the exemplars: what is kept comes back, costs what was foreseen, and survives kills and damage."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from memory_cli_cases import explains, memory
from memory_hostile_cases import rewrite_index
from memory_kill_cases import Killed, quick_folder, stopped_at
from memory_store_cases import bytes_of, contents, files_of, folders_of, has_no_strays, new_class, size_if_kept, update

import vclimb
from vclimb.memory.choice.budget import MemoryBudget
from vclimb.memory.replay import MemorySettings, ReplayMemory
from vclimb.memory.store.accounting import measure
from vclimb.memory.store.errors import ArrayDamagedError, MemoryStoreError
from vclimb.memory.store.new_array import array_bytes
from vclimb.memory.store.reader import MemoryStore
from vclimb.memory.store.stored_array import DTYPES, AnyArray
from vclimb.memory.store.writer import MemoryWriter
from vclimb.pipeline.errors import DatasetError, SettingsError

OLD = {"statistics/mean": np.arange(12, dtype=np.float32).reshape(4, 3), "parameters/bias": np.ones(2, np.float16)}
NEW = {"statistics/mean": OLD["statistics/mean"] + 1, "logits/soft": np.full((2, 5), -3, np.int8)}
PLACE = "statistics/mean-g1"

names = st.builds("{}/{}".format, st.sampled_from(["statistics", "parameters", "logits"]), st.sampled_from("abc"))
any_array = st.sampled_from(DTYPES).flatmap(
    lambda dtype: (
        hnp.arrays(dtype, hnp.array_shapes(max_dims=3, max_side=5), elements={"allow_nan": True})
        if dtype.startswith("float")
        else hnp.arrays(dtype, hnp.array_shapes(max_dims=3, max_side=5))
    )
)


def arrays_of(store: MemoryStore) -> dict[str, tuple[Any, ...]]:
    """Read all arrays of a memory as plain values."""
    arrays = {name: store.array(name) for name in store.arrays}
    return {name: (array.dtype.name, array.shape, array.tobytes()) for name, array in arrays.items()}


def plain(arrays: Mapping[str, AnyArray]) -> dict[str, tuple[Any, ...]]:
    return {name: (array.dtype.name, array.shape, array.tobytes()) for name, array in arrays.items()}


def make_old(path: Path) -> None:
    with MemoryWriter.open(path) as writer:
        writer.keep(OLD)
        update(writer, [new_class(0, 2, unit_bytes=300)])


def make_new(path: Path) -> None:
    with MemoryWriter.open(path) as writer:
        if writer.memory.generation < 2:
            writer.keep(NEW)
            update(writer, [new_class(1, 2, unit_bytes=300)], {0: 1})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "memory.zarr"
    make_old(path)
    return path


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(updates=st.lists(st.dictionaries(names, any_array, max_size=4), min_size=1, max_size=3))
def test_any_arrays_come_back_and_cost_what_was_foreseen(updates: list[dict[str, AnyArray]]) -> None:
    with quick_folder() as folder, MemoryWriter.open(folder / "m.zarr") as writer:
        path = folder / "m.zarr"
        empty = size_if_kept(writer)
        for arrays in updates:
            writer.keep(arrays)
            foreseen = size_if_kept(writer)
            writer.commit()
            on_disk, usage = sum(files_of(path).values()), measure(path)
            assert foreseen == on_disk == usage.files.apparent == sum(usage.part_bytes.values())
            expected = array_bytes({name: (array.dtype.name, array.shape) for name, array in arrays.items()})
            assert on_disk == empty + sum(expected.values())
            counted = {part: n for part, n in usage.part_bytes.items() if part not in ("exemplars", "index")}
            assert counted == {part: n for part, n in expected.items() if part != "index"}
            store = MemoryStore.open(path)
            assert arrays_of(store) == plain(arrays)
            assert [*store.verify_arrays()] == []
            for name, array in arrays.items():  # any reader of zarr finds the same
                read = zarr.open_group(path, mode="r")[store.arrays[name].place]
                assert np.asarray(read[:]).tobytes() == array.tobytes()  # type: ignore[index]
        generation = writer.memory.generation
        writer.keep(updates[-1])
        assert writer.commit().generation == generation  # the same arrays once more change nothing
        writer.keep({})
        writer.commit()
        assert has_no_strays(path)


def test_large_arrays_lie_in_several_chunks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vclimb.memory.store.stored_array._CHUNK_BYTES", 64)
    array = np.arange(7 * 5, dtype=np.int32).reshape(7, 5)
    with MemoryWriter.open(path) as writer:
        writer.keep({"statistics/rows": array})
        foreseen = size_if_kept(writer)
        writer.commit()
    assert sum(files_of(path).values()) == foreseen
    store = MemoryStore.open(path)
    assert len(store.arrays["statistics/rows"].files) == 3
    assert store.array("statistics/rows").tolist() == array.tolist()
    assert zarr.open_group(path, mode="r")["statistics/rows-g2"][:].tolist() == array.tolist()  # type: ignore[index, union-attr]


@pytest.mark.filterwarnings("ignore:Object at")
def test_killed_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exemplars and arrays are both the old ones or both the new ones, and the next run ends with the new ones."""
    with quick_folder() as folder:
        old, new = folder / "old.zarr", folder / "new.zarr"
        make_old(old)
        make_new(shutil.copytree(old, new))
        states = [(contents(store), arrays_of(store)) for store in map(MemoryStore.open, (old, new))]
        assert [arrays for _, arrays in states] == [plain(OLD), plain(NEW)]
        path = shutil.copytree(old, folder / "steps.zarr")
        with stopped_at(None, monkeypatch, Killed()) as steps:
            make_new(path)
        seen: list[int] = []
        left: object = None
        for step in range(len(steps)):
            path = shutil.copytree(old, folder / "memory.zarr")
            with stopped_at(step, monkeypatch, Killed()), pytest.raises(Killed):
                make_new(path)
            before, left = left, (bytes_of(path), folders_of(path))
            if left == before:  # the step before was a sync: the same files were read, and the update finished, already
                seen.append(seen[-1])
                shutil.rmtree(path)
                continue
            store = MemoryStore.open(path)
            seen.append(states.index((contents(store), arrays_of(store))))
            assert seen[-1] == store.generation - 1
            make_new(path)
            assert (bytes_of(path), folders_of(path)) == (bytes_of(new), folders_of(new))
            shutil.rmtree(path)
    assert seen == sorted(seen)
    assert set(seen) == {0, 1}
    assert len(steps) > 50


def test_damage_is_named_and_mended_by_the_next_update(path: Path) -> None:
    file = path / PLACE / "c.0.0"
    data = bytearray(file.read_bytes())
    data[5] ^= 1
    file.write_bytes(data)
    store = MemoryStore.open(path)
    with pytest.raises(
        ArrayDamagedError, match=r"array statistics/mean .*c\.0\.0\): its bytes don't fit their checksum"
    ):
        store.array("statistics/mean")
    (damage,) = vclimb.Memory.open(path).verify(progress=False)
    assert damage.to_json()["array"] == "statistics/mean"
    done = memory("show", path, "--verify")
    assert done.exit_code == 1
    assert "1 file of arrays damaged" in done.stdout
    file.unlink()
    assert [damage.reason for damage in store.verify_arrays()] == ["the file is missing"]
    file.write_bytes(data[:-1])
    assert [damage.reason for damage in store.verify_arrays()] == ["it holds 51 bytes, not 52"]
    with MemoryWriter.open(path) as writer:
        writer.keep(OLD)
        writer.commit()
    assert arrays_of(MemoryStore.open(path)) == plain(OLD)
    with pytest.raises(DatasetError, match=r"has no array 'statistics/x'; it has parameters/bias, statistics/mean"):
        MemoryStore.open(path).array("statistics/x")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda nodes: nodes[PLACE].update(data_type="complex64"), "data_type must be"),
        (lambda nodes: nodes[PLACE].update(codecs=[{"name": "bytes"}]), "has the codecs"),
        (lambda nodes: nodes[PLACE].update(shape=[4]), "chunk_shape is"),
        (lambda nodes: nodes[PLACE].update(shape=[2**61, 3]), "chunks"),
        (lambda nodes: nodes[PLACE].update(shape=[0, 3]), "must be greater than or equal to 1"),
        (lambda nodes: nodes[PLACE].update(attributes={"x": 1}), "attributes"),
        (lambda nodes: nodes[PLACE].update(node_type="group"), "node_type must be 'array'"),
        (lambda nodes: nodes["statistics"].update(attributes={"x": 1}), "attributes"),
        (lambda nodes: nodes.update({"statistics/mean-g7": nodes.pop(PLACE)}), "no place of an array in a memory of"),
        (lambda nodes: nodes.update({"statistics/mean": nodes.pop(PLACE)}), "no place of an array"),
        (lambda nodes: nodes.update({"statistics/mean-g0": nodes[PLACE]}), "statistics/mean is there twice"),
    ],
)
def test_an_index_that_says_what_arrays_cannot_be(path: Path, change: Any, says: str) -> None:
    rewrite_index(path, change)
    for opener in (MemoryStore.open, MemoryWriter.open):
        with pytest.raises(MemoryStoreError, match=rf"zarr\.json: .*{says}"):
            opener(path)


@pytest.mark.parametrize(
    ("name", "array", "says"),
    [
        ("importance", np.ones(3), "its name is a part"),
        ("exemplars/mean", np.ones(3), "its name is a part"),
        ("statistics/../x", np.ones(3), "its name is a part"),
        ("statistics/mean", np.ones(3, np.complex64), "of complex64 can't be kept; allowed: float16, float32"),
        ("statistics/mean", np.ones((0, 3)), r"of shape \(0, 3\) can't be kept; leave an empty one out"),
        ("statistics/mean", np.array(3.0), r"of shape \(\) can't be kept"),
    ],
)
def test_arrays_that_cannot_be_kept(path: Path, name: str, array: AnyArray, says: str) -> None:
    before = bytes_of(path)
    with MemoryWriter.open(path) as writer, pytest.raises(SettingsError, match=says):
        writer.keep({name: array})
    assert bytes_of(path) == before


def test_arrays_alone_exceed_a_budget(tmp_path: Path) -> None:
    wanted = ReplayMemory(tmp_path / "m.zarr", MemorySettings(budget=MemoryBudget("bytes", 2000)))
    with pytest.raises(SettingsError, match="budget 2kB is 2000 bytes, but a memory without exemplars takes"):
        wanted.update(None, [], [], arrays={"statistics/mean": np.ones(1000)})  # type: ignore[arg-type]
    assert MemoryStore.open(tmp_path / "m.zarr").arrays == {}


def test_show_breaks_bytes_down(path: Path) -> None:
    done = memory("show", path)
    assert "array       statistics/mean: float32, 4 x 3" in done.stdout
    usage = measure(path)
    assert ", ".join(f"{part} {n:,}" for part, n in usage.part_bytes.items()) in done.stdout
    assert sum(usage.part_bytes.values()) == sum(files_of(path).values())
    explains(memory("show", path.parent / "none"), "doesn't exist")
