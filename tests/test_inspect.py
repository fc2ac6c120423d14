"""The output of `inspect`, against statistics and pictures that are computed another way."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from dataset_cases import prepare_table
from PIL import Image
from typer.testing import CliRunner, Result
from video_cases import make_video

from vclimb.cli.main import app
from vclimb.pipeline.dataset.contact_sheet import (
    FRAME_GAP,
    HEADER_HEIGHT,
    LABEL_WIDTH,
    LINE_HEIGHT,
    MARGIN,
    MIN_WIDTH,
    ROW_PADDING,
    cell_size,
    contact_sheet,
)
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.sources import read_source
from vclimb.pipeline.sources.table import Instance, SourceVideos

AWKWARD_LABELS = [
    "[red]alarm", "[bold", "it's \"quoted\"", "back\\slash\\", "\\[b]\\\\", ":dog: \N{DOG FACE}", "über 走る", "a  b"
]  # fmt: skip
CONTROL_LABELS = {"es\x1b[31mcape": r"es\x1b[31mcape", "new\nline": r"new\nline"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    make_video(folder / "train" / "walk" / "a.mp4", frames=10, fps=25)
    make_video(folder / "train" / "walk" / "b.mp4", frames=20, fps=10)
    make_video(folder / "train" / "run" / "c.mp4", frames=12, fps="30000/1001", size="96x64")
    make_video(folder / "test" / "run" / "d.mp4", frames=14, fps=25)
    (folder / "test" / "run" / "e.mp4").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def prepared(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four videos of two classes; one video belongs to both."""
    out = tmp_path_factory.mktemp("prepared") / "small"
    table = read_source(source)
    videos = [
        replace(video, instances=(*video.instances, Instance("run", "train", 0.1, 0.3)))
        if video.path.endswith("a.mp4")
        else video
        for video in table.videos
    ]
    prepare_table(replace(table, videos=SourceVideos.of(videos)), out)
    return out


