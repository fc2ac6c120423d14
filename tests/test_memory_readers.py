"""A reader sees whole generations while another process writes, never parts of two."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from memory_store_cases import digest, expected_contents, new_class, update

from vclimb.memory.store.writer import MemoryWriter

HERE = str(Path(__file__).parent)

READER = """
import os, sys
sys.path.insert(0, sys.argv[1])
import zarr
from memory_store_cases import contents, digest
from vclimb.memory.store.errors import MemoryChangedError
from vclimb.memory.store.reader import MemoryStore

path, stop = sys.argv[2:]
while True:
    is_last = os.path.exists(stop)
    try:
        memory = MemoryStore.open(path)
        print(memory.generation, "vclimb", digest(contents(memory)), flush=True)
    except MemoryChangedError:
        print("changed", flush=True)
    root = zarr.open_group(path, mode="r")
    names = {group.attrs["label"]: group["frames"].shape[0] for _, group in root["exemplars"].groups()}
    print(root.attrs["generation"], "zarr", sorted(names.items()), flush=True)
    if is_last:
        break
"""


def test_a_reader_meets_whole_memories_while_a_writer_writes(tmp_path: Path) -> None:
    path, stop = tmp_path / "memory.zarr", tmp_path / "stop"
    MemoryWriter.open(path).close()
    expected = {0: digest({})}
    shapes: dict[int, list[tuple[int, int]]] = {0: []}
    model: dict[int, Any] = {}
    with (tmp_path / "read.txt").open("w") as out:
        reader = subprocess.Popen([sys.executable, "-c", READER, HERE, path, stop], stdout=out)
    with reader, MemoryWriter.open(path) as writer:
        try:
            deadline = time.monotonic() + 30
            while not (tmp_path / "read.txt").read_text():
                assert reader.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)
            for number in range(20):
                new = new_class(number % 7, 1 + number % 4, unit_bytes=2000)
                keep = {label: max(0, len(exemplars) - 1) for label, (_, _, exemplars) in model.items()}
                writer.commit(keep | {new.label: 0} if new.label in model else keep)
                model = {label: what for label, what in shrunk(model, keep).items() if label != new.label}
                note(expected, shapes, writer.memory.generation, model)
                model |= expected_contents([new])
                note(expected, shapes, writer.memory.generation + 1, model)
                update(writer, [new])
                time.sleep(0.01)
        finally:
            stop.touch()
    assert reader.returncode == 0
    lines = (tmp_path / "read.txt").read_text().splitlines()
    seen = set()
    for line in lines:
        if line != "changed":
            generation, by, found = line.split(maxsplit=2)
            assert found == (expected[int(generation)] if by == "vclimb" else str(shapes[int(generation)]))
            seen.add(int(generation))
    assert max(seen) == max(expected)
    assert len(seen) > 5


def shrunk(model: dict[int, Any], keep: dict[int, int]) -> dict[int, Any]:
    of = {label: (name, spec, exemplars[: keep[label]]) for label, (name, spec, exemplars) in model.items()}
    return {label: what for label, what in of.items() if what[2]}


def note(expected: dict[int, str], shapes: dict[int, list[tuple[int, int]]], generation: int, model: Any) -> None:
    expected[generation] = digest(model)
    shapes[generation] = sorted((label, len(exemplars)) for label, (_, _, exemplars) in model.items())
