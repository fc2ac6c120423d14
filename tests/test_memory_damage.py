"""Damage to a memory is found by checksum and named, and the rest can still be read and written."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from memory_store_cases import (
    contents_by_zarr,
    expected_contents,
    files_of,
    has_no_strays,
    new_class,
    plain,
    size_if_kept,
)

from vclimb.memory.store.accounting import measure
from vclimb.memory.store.errors import ExemplarDamagedError
from vclimb.memory.store.reader import MemoryStore
from vclimb.memory.store.writer import MemoryWriter
from vclimb.pipeline.errors import DatasetError, FrameDamagedError, VclimbError

EXPECTED = expected_contents([new_class(label, 3) for label in range(3)])


def flip_a_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    place = random.Random(str(file.name)).randrange(len(data) * 8)
    data[place // 8] ^= 1 << place % 8
    file.write_bytes(data)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def fill_with_zeros(file: Path) -> None:
    """Leave the file as some file systems do after a power cut."""
    file.write_bytes(bytes(file.stat().st_size))


def delete(file: Path) -> None:
    file.unlink()


def put_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def copy_another(file: Path) -> None:
    """Put a chunk of another array there, whose checksum fits."""
    other = "table" if "frames" in file.parts else "frames"
    file.write_bytes((file.parents[1] / other / "c.0.0").read_bytes())


DAMAGES = [flip_a_bit, truncate, empty, fill_with_zeros, delete, put_a_folder, copy_another]


def readable(memory: MemoryStore, but: set[tuple[int, int]]) -> bool:
    """Check that all exemplars are as they were stored, and that reading the others raises an error."""
    for label in range(3):
        for rank in range(memory.classes[label].n_exemplars):
            if (label, rank) in but:
                with pytest.raises(ExemplarDamagedError, match=f"class {label}"):
                    memory.exemplar(label, rank)
            else:
                assert plain(memory.exemplar(label, rank)) == EXPECTED[label][2][rank]
    return True


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_exemplar_is_named_and_the_rest_is_usable(memory_path: Path, damage: Callable[[Path], None]) -> None:
    file = "exemplars/c0001g1/frames/c.2.0"
    damage(memory_path / file)
    memory = MemoryStore.open(memory_path)
    (found,) = memory.verify()
    assert (found.label, found.class_name, found.rank, found.key, found.file) == (1, "class 1", 2, "v_1002", file)
    assert readable(memory, {(1, 2)})
    with pytest.raises(FrameDamagedError) as caught:
        memory.exemplar(1, 2)
    for words in ("exemplar 2 of 'v_1002' of class 'class 1'", str(memory_path / file), found.reason):
        assert words in str(caught.value)
    assert str(found) == f"exemplar 2 of 'v_1002' of class 'class 1' ({file}): {found.reason}"
    assert (measure(memory_path).videos, measure(memory_path).frames) == (9, 27)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_table_costs_its_class_alone(memory_path: Path, damage: Callable[[Path], None]) -> None:
    file = "exemplars/c0002g1/table/c.0.0"
    damage(memory_path / file)
    memory = MemoryStore.open(memory_path)
    found = [*memory.verify()]
    assert [(one.label, one.rank, one.key, one.file) for one in found] == [(2, rank, None, file) for rank in range(3)]
    assert readable(memory, {(2, rank) for rank in range(3)})
    usage = measure(memory_path)
    assert [one.is_damaged for one in usage.classes] == [False, False, True]
    assert (usage.videos, usage.frames) == (9, 18)


def test_a_folder_that_is_gone(memory_path: Path) -> None:
    for file in files_of(memory_path):
        if file.startswith("exemplars/c0000g1/"):
            (memory_path / file).unlink()
    for array in ("frames", "table", "."):
        (memory_path / "exemplars/c0000g1" / array).rmdir()
    assert readable(MemoryStore.open(memory_path), {(0, rank) for rank in range(3)})
    with MemoryWriter.open(memory_path) as writer:
        predicted = size_if_kept(writer, {0: 0})
        writer.commit({0: 0})
    assert sum(files_of(memory_path).values()) == predicted
    assert has_no_strays(memory_path)


@pytest.mark.parametrize("damage", DAMAGES[:-2])
def test_a_damaged_index_is_an_error_and_nothing_is_touched(memory_path: Path, damage: Callable[[Path], None]) -> None:
    damage(memory_path / "zarr.json")
    before = files_of(memory_path)
    for opener in (MemoryStore.open, MemoryWriter.open):
        with pytest.raises(VclimbError) as caught:
            opener(memory_path)
        assert any(words in str(caught.value) for words in ("is damaged", "is not a memory", "has classes but no"))
    assert files_of(memory_path) == before


def test_every_bit_of_the_index_counts(memory_path: Path) -> None:
    root = memory_path / "zarr.json"
    whole = root.read_bytes()
    dice = random.Random(5)
    for place in [*range(200 * 8), *(dice.randrange(len(whole) * 8) for _ in range(1000))]:
        data = bytearray(whole)
        data[place // 8] ^= 1 << place % 8
        root.write_bytes(data)
        with pytest.raises(DatasetError, match=r"is damaged|not a memory|is not known"):
            MemoryStore.open(memory_path)


def test_damage_can_be_dropped(memory_path: Path) -> None:
    delete(memory_path / "exemplars/c0001g1/frames/c.2.0")
    flip_a_bit(memory_path / "exemplars/c0002g1/table/c.0.0")
    with MemoryWriter.open(memory_path) as writer:
        assert size_if_kept(writer) == sum(files_of(memory_path).values())
        assert writer.costs(1)[1][2] == 1  # the least that a budget counts
        predicted = size_if_kept(writer, {1: 2, 2: 0})
        writer.commit({1: 2, 2: 0})
    assert sum(files_of(memory_path).values()) == predicted
    assert list(MemoryStore.open(memory_path).verify()) == []
    assert has_no_strays(memory_path)


def test_metadata_of_a_node_is_put_right_by_the_next_writer(memory_path: Path) -> None:
    whole = files_of(memory_path)
    nodes = [file for file in whole if file.endswith("/zarr.json")]
    for number, file in enumerate(nodes):
        DAMAGES[number % 5](memory_path / file)
    assert readable(MemoryStore.open(memory_path), set())
    MemoryWriter.open(memory_path).close()
    assert files_of(memory_path) == whole
    assert contents_by_zarr(memory_path, use_consolidated=False) == EXPECTED