@pytest.fixture(scope="module")
def awkward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class for each name that could be mistaken for markup or a command."""
    folder = tmp_path_factory.mktemp("awkward")
    for label in (*AWKWARD_LABELS, *CONTROL_LABELS):
        make_video(folder / "source" / label / "v.mp4", frames=2)
    prepare_table(read_source(folder / "source"), folder / "data")
    return folder / "data"


def inspect(*arguments: str | Path) -> Result:
    return CliRunner(env={"COLUMNS": "100", "NO_COLOR": "1"}).invoke(app, ["inspect", *map(str, arguments)])


def test_figures_are_those_of_the_tables(prepared: Path, source: Path) -> None:
    result = inspect(prepared, "--json")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    videos = pq.read_table(prepared / "videos.parquet").to_pylist()
    instances = pq.read_table(prepared / "instances.parquet").to_pylist()
    stored = sum(row["bytes"] for row in videos)
    frames = [row["n_frames"] for row in videos]
    seconds = [10 / 25, 20 / 10, 12 * 1001 / 30000, 14 / 25]
    sources = sum(path.stat().st_size for path in source.rglob("*.mp4"))  # the video that failed is empty
    assert sorted(frames) == [10, 12, 14, 20]
    assert figures["totals"] == {
        "classes": 2, "videos": 4, "instances": 5, "frames": 56, "seconds": round(sum(seconds), 3),
        "bytes": stored, "source_bytes": sources, "errors": 1,
    }  # fmt: skip
    assert figures["frames"] == [10, 13, 20]
    assert figures["seconds"] == pytest.approx([min(seconds), statistics.median(seconds), max(seconds)])
    assert figures["fps"] == {"25": 2, "10": 1, "29.97": 1}
    assert figures["sizes"] == {"64x48": 3, "96x64": 1}
    assert figures["splits"] == {"train": 4, "test": 1}
    assert figures["bytes_per_second"] == pytest.approx(stored / sum(seconds), rel=1e-3)
    assert figures["bytes_per_frame"] == pytest.approx(stored / 56)
    assert figures["compression"] == pytest.approx(sources / stored)
    assert figures["errors"] == {"open": 1}
    assert figures["settings"]["codec"] == "jpeg"
    of_run = {row["key"] for row in instances if row["label"] == "run"}
    assert len(of_run) == 3
    assert figures["classes"][0] == {
        "label": "run", "videos": 3, "instances": 3, "splits": {"train": 2, "test": 1}, "frames": 36,
        "seconds": round(seconds[0] + seconds[2] + seconds[3], 3),
        "bytes": sum(row["bytes"] for row in videos if row["key"] in of_run),
    }  # fmt: skip
    assert [row["label"] for row in figures["classes"]] == ["run", "walk"]


def test_the_text_shows_the_same_statistics(prepared: Path) -> None:
    result = inspect(prepared)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[0] == "small: 2 classes, 4 videos, 5 instances"
    assert "stored as jpeg, quality 5, short side up to 256 px" in lines
    assert "splits train (4), test (1)" in lines
    assert "frames 56 in all; a video 10 to 20, median 13" in lines
    assert "fps 25 (2), 29.97 (1), 10 (1)" in lines
    assert "errors open (1)" in lines
    assert any(line.startswith("run 3 3 36 1.4 ") for line in lines)


def test_contact_sheet_has_a_row_for_each_class_and_the_middle_frames(prepared: Path, tmp_path: Path) -> None:
    result = inspect(prepared, "--contact-sheet", tmp_path / "sheet.png", "--columns", "2")
    assert result.exit_code == 0, result.output
    assert str(tmp_path / "sheet.png") in result.stdout
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert (sheet.format, sheet.mode) == ("PNG", "RGB")
        assert sheet.size == (MIN_WIDTH, HEADER_HEIGHT + 2 * (LINE_HEIGHT + 2 * ROW_PADDING) + MARGIN)
        drawn = np.asarray(sheet).astype(int)
    dataset = StoredDataset.open(prepared)
    for row, label in enumerate(["run", "walk"]):
        top, left = HEADER_HEIGHT + row * (LINE_HEIGHT + 2 * ROW_PADDING) + ROW_PADDING, MARGIN + LABEL_WIDTH
        assert drawn[top : top + LINE_HEIGHT, MARGIN:left].min() < 100  # the name
        instances = [instance for instance in dataset.instances if instance.label == label]
        for instance in (instances[0], instances[-1]):
            middle = (instance.start_frame + instance.end_frame) // 2
            frame = Image.fromarray(dataset.decode_frame(dataset.by_key[instance.key], middle))
            expected = frame.resize(cell_size(*frame.size), Image.Resampling.LANCZOS)
            cell = drawn[top : top + expected.height, left : left + expected.width]
            assert np.array_equal(cell, np.asarray(expected))
            left += expected.width + FRAME_GAP
    again = contact_sheet(dataset, columns=2)
    assert np.array_equal(np.asarray(again), drawn)


def test_contact_sheet_of_many_classes_samples_them(awkward: Path) -> None:
    sheet = contact_sheet(StoredDataset.open(awkward), columns=1, max_rows=3)
    assert sheet.height == HEADER_HEIGHT + 3 * (LINE_HEIGHT + 2 * ROW_PADDING) + MARGIN


def test_names_are_printed_unchanged(awkward: Path, tmp_path: Path) -> None:
    result = inspect(awkward, "--contact-sheet", tmp_path / "sheet.png")
    assert result.exit_code == 0, result.output
    for label in AWKWARD_LABELS:
        assert f"\n{label}  " in result.stdout
    for label, shown in CONTROL_LABELS.items():
        assert f"\n{shown}  " in result.stdout
        assert label not in result.stdout
    listed = json.loads(inspect(awkward, "--json").stdout)
    assert [row["label"] for row in listed["classes"]] == sorted([*AWKWARD_LABELS, *CONTROL_LABELS])


def test_h264_is_drawn_too(source: Path, tmp_path: Path) -> None:
    prepare_table(read_source(source), tmp_path / "data", codec="h264", fps=Fraction(10))
    result = inspect(tmp_path / "data", "--contact-sheet", tmp_path / "sheet.PNG")
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "sheet.PNG") as sheet:
        assert sheet.height == HEADER_HEIGHT + 2 * (LINE_HEIGHT + 2 * ROW_PADDING) + MARGIN


BAD: dict[str, tuple[list[str], str]] = {
    "not a png": (["--contact-sheet", "sheet.jpg"], "picture 'sheet.jpg' must end in .png"),
    "no such folder": (["--contact-sheet", "no/sheet.png"], "there is no folder 'no'"),
    "a folder": (["--contact-sheet", "folder.png"], "can't be written: Is a directory"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments_are_explained(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    result = inspect(prepared, *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]


def test_frames_that_cannot_be_shown_are_named(source: Path, tmp_path: Path) -> None:
    prepare_table(read_source(source), tmp_path / "small")
    tar = tmp_path / "small" / "small-000000.tar"
    whole = tar.read_bytes()
    video = StoredDataset.open(tmp_path / "small").videos[0]
    tar.write_bytes(whole[: video.offset] + bytes(video.bytes) + whole[video.offset + video.bytes :])
    assert inspect(tmp_path / "small").exit_code == 0
    result = inspect(tmp_path / "small", "--contact-sheet", tmp_path / "sheet.png")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: frame {video.n_frames // 2} of {video.key!r} (small-000000.tar, byte ")
    tar.unlink()
    result = inspect(tmp_path / "small", "--contact-sheet", tmp_path / "sheet.png")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "small-000000.tar: No such file" in result.stderr
    assert not (tmp_path / "sheet.png").exists()
