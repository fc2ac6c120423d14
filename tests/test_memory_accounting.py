"""The usage of a memory is what `os.walk`, `du` and `find` count."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from memory_store_cases import files_of, new_class, size_if_kept, update

from vclimb.memory.choice.budget import MemoryBudget
from vclimb.memory.store.accounting import DiskBytes, measure
from vclimb.memory.store.new_class import NewClass
from vclimb.memory.store.writer import MemoryWriter
from vclimb.pipeline.errors import DatasetError


def du(path: Path, *options: str) -> int:
    done = subprocess.run(["du", "-s", *options, path], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0])


def test_counts_are_those_of_the_files(tmp_path: Path) -> None:
    path = tmp_path / "memory.zarr"
    classes = [
        new_class(3, 4, n_frames=2, unit_bytes=3000),
        new_class(7, 5, n_frames=4, unit_bytes=9000, codec="h264"),
        new_class(9, 2),
    ]
    with MemoryWriter.open(path) as writer:
        update(writer, classes)
        writer.commit({7: 3, 9: 0})
        predicted = [writer.class_bytes(label, 99) for label in (3, 7)], size_if_kept(writer)
    usage = measure(path)
    kept = {3: classes[0].exemplars, 7: classes[1].exemplars[:3]}

    assert [one.label for one in usage.classes] == [3, 7]
    assert [one.name for one in usage.classes] == ["class 3", "class 7"]
    assert [one.videos for one in usage.classes] == [4, 3]
    assert [one.frames for one in usage.classes] == [8, 12]
    assert [one.source_frames for one in usage.classes] == [4 * 8, 3 * 16]
    assert [one.payload_bytes for one in usage.classes] == [sum(x.payload_bytes for x in kept[n]) for n in (3, 7)]
    assert (usage.videos, usage.frames, usage.source_frames) == (7, 20, 80)
    assert usage.payload_bytes == sum(one.payload_bytes for one in usage.classes)
    assert usage.bytes_per_frame == usage.files.apparent / 20

    statuses = {file: os.lstat(path / file) for file in files_of(path)}
    assert usage.n_files == len(statuses)
    assert usage.files.apparent == sum(files_of(path).values()) == predicted[1]
    assert usage.files.allocated == sum(status.st_blocks * 512 for status in statuses.values())
    for one in usage.classes:
        of_class = [status for file, status in statuses.items() if file.startswith(f"exemplars/c{one.label:04d}g1/")]
        assert one.files == DiskBytes(
            sum(status.st_size for status in of_class), sum(status.st_blocks * 512 for status in of_class)
        )
    of_index = sum(files_of(path)[file] for file in ("zarr.json", "exemplars/zarr.json"))
    assert usage.index_bytes == of_index
    assert sum(predicted[0]) < usage.files.apparent < sum(predicted[0]) + 500


@pytest.mark.skipif(shutil.which("du") is None, reason="there is no du")
def test_du_counts_the_same(tmp_path: Path) -> None:
    path = tmp_path / "memory.zarr"
    with MemoryWriter.open(path) as writer:
        update(writer, [new_class(label, 3, unit_bytes=5000) for label in range(3)], {1: 2})
    usage = measure(path)
    assert du(path, "--apparent-size", "--block-size=1") == usage.files.apparent + usage.folders.apparent
    assert du(path, "--block-size=1") == usage.files.allocated + usage.folders.allocated


def test_dropping_frees_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "memory.zarr"
    with MemoryWriter.open(path) as writer:
        empty = measure(path)
        update(writer, [new_class(1, 5, unit_bytes=20_000)])
        _, sizes = writer.costs(1)
        full = measure(path)
        writer.commit({1: 2})
        shrunk = measure(path)
        writer.commit({1: 0})
        assert full.files.apparent - shrunk.files.apparent == sum(sizes[2:])
        assert full.files.allocated - shrunk.files.allocated >= sum(sizes[2:])
        assert full.n_files - shrunk.n_files == 3
    assert measure(path) == empty
    assert (empty.videos, empty.frames, empty.bytes_per_frame, empty.n_files) == (0, 0, 0.0, 2)


def test_the_overhead_is_small(tmp_path: Path) -> None:
    """20 exemplars of 8 frames of 4 kB in each class: all other bytes are about a hundredth."""
    path = tmp_path / "memory.zarr"
    with MemoryWriter.open(path) as writer:
        update(writer, [new_class(label, 20, n_frames=8, unit_bytes=5000) for label in range(5)])
    usage = measure(path)
    assert usage.files.apparent < 1.012 * usage.payload_bytes


def test_what_a_writer_stages_is_on_the_disk_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "memory.zarr"
    with MemoryWriter.open(path) as writer:
        update(writer, [new_class(1, 2)])
        before = measure(path)
        writer.stage(NewClass(2, "b", "jpeg", new_class(2, 3).exemplars))
        during = measure(path)
        assert during.classes == before.classes
        added = during.index_bytes - before.index_bytes
        assert sum(writer.costs(2)[1]) < added < writer.class_bytes(2, 3)
    assert measure(path) == before


@pytest.mark.parametrize("rebalance", [False, True])
@pytest.mark.parametrize("budget_bytes", [700, 6_000, 20_000, 60_000])
def test_a_budget_of_bytes_holds_to_the_byte(tmp_path: Path, budget_bytes: int, rebalance: bool) -> None:
    """Each task adds a class of many and a class of few exemplars."""
    path = tmp_path / "memory.zarr"
    budget = MemoryBudget("bytes", budget_bytes)
    with MemoryWriter.open(path) as writer:
        for task in range(4):
            labels = [*writer.memory.classes]
            for label, n_exemplars in ((2 * task, 6), (2 * task + 1, 1 + task)):
                writer.stage(new_class(label, n_exemplars, unit_bytes=1000 + 300 * task))
                labels.append(label)
            overheads, costs = zip(*map(writer.costs, labels), strict=True)
            kept = budget.kept(costs, root_bytes=writer.empty_bytes, class_bytes=overheads, rebalance=rebalance)
            keep = dict(zip(labels, kept, strict=True))
            predicted = size_if_kept(writer, keep)
            writer.commit(keep)
            assert measure(path).files.apparent == sum(files_of(path).values()) == predicted <= budget_bytes
            missed = [cost[n] for cost, n in zip(costs, kept, strict=True) if 0 < n < len(cost)]
            if rebalance and missed:  # not one exemplar more would fit
                assert predicted + min(missed) > budget_bytes


def test_no_memory_to_measure(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is not a memory"):
        measure(tmp_path)
