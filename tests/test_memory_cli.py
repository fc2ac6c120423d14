"""`vclimb memory`: what it says is what lies on the disk, what it packs holds the budget, and nothing is lost."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main
from dataset_cases import RunningCommand, digests, prepare_table
from memory_store_cases import bytes_of, contents_by_zarr, files_of, new_class, update
from PIL import Image
from stream_cases import damage, make_tiny_videos
from typer.testing import CliRunner, Result
from video_cases import make_video

from vclimb.cli.main import app
from vclimb.memory.choice.budget import MemoryBudget
from vclimb.memory.sheet import HEADER_HEIGHT, LINE_HEIGHT, MARGIN, MAX_WIDTH, MIN_WIDTH, ROW_PADDING
from vclimb.memory.store.reader import MemoryStore
from vclimb.memory.store.writer import MemoryWriter
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.sources import read_source

# Every flag of every command. Change it when you mean to change what users have in their scripts.
FLAGS = {
    "show": "memory --png --verify --json",
    "pack": "dataset --budget --out -o --frames --codec --videos --frame-choice --rebalance --seed --split --quality "
    "--png --json",
}
ROW_HEIGHT = LINE_HEIGHT + 2 * ROW_PADDING


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 videos of 3 classes, 1 to 26 frames; no splits."""
    folder = tmp_path_factory.mktemp("tiny")
    prepare_table(read_source(make_tiny_videos(folder / "videos")), folder / "tiny", quality=2)
    return folder / "tiny"


@pytest.fixture(scope="module")
def prepared_h264(prepared: Path) -> Path:
    out = prepared.parent / "tiny-h264"
    prepare_table(read_source(prepared.parent / "videos"), out, codec="h264", quality=10)
    return out


