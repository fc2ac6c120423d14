"""`vclimb memory show`: its figures are those of the disk, and damage is named."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from dataset_cases import digests
from memory_cli_cases import apparent, du, explains, memory, pack, show, words
from memory_store_cases import contents_by_zarr, files_of, new_class, update

from vclimb.memory.store.reader import MemoryStore
from vclimb.memory.store.writer import MemoryWriter


def test_figures_are_those_of_the_disk(jpeg_folder: Path, tmp_path: Path) -> None:
    pack(jpeg_folder, tmp_path / "m.zarr", "--budget", "all", "--frames", "4", "--codec", "jpeg:60@32")
    figures = show(tmp_path / "m.zarr")
    totals = figures["totals"]
    assert totals["apparent_bytes"] == apparent(tmp_path / "m.zarr")
    assert totals["files"] == len(files_of(tmp_path / "m.zarr"))
    assert totals["allocated_bytes"] + totals["folders_allocated_bytes"] == du(tmp_path / "m.zarr", "--block-size=1")
    assert totals["apparent_bytes"] + totals["folders_apparent_bytes"] == du(tmp_path / "m.zarr", "-b")
    assert totals["bytes_per_frame"] == totals["apparent_bytes"] / totals["frames"]
    assert totals["index_bytes"] + sum(row["apparent_bytes"] for row in figures["classes"]) == totals["apparent_bytes"]
    assert (figures["generation"], figures["damaged"], figures["png"]) == (1, None, None)
    assert figures["path"] == str(tmp_path / "m.zarr")

    found = contents_by_zarr(tmp_path / "m.zarr")
    estimate = 0.0
    for row, (label, (name, encoding, exemplars)) in zip(figures["classes"], sorted(found.items()), strict=True):
        folder = tmp_path / "m.zarr" / "exemplars" / f"c{label:04d}g1"
        payload = sum(len(unit) for exemplar in exemplars for unit in exemplar[-1])
        frames = sum(len(exemplar[6]) for exemplar in exemplars)
        source_frames = sum(exemplar[2] - exemplar[1] for exemplar in exemplars)
        assert row == {
            "label": label,
            "class": name,
            "codec": "jpeg:60@32",
            "exemplars": 4,
            "frames": frames,
            "source_frames": source_frames,
            "payload_bytes": payload,
            "apparent_bytes": apparent(folder),
            "allocated_bytes": sum(os.lstat(folder / file).st_blocks * 512 for file in files_of(folder)),
            "bytes_per_frame": apparent(folder) / frames,
            "is_damaged": False,
        }
        assert encoding == "jpeg:60@32"
        estimate += payload / frames * source_frames
    assert totals["every_frame_estimated_bytes"] == pytest.approx(estimate, abs=1)
    assert [row["class"] for row in figures["classes"]] == ["class0", "class1", "class2"]
    for name in ("exemplars", "frames", "source_frames", "payload_bytes"):
        assert totals[name] == sum(row[name] for row in figures["classes"])
    assert (totals["classes"], totals["exemplars"]) == (3, 12)


def test_text_tells_the_same(jpeg_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    pack(jpeg_folder, path, "--budget", "all", "--frames", "all")
    figures, result = show(path), memory("show", path, columns=80)
    assert (result.exit_code, result.stderr) == (0, "")
    totals, lines = figures["totals"], words(result.stdout.replace("\n" + " " * 12, " "))
    assert lines[0] == f"{path}: 3 classes, 12 exemplars, {totals['frames']} frames"
    assert lines[1] == f"payload {totals['payload_bytes']:,} bytes of encoded frames"
    assert lines[2] == f"on disk {apparent(path):,} bytes in {totals['files']} files, which is what budgets count"
    assert lines[3].startswith(f"allocated {totals['allocated_bytes']:,} bytes; {du(path, '--block-size=1'):,} with ")
    assert lines[4] == f"a frame {apparent(path) / totals['frames']:,.0f} bytes on disk"
    assert lines[5].startswith(f"all frames about {totals['every_frame_estimated_bytes'] / 1e3:,.0f} kB (estimate: ")
    assert lines[6] == "class exemplars frames bytes bytes a frame codec"
    for line, row in zip(lines[7:], figures["classes"], strict=True):
        of_frame = row["apparent_bytes"] / row["frames"]
        assert line == f"{row['class']} 4 {row['frames']} {row['apparent_bytes']:,} {of_frame:,.0f} copy"
    # Where every frame is kept, there is nothing to estimate.
    assert totals["frames"] == totals["source_frames"]
    assert totals["every_frame_estimated_bytes"] == totals["payload_bytes"]


def test_table_of_many_classes_with_long_names_fits_80_columns(tmp_path: Path) -> None:
    names = [f"something that is {'very ' * 12}long {n:03d}" for n in range(120)]
    names[7], names[8], names[9] = "[red]走る", "new\nline", "走る" * 40 + "9"
    classes = [replace(new_class(label, 1 + label % 3), name=name) for label, name in enumerate(names)]
    with MemoryWriter.open(tmp_path / "m.zarr") as writer:
        update(writer, classes)
    result = memory("show", tmp_path / "m.zarr", columns=80)
    assert (result.exit_code, result.stderr) == (0, "")
    header = next(n for n, line in enumerate(result.stdout.splitlines()) if line.startswith("class  "))
    lines = result.stdout.splitlines()[header:]
    assert max(map(cells, lines)) <= 80
    rows = [n for n, line in enumerate(lines) if line.rstrip().endswith("jpeg:75")]
    assert len(rows) == 120
    shown = [
        "".join(line[:30].strip() for line in lines[first:after])
        for first, after in zip(rows, [*rows[1:], len(lines)], strict=True)
    ]
    for label in (*range(7), *range(20, 120)):
        assert "".join(names[label].split()) in "".join(shown[label].split())
    assert shown[7].startswith("[red]走る")
    assert shown[8].startswith("new\\nline")


def cells(line: str) -> int:
    """Columns of a terminal that a line takes."""
    return sum(2 if ord(letter) > 0x3000 else 1 for letter in line.rstrip())


def test_verify_finds_what_is_damaged_and_nothing_else(jpeg_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    pack(jpeg_folder, path, "--budget", "all", "--frames", "2")
    assert show(path, "--verify")["damaged"] == []
    result = memory("show", path, "--verify")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1] == "clean: 12 exemplars read, all as they were written"

    opened = MemoryStore.open(path)
    file = path / opened.classes[1].frames.files[2]
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    (path / opened.classes[2].frames.files[0]).unlink()
    before = digests(path)
    result = memory("show", path, "--verify")
    assert (result.exit_code, result.stderr) == (1, "")
    *_, first, second, verdict = result.stdout.splitlines()
    assert first.startswith(
        f"exemplar 2 of {opened.table(1).keys[2]!r} of class 'class1' (exemplars/c0001g1/frames/c.2.0)"
    )
    assert second.startswith(
        f"exemplar 0 of {opened.table(2).keys[0]!r} of class 'class2' (exemplars/c0002g1/frames/c.0.0)"
    )
    assert verdict == "2 exemplars damaged; the others can be used all the same"
    result = memory("show", path, "--verify", "--json")
    assert result.exit_code == 1
    assert [(row["label"], row["rank"], row["key"]) for row in json.loads(result.stdout)["damaged"]] == [
        (1, 2, opened.table(1).keys[2]),
        (2, 0, opened.table(2).keys[0]),
    ]
    assert memory("show", path).exit_code == 0  # reading nothing finds nothing
    assert digests(path) == before


def test_class_whose_table_is_damaged_is_told_without_verify_too(jpeg_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    pack(jpeg_folder, path, "--budget", "6v", "--frames", "2")
    (path / "exemplars" / "c0001g1" / "table" / "c.0.0").write_bytes(b"")
    result = memory("show", path, "--png", tmp_path / "m.png")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "class1 2 damaged copy" in words(result.stdout)
    assert result.stdout.splitlines()[-1] == "the table of class 'class1' is damaged; --verify says more"
    figures = show(path)
    assert [row["is_damaged"] for row in figures["classes"]] == [False, True, False]
    result = memory("show", path, "--verify")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1].startswith("2 exemplars damaged")


def test_folder_of_a_run_is_taken_too(jpeg_folder: Path, tmp_path: Path) -> None:
    pack(jpeg_folder, tmp_path / "run" / "memory.zarr", "--budget", "3v")
    assert show(tmp_path / "run") == show(tmp_path / "run" / "memory.zarr")
    assert memory("show", tmp_path / "run").stdout.startswith(f"{tmp_path / 'run' / 'memory.zarr'}: 3 classes")


def test_what_is_no_memory_is_explained(jpeg_folder: Path, tmp_path: Path) -> None:
    explains(memory("show", tmp_path / "none"), f"{tmp_path / 'none'} doesn't exist")
    explains(memory("show", jpeg_folder), f"{jpeg_folder} is not a memory")
    with MemoryWriter.open(tmp_path / "m.zarr") as writer:
        update(writer, [new_class(0, 1)])
    root = tmp_path / "m.zarr" / "zarr.json"
    root.write_bytes(root.read_bytes().replace(b"class 0", b"class 1"))
    explains(memory("show", tmp_path / "m.zarr"), "is damaged, or was changed by another program")


def test_empty_memory_is_shown(tmp_path: Path) -> None:
    with MemoryWriter.open(tmp_path / "m.zarr"):
        pass
    result = memory("show", tmp_path / "m.zarr", "--verify", "--png", tmp_path / "m.png")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{tmp_path / 'm.zarr'}: 0 classes, 0 exemplars, 0 frames\n")
    assert show(tmp_path / "m.zarr")["totals"]["every_frame_estimated_bytes"] == 0
