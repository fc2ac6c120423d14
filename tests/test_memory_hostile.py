"""A memory whose checksums are right and whose contents are hostile ends in one clear error, or is read as it was."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memory_cli_cases import explains, memory
from memory_hostile_cases import (
    changed,
    index_of,
    rewrite_index,
    rewrite_table,
    use,
    write_index,
)
from memory_store_cases import contents, new_class

from vclimb.memory.store.errors import ExemplarDamagedError, MemoryStoreError
from vclimb.memory.store.reader import MemoryStore
from vclimb.memory.store.writer import MemoryWriter
from vclimb.pipeline.errors import SettingsError

FRAMES, TABLE = "exemplars/c0001g1/frames", "exemplars/c0001g1/table"
GROUP = "exemplars/c0001g1"


def set_in(place: str, *names: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    """Make a change of the nodes: the value at some names within a node."""

    def change(nodes: dict[str, Any]) -> None:
        value = nodes[place]
        for name in names[:-1]:
            value = value[name]
        value[names[-1]] = to

    return change


def rows(n: int) -> Callable[[dict[str, Any]], None]:
    def change(nodes: dict[str, Any]) -> None:
        nodes[FRAMES]["shape"][0] = nodes[TABLE]["shape"][0] = n

    return change


def moved(old: str, new: str) -> Callable[[dict[str, Any]], None]:
    """Make a change of the nodes: a folder gets another name."""

    def change(nodes: dict[str, Any]) -> None:
        for place in [*nodes]:
            if place.startswith(old):
                nodes[place.replace(old, new)] = nodes.pop(place)

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (set_in(FRAMES, "shape", 0, to=2), rf"{GROUP}: frames has 2 rows, and table 3"),
        (set_in(TABLE, "shape", 0, to=2), rf"{GROUP}: frames has 3 rows, and table 2"),
        (set_in(FRAMES, "shape", 0, to=2**40), rf"{FRAMES}: shape has {2**40} rows; allowed: {2**20}"),
        (rows(2**40), rf"{FRAMES}: shape has {2**40} rows"),
        (rows(-3), rf"{FRAMES}: shape\.0 must be greater than or equal to 1, not -3"),
        (rows(0), rf"{FRAMES}: shape\.0 must be greater than or equal to 1, not 0"),
        (set_in(FRAMES, "shape", to=[3]), rf"{FRAMES}: shape List should have at least 2 items"),
        (set_in(FRAMES, "shape", 1, to=1.5), rf"{FRAMES}: shape\.1 must be a valid integer, not 1\.5"),
        (set_in(TABLE, "chunk_grid", "configuration", "chunk_shape", 0, to=0), r"chunk_shape\.0 must be greater"),
        (set_in(TABLE, "chunk_grid", "configuration", "chunk_shape", 0, to=2**31), r"table: chunk_shape is \["),
        (set_in(FRAMES, "chunk_grid", "configuration", "chunk_shape", 1, to=2**33), r"frames: chunk_shape is \["),
        (set_in(FRAMES, "codecs", 1, "name", to="blosc"), rf"{FRAMES} has the codecs .*blosc.*; allowed: \["),
        (set_in(FRAMES, "codecs", 1, "name", to="gzip"), rf"{FRAMES} has the codecs .*gzip.*; allowed: \["),
        (set_in(TABLE, "codecs", to=[]), rf"{TABLE} has the codecs \[\]"),
        (set_in(FRAMES, "data_type", to="float64"), rf"{FRAMES}: data_type must be 'uint8', not 'float64'"),
        (set_in(TABLE, "attributes", "fields", 0, 1, to="|S9"), rf"{TABLE}: attributes\.fields .* are no rows of"),
        (set_in(TABLE, "attributes", "fields", 1, 1, to="|O"), rf"{TABLE}: attributes\.fields .* are no rows of"),
        (set_in(TABLE, "attributes", "fields", to=3), rf"{TABLE}: attributes\.fields must be a valid list, not 3"),
        (set_in(GROUP, "attributes", "label", to=2), rf"{GROUP}: attributes\.label is 2 .*its name differs"),
        (set_in(GROUP, "attributes", "label", to=True), r"attributes\.label must be a valid integer, not True"),
        (set_in(GROUP, "attributes", "label", to=10**30), r"attributes\.label must be"),
        (
            set_in(GROUP, "attributes", "class_name", to=None),
            r"attributes\.class_name must be a valid string",
        ),
        (set_in(GROUP, "attributes", "class_name", to="class 0"), r"class 'class 0' is there twice"),
        (set_in(GROUP, "attributes", "codec", to=""), r"attributes\.codec String should have at least 1 character"),
        (set_in(GROUP, "attributes", to={}), r"attributes\.label Field required"),
        (set_in(GROUP, "node_type", to="array"), rf"{GROUP}: node_type must be 'group', not 'array'"),
        (moved(GROUP, "exemplars/c0001g9"), r"exemplars/c0001g9: attributes\.label is 1 and the generation 1"),
        (moved(GROUP, "exemplars/../../c0001g1"), r"'exemplars/../../c0001g1' is no place in a memory"),
        (moved(GROUP, "/etc"), r"'/etc' is no place in a memory"),
        (moved(GROUP, "others/c0001g1"), r"'others/c0001g1' is no place in a memory"),
        (moved(TABLE, f"{GROUP}/other"), r"exemplars/c0001g1/table is missing"),
        (lambda nodes: nodes.pop("exemplars"), r"group 'exemplars' is missing"),
        (set_in("exemplars", "consolIdated_metadata", to=None), r"exemplars: consolIdated_metadata Extra inputs"),
        (
            lambda nodes: nodes.update(statistics=[]),
            r"metadata\.statistics must be a valid dict",
        ),
    ],
)
def test_an_index_that_says_what_it_cannot(memory_path: Path, change: Any, says: str) -> None:
    rewrite_index(memory_path, change)
    for opener in (MemoryStore.open, MemoryWriter.open):
        with pytest.raises(MemoryStoreError, match=rf"zarr\.json: .*{says}.*; restore the memory from a copy, or"):
            opener(memory_path)
    assert len(use(memory_path)) == 2


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'{"attributes":' * 50_000, "doesn't read as the metadata of a zarr group"),
        (b"[" * 100_000 + b"]" * 100_000, "doesn't read as the metadata of a zarr group"),
        (b"[]", "doesn't read as the metadata of a zarr group"),
        (b"\xff\xfe", "doesn't read as the metadata of a zarr group"),
        (b'{"attributes": 7}', "doesn't read as the metadata of a zarr group"),
        (b'{"attributes": {"format": "' + b"x" * 10_000 + b'"}}', "not a memory: its format is 'xxx"),
    ],
)
def test_an_index_that_is_none(memory_path: Path, data: bytes, says: str) -> None:
    (memory_path / "zarr.json").write_bytes(data)
    errors = use(memory_path)
    assert len(errors) == 2
    assert all(says in error and len(error) < 500 for error in errors)
    for command in (("show", memory_path), ("show", memory_path, "--verify")):
        explains(memory(*command), says)


def test_any_change_of_the_index(memory_path: Path, tmp_path: Path) -> None:
    """80 changes of one value, with a right checksum."""
    with MemoryWriter.open(memory_path) as writer:
        writer.keep({"statistics/mean": np.full((4, 5), 1.5, np.float32)})
        writer.commit({0: 1, 2: 0})
    whole, expected = index_of(memory_path), contents(MemoryStore.open(memory_path))
    refused = 0
    for number in range(80):
        path = shutil.copytree(memory_path, tmp_path / "changed")
        what, document = changed(whole, random.Random(number))
        write_index(path, document)
        try:
            same = contents(MemoryStore.open(path)) == expected
            assert same or any(name in what for name in ("class_name", "encoding", "'codec'")), what
        except MemoryStoreError:
            refused += 1
        use(path)
        shutil.rmtree(path)
    assert refused > 50


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("start_frame", -1, "-1"),
        ("end_frame", 0, "0"),
        ("width", 0, "0"),
        ("height", 2**31 - 1, f"{2**31 - 1}"),
        ("frames", [5, -1, 7], r"\[5, -1, 7\]"),
        ("frames", [-1, -1, -1], r"\[-1, -1, -1\]"),
        ("frames", [2**31 - 1] * 3, rf"\[{2**31 - 1}, "),
        ("unit_bytes", [-1, -1, -1], r"\[-1, -1, -1\]"),
        ("unit_bytes", [1, 1, -1], r"\[1, 1, -1\]"),
        ("unit_bytes", [2**31 - 1] * 3, rf"\[{2**31 - 1}, "),
        ("unit_bytes", [1, -7, 1], r"\[1, -7, 1\]"),
        ("key", b"\xff\xfe", r"b'\\xff\\xfe'"),
    ],
)
def test_a_table_that_describes_no_exemplar(memory_path: Path, field: str, value: Any, shown: str) -> None:
    def change(table: Any) -> None:
        table[field][1] = value

    rewrite_table(memory_path, 1, change)
    store = MemoryStore.open(memory_path)
    says = rf"class 'class 1' \(.*table/c\.0\.0\): {field} of its row 1 is {shown}"
    with pytest.raises(ExemplarDamagedError, match=says):
        store.exemplar(1, 0)
    assert {(one.label, one.rank) for one in store.verify()} == {(1, 0), (1, 1), (1, 2)}
    shown_by_command = memory("show", memory_path, "--verify")
    assert shown_by_command.exit_code == 1
    assert "3 exemplars damaged" in shown_by_command.stdout
    assert use(memory_path) == []


def test_what_could_not_be_read_again_is_not_written(memory_path: Path) -> None:
    """The writer refuses what the reader would refuse."""
    with MemoryWriter.open(memory_path) as writer:
        for name, value in (("width", 0), ("height", 2**30)):
            new = new_class(9, 2)
            object.__setattr__(new.exemplars[1], name, value)
            with pytest.raises(SettingsError, match=f"can't be stored: .* of its row 1 is {value}"):
                writer.stage(new)
    assert json.loads((memory_path / "zarr.json").read_bytes())["attributes"]["generation"] == 1