@pytest.fixture(scope="module")
def in_splits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of four training videos, of two groups each, and one test video."""
    folder = tmp_path_factory.mktemp("splits")
    for label in ("run", "walk"):
        for number in range(5):
            split = "test" if number == 4 else "train"
            make_video(folder / "videos" / split / label / f"{number}.mp4", frames=6 + number)
    table = read_source(folder / "videos")
    videos = [
        replace(video, group="early" if video.path.endswith(("0.mp4", "1.mp4")) else "late") for video in table.videos
    ]
    prepare_table(replace(table, videos=tuple(videos)), folder / "splits")
    return folder / "splits"


def memory(*arguments: str | Path, columns: int = 200) -> Result:
    return CliRunner(env={"COLUMNS": str(columns), "NO_COLOR": "1"}).invoke(app, ["memory", *map(str, arguments)])


def pack(dataset: Path, out: Path, *arguments: str | Path) -> Any:
    result = memory("pack", dataset, "--out", out, *arguments, "--json")
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return json.loads(result.stdout)


def show(path: Path, *arguments: str | Path) -> Any:
    result = memory("show", path, *arguments, "--json")
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return json.loads(result.stdout)


def words(text: str) -> list[str]:
    """The lines of a text with single spaces."""
    return [" ".join(line.split()) for line in text.splitlines()]


def explains(result: Result, message: str) -> None:
    assert (result.exit_code, result.stdout) == (1, "")
    assert isinstance(result.exception, SystemExit)
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line


def apparent(path: Path) -> int:
    return sum(files_of(path).values())


def du(path: Path, *options: str) -> int:
    done = subprocess.run(["du", "-s", *options, path], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0])


# show


def test_figures_are_those_of_the_disk(prepared: Path, tmp_path: Path) -> None:
    pack(prepared, tmp_path / "m.zarr", "--budget", "all", "--frames", "4", "--codec", "jpeg:60@32")
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


def test_text_tells_the_same(prepared: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    pack(prepared, path, "--budget", "all", "--frames", "all")
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
    assert len(lines) == 121
    assert max(map(cells, lines)) <= 80
    for label, line in enumerate(lines[1:]):
        shown, *numbers = re.split(r"\s{2,}", line.strip())
        assert len(numbers) == 5
        if "…" in shown:
            head, tail = shown.split("…")
            assert names[label].startswith(head)
            assert names[label].endswith(tail)
            assert cells(shown) > 20
    assert lines[8].startswith("[red]走る  ")
    assert lines[9].startswith("new\\nline  ")
    assert all(f"{label:03d}  " in lines[label + 1] for label in range(20, 120))


def cells(line: str) -> int:
    """Columns of a terminal that a line takes."""
    return sum(2 if ord(letter) > 0x3000 else 1 for letter in line.rstrip())


def test_verify_finds_what_is_damaged_and_nothing_else(prepared: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    pack(prepared, path, "--budget", "all", "--frames", "2")
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


def test_class_whose_table_is_damaged_is_told_without_verify_too(prepared: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    pack(prepared, path, "--budget", "6v", "--frames", "2")
    (path / "exemplars" / "c0001g1" / "table" / "c.0.0").write_bytes(b"")
    result = memory("show", path, "--png", tmp_path / "m.png")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "class1 2 damaged copy" in words(result.stdout)
    assert result.stdout.splitlines()[-1] == "the index of class 'class1' is damaged; --verify tells more"
    figures = show(path)
    assert [row["is_damaged"] for row in figures["classes"]] == [False, True, False]
    result = memory("show", path, "--verify")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1].startswith("2 exemplars damaged")


def test_folder_of_a_run_is_taken_too(prepared: Path, tmp_path: Path) -> None:
    pack(prepared, tmp_path / "run" / "memory.zarr", "--budget", "3v")
    assert show(tmp_path / "run") == show(tmp_path / "run" / "memory.zarr")
    assert memory("show", tmp_path / "run").stdout.startswith(f"{tmp_path / 'run' / 'memory.zarr'}: 3 classes")


def test_what_is_no_memory_is_explained(prepared: Path, tmp_path: Path) -> None:
    explains(memory("show", tmp_path / "none"), f"{tmp_path / 'none'} doesn't exist")
    explains(memory("show", prepared), f"{prepared} is not a memory")
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


# pictures


def test_picture_has_a_row_for_each_class(prepared: Path, tmp_path: Path) -> None:
    path, png = tmp_path / "m.zarr", tmp_path / "sheet.PNG"
    pack(prepared, path, "--budget", "all", "--frames", "3", "--codec", "h264:10")
    result = memory("show", path, "--png", png)
    assert (result.exit_code, result.stderr) == (0, "")
    told = f"contact sheet: {png}, 3 classes, 12 exemplars"
    assert told in result.stdout
    with Image.open(png) as sheet:
        assert (sheet.format, sheet.mode) == ("PNG", "RGB")
        assert sheet.height == HEADER_HEIGHT + 3 * ROW_HEIGHT + MARGIN
        assert MIN_WIDTH < sheet.width <= MAX_WIDTH
        pixels = np.asarray(sheet)
    for row in range(3):
        top = HEADER_HEIGHT + row * ROW_HEIGHT + ROW_PADDING
        assert pixels[top : top + LINE_HEIGHT, 200:1000].std() > 20
        assert np.ptp(pixels[top : top + 20, MARGIN:180]) > 150  # the name
    picture = show(path, "--png", png)["png"]
    assert picture == {
        "path": str(png),
        "classes": 3,
        "exemplars": 12,
        "damaged": 0,
        "width": pixels.shape[1],
        "height": HEADER_HEIGHT + 3 * ROW_HEIGHT + MARGIN,
    }


def test_packing_draws_what_show_draws(prepared: Path, tmp_path: Path) -> None:
    figures = pack(prepared, tmp_path / "m.zarr", "--budget", "5v", "--frames", "3", "--png", tmp_path / "a.png")
    assert figures["png"]["exemplars"] == 5
    show(tmp_path / "m.zarr", "--png", tmp_path / "b.png")
    with Image.open(tmp_path / "a.png") as one, Image.open(tmp_path / "b.png") as other:
        assert np.array_equal(np.asarray(one), np.asarray(other))


BAD_PICTURES = {
    "not a png": ("sheet.jpg", "--png 'sheet.jpg' must end in .png"),
    "no such folder": ("no/sheet.png", "there is no folder 'no'"),
    "in the memory": ("m.zarr/sheet.png", "lies in the memory"),
    "a folder": ("folder.png", "can't be written: Is a directory"),
}


@pytest.mark.parametrize(("png", "message"), BAD_PICTURES.values(), ids=BAD_PICTURES.keys())
def test_bad_places_of_pictures_are_explained(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, png: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    if png != "folder.png":  # that can only be seen when it is written
        explains(memory("pack", prepared, "--out", "m.zarr", "--budget", "3v", "--png", png), message)
        assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]
    pack(prepared, Path("m.zarr"), "--budget", "3v")
    explains(memory("show", "m.zarr", "--png", png), message)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.png", "m.zarr"]
    assert show(Path("m.zarr"), "--verify")["damaged"] == []


# pack


@pytest.mark.parametrize("frames", ["3", "all"])
@pytest.mark.parametrize("rebalance", [(), ("--rebalance",)])
@pytest.mark.parametrize("budget", ["1v", "7v", "3f", "25f", "9kB", "30kB", "60kB", "1GB", "all"])
def test_no_budget_is_exceeded(
    prepared: Path, tmp_path: Path, budget: str, rebalance: tuple[str, ...], frames: str
) -> None:
    path = tmp_path / "m.zarr"
    result = memory("pack", prepared, "--out", path, "--budget", budget, "--frames", frames, *rebalance, "--json")
    assert result.stderr == ""
    figures = json.loads(result.stdout)
    totals, allowed = figures["totals"], MemoryBudget.parse(budget)
    assert totals["apparent_bytes"] == apparent(path)
    exemplars = [one for _, _, ranked in contents_by_zarr(path).values() for one in ranked]
    assert totals["exemplars"] == len(exemplars)
    assert totals["frames"] == sum(len(exemplar[6]) for exemplar in exemplars)
    assert result.exit_code == (0 if exemplars else 1)
    spent = {"videos": len(exemplars), "frames": totals["frames"], "bytes": apparent(path)}.get(allowed.kind, 0)
    assert spent <= allowed.amount
    if budget in ("1GB", "all"):
        assert len(exemplars) == 12
    if budget == "7v":
        assert [row["exemplars"] for row in figures["classes"]] == [3, 2, 2]
    if frames == "3":
        assert all(len(exemplar[6]) == min(3, exemplar[2] - exemplar[1]) for exemplar in exemplars)
    assert figures["packed"]["candidates"] == 12


def test_summary_tells_what_was_done(in_splits: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    result = memory("pack", in_splits, "-o", path, "--budget", "20kB", "--frames", "4", "--codec", "jpeg", "--quality")
    assert (result.exit_code, result.stderr) == (0, "")
    figures = show(path)
    n, frames, size = (figures["totals"][name] for name in ("exemplars", "frames", "apparent_bytes"))
    lines = words(result.stdout)
    assert lines[0] == f"{n} exemplars packed, of 8 instances of split train"
    assert lines[1] == f"{frames} frames as jpeg: 4 uniform of a video, random videos, seed 0"
    allocated = figures["totals"]["allocated_bytes"]
    share = f"{size / 20_000:.1%}"
    assert lines[2] == f"budget 20kB: {size:,} bytes on disk ({allocated:,} allocated), {share} of it"
    assert lines[3] == f"{path}: 2 classes, {n} exemplars, {frames} frames"
    assert re.fullmatch(r"PSNR [\d.]+ dB \(worst frame [\d.]+\), SSIM 0[\d.]+ \(.*", lines[4])
    assert len(lines) == 5


def test_what_is_kept_are_the_data_sets_own_frames(prepared: Path, tmp_path: Path) -> None:
    pack(prepared, tmp_path / "m.zarr", "--budget", "all", "--frames", "3")
    dataset = StoredDataset.open(prepared)
    for name, _, exemplars in contents_by_zarr(tmp_path / "m.zarr").values():
        for key, _, _, _, _, _, frames, _, _, units in exemplars:
            video = dataset.by_key[key]
            assert video.labels == (name,)
            assert [dataset.frame_bytes(video, frame) for frame in frames] == list(units)


@pytest.mark.parametrize("source", ["prepared", "prepared_h264"])
def test_quality_is_that_of_each_kept_frame(source: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    prepared = request.getfixturevalue(source)
    figures = pack(prepared, tmp_path / "m.zarr", "--budget", "all", "--frames", "2", "--codec", "jpeg:30", "--quality")
    dataset, decibels = StoredDataset.open(prepared), []
    for _, _, exemplars in contents_by_zarr(tmp_path / "m.zarr").values():
        for key, _, _, _, _, _, frames, _, _, units in exemplars:
            for frame, unit in zip(frames, units, strict=True):
                before = dataset.decode_frame(dataset.by_key[key], frame).astype(float)
                after = np.asarray(Image.open(io.BytesIO(unit)).convert("RGB"))
                decibels.append(10 * np.log10(255**2 / ((before - after) ** 2).mean()))
    quality = figures["quality"]
    assert (quality["frames"], quality["identical"]) == (len(decibels), 0)
    assert quality["psnr_db"] == pytest.approx(np.mean(decibels), abs=0.3)  # of decoders that round differently
    assert quality["worst_psnr_db"] == pytest.approx(np.min(decibels), abs=0.3)
    assert 0.3 < quality["worst_ssim"] < quality["ssim"] < 0.99
    better = pack(prepared, tmp_path / "n.zarr", "--budget", "all", "--frames", "2", "--codec", "jpeg:90", "--quality")
    assert better["quality"]["psnr_db"] > quality["psnr_db"] + 3
    assert better["quality"]["ssim"] > quality["ssim"]


def test_what_loses_nothing_says_so(prepared: Path, tmp_path: Path) -> None:
    arguments = ("--budget", "6v", "--frames", "2", "--quality")
    quality = pack(prepared, tmp_path / "m.zarr", *arguments)["quality"]
    assert quality["identical"] == quality["frames"]
    assert (quality["psnr_db"], quality["worst_psnr_db"], quality["ssim"], quality["worst_ssim"]) == (None, None, 1, 1)
    result = memory("pack", prepared, "--out", tmp_path / "n.zarr", *arguments)
    assert "PSNR infinite: no frame differs, SSIM 1.0000 (worst frame 1.0000); " in result.stdout


@pytest.mark.parametrize(
    ("split", "taken", "numbers"),
    [((), "train", "0123"), (("--split", "test"), "test", "4"), (("--split", "all"), None, "01234")],
)
def test_split_is_taken(
    in_splits: Path, tmp_path: Path, split: tuple[str, ...], taken: str | None, numbers: str
) -> None:
    figures = pack(in_splits, tmp_path / "m.zarr", "--budget", "all", *split)
    assert figures["packed"]["split"] == taken
    for _, _, exemplars in contents_by_zarr(tmp_path / "m.zarr").values():
        assert sorted(exemplar[0][-1] for exemplar in exemplars) == list(numbers)


def test_instance_in_two_splits_is_taken_once(in_splits: Path, tmp_path: Path) -> None:
    table = read_source(in_splits.parent / "videos")
    videos = [
        replace(video, instances=(*video.instances, replace(video.instances[0], split="second")))
        for video in table.videos
    ]
    prepare_table(replace(table, videos=tuple(videos)), tmp_path / "twice")
    assert len(StoredDataset.open(tmp_path / "twice").instances) == 20
    assert (
        pack(tmp_path / "twice", tmp_path / "m.zarr", "--budget", "all", "--split", "all")["totals"]["exemplars"] == 10
    )


def test_choices_and_seed_are_passed_on(in_splits: Path, tmp_path: Path) -> None:
    def kept(name: str, *arguments: str) -> list[tuple[str, tuple[int, ...]]]:
        pack(in_splits, tmp_path / name, "--frames", "2", *arguments)
        return [(one[0], one[6]) for _, _, ranked in contents_by_zarr(tmp_path / name).values() for one in ranked]

    some = [kept(f"seed {seed}", "--budget", "4v", "--seed", str(seed)) for seed in range(4)]
    assert kept("again", "--budget", "4v", "--seed", "3") == some[3]
    assert len({str(one) for one in some}) > 1
    assert all(frames == (0, 1) for _, frames in kept("first", "--budget", "all", "--frame-choice", "first"))
    for seed in range(4):  # of the four of a class, 0 and 1 are of one group
        spread = kept(f"spread {seed}", "--budget", "4v", "--videos", "spread", "--seed", str(seed))
        for pair in (spread[:2], spread[2:]):
            assert len({key[-1] in "01" for key, _ in pair}) == 2


def test_damaged_videos_are_passed_over_and_named(prepared: Path, tmp_path: Path) -> None:
    key = max(StoredDataset.open(prepared).videos, key=lambda video: video.n_frames).key
    where = damage(prepared, tmp_path / "tiny", key, 7)
    arguments = ("--budget", "all", "--frames", "all")
    figures = pack(tmp_path / "tiny", tmp_path / "m.zarr", *arguments)
    assert figures["totals"]["exemplars"] == 11
    (reason,) = figures["packed"]["passed_over"]
    assert reason.startswith(where)
    result = memory("pack", tmp_path / "tiny", "--out", tmp_path / "n.zarr", *arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "1 passed over, for their frames are damaged" in words(result.stdout)
    assert where in result.stdout


def test_existing_memory_is_left_alone(prepared: Path, tmp_path: Path) -> None:
    pack(prepared, tmp_path / "m.zarr", "--budget", "3v")
    before = bytes_of(tmp_path / "m.zarr")
    for budget in ("6v", "none"):
        result = memory("pack", prepared, "--out", tmp_path / "m.zarr", "--budget", budget)
        explains(result, f"{tmp_path / 'm.zarr'} holds a memory of 3 exemplars already; choose another place")
    assert bytes_of(tmp_path / "m.zarr") == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    explains(
        memory("pack", prepared, "--out", tmp_path / "other", "--budget", "3v"), "holds what is no part of a memory"
    )
    explains(memory("pack", prepared, "--out", prepared, "--budget", "3v"), "holds what is no part of a memory")
    assert bytes_of(tmp_path / "other") == {"letter.txt": b"dear"}
    with MemoryWriter.open(tmp_path / "busy.zarr"):
        explains(memory("pack", prepared, "--out", tmp_path / "busy.zarr", "--budget", "3v"), "another run is writing")
    assert pack(prepared, tmp_path / "busy.zarr", "--budget", "3v")["totals"]["exemplars"] == 3  # it is empty


def test_budgets_that_keep_little_or_nothing(prepared: Path, tmp_path: Path) -> None:
    result = memory("pack", prepared, "--out", tmp_path / "none.zarr", "--budget", "none")
    assert (result.exit_code, result.stderr) == (0, "")
    assert words(result.stdout)[0] == "0 exemplars packed, of 12 instances"
    result = memory("pack", prepared, "--out", tmp_path / "small.zarr", "--budget", "1kB")
    assert (result.exit_code, result.stderr) == (1, "")
    assert "3 of 3 classes have none: the budget is too small" in words(result.stdout)
    result = memory("pack", prepared, "--out", tmp_path / "two.zarr", "--budget", "2v")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "1 of 3 classes have none: the budget is too small" in words(result.stdout)
    result = memory("pack", prepared, "--out", tmp_path / "tiny.zarr", "--budget", "10B")
    explains(result, "budget 10B is 10 bytes, but a memory without exemplars takes ")
    assert show(tmp_path / "tiny.zarr")["totals"]["exemplars"] == 0


BAD_VALUES = {
    "budget": (["--budget", "4"], "budget '4' is not understood; write videos (2020v)"),
    "budget 0": (["--budget", "0v"], "budget of 0 videos is out of range"),
    "frames": (["--frames", "few"], "frames per video 'few' is not understood; write 1 or more, e.g. 8, or all"),
    "frames 0": (["--frames", "0"], "frames per video '0' is not understood"),
    "codec": (["--codec", "mpeg2"], "codec 'mpeg2' is not known; "),
    "quality of a codec": (["--codec", "jpeg:101"], "codec 'jpeg:101': quality '101' is not allowed"),
    "short side": (["--codec", "h264:24@4"], "codec 'h264:24@4': short side '4' is not allowed"),
    "frame choice": (["--frame-choice", "best"], "frame choice 'best' is not known; allowed: uniform, random, "),
    "video choice": (["--videos", "best"], "video choice 'best' is not known; allowed: random, herding, "),
    "herding": (
        ["--videos", "herding"],
        "'herding' needs features, and packing trains no model that has any; allowed: ",
    ),
    "nearest": (
        ["--videos", "nearest"],
        "'nearest' needs features, and packing trains no model that has any; allowed: ",
    ),
    "split": (["--split", "train"], "split 'train' is not one of tiny; allowed: all, since it has no splits"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_VALUES.values(), ids=BAD_VALUES.keys())
def test_bad_values_are_explained_and_nothing_is_written(
    prepared: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    explains(memory("pack", prepared, "--out", tmp_path / "m.zarr", "--budget", "3v", *arguments), message)
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_go_together_is_explained(
    prepared_h264: Path, prepared: Path, in_splits: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for dataset, out, arguments, message in (
        (prepared_h264, "m.zarr", (), "codec copy keeps the JPEG frames of a data set, and this one holds h264"),
        (tmp_path / "none", "m.zarr", (), "is not a prepared data set (no dataset.json)"),
        (in_splits, "m.zarr", ("--split", "dev"), "split 'dev' is not one of splits; allowed: test, train or all"),
        (prepared, "file", (), str(tmp_path / "file")),
        (prepared, "file/m.zarr", (), str(tmp_path / "file" / "m.zarr")),
    ):
        result = memory("pack", dataset, "--out", tmp_path / out, "--budget", "3v", *arguments)
        explains(result, message)
    figures = pack(prepared_h264, tmp_path / "m.zarr", "--budget", "3v", "--codec", "h264:20")  # nothing is in the way
    assert figures["totals"]["exemplars"] == 3


def test_stopped_packing_leaves_an_empty_memory_and_can_be_done_again(prepared: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    arguments = ("memory", "pack", prepared, "--out", path, "--budget", "all", "--frames", "all", "--codec", "jxl:0.1")
    command = RunningCommand(*arguments)
    assert command.wait_until((path / "zarr.json").exists)
    command.process.send_signal(signal.SIGINT)
    stdout, stderr = command.process.communicate(timeout=120)
    assert (command.process.returncode, stdout) == (130, ""), stderr
    assert stderr == f"stopped. Nothing is half made: {path} holds all that was packed, or nothing.\n"
    assert command.wait_until_alone() == []
    assert {"zarr.json"} <= set(files_of(path)) <= {"zarr.json", "exemplars/zarr.json"}
    assert pack(prepared, path, "--budget", "all", "--frames", "2")["totals"]["exemplars"] == 12


# the command line itself


def commands() -> dict[str, Any]:
    group: Any = typer.main.get_command(app)
    return dict(group.commands["memory"].commands)


def test_flags_are_those_that_users_know() -> None:
    flags = {
        name: {word for parameter in command.params for word in (*parameter.opts, *parameter.secondary_opts)}
        for name, command in commands().items()
    }
    assert flags == {name: set(listed.split()) for name, listed in FLAGS.items()}


@pytest.mark.parametrize("name", FLAGS)
def test_help_tells_of_every_flag(name: str) -> None:
    for help_flag in ("--help", "-h"):
        result = memory(name, help_flag)
        assert (result.exit_code, result.stderr) == (0, "")
        assert all(word in result.stdout for word in FLAGS[name].split() if word.startswith("-"))
    for parameter in commands()[name].params:
        assert parameter.help, f"{name} {parameter.name} has no help"


def test_help_of_the_group_names_its_commands() -> None:
    result = memory("--help")
    assert (result.exit_code, result.stderr) == (0, "")
    assert all(re.search(rf"\b{name}\b", result.stdout) for name in FLAGS)


@pytest.mark.parametrize(
    "arguments", [["show"], ["pack", "x"], ["pack", "x", "--out", "y"], ["pack", "x", "--budget", "3v"], ["nonsense"]]
)
def test_wrong_usage_has_status_2(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = memory(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage: " in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_other_commands_do_not_wait_for_torch() -> None:
    code = "import sys, vclimb.cli.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0
