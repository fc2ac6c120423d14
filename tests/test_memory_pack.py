"""`vclimb memory pack`: no budget is exceeded, and nothing is lost."""

from __future__ import annotations

import io
import json
import re
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dataset_cases import RunningCommand, prepare_table
from memory_cli_cases import apparent, explains, memory, pack, show, words
from memory_store_cases import bytes_of, contents_by_zarr, files_of
from PIL import Image
from stream_cases import damage
from video_cases import make_video

from vclimb.memory.choice.budget import MemoryBudget
from vclimb.memory.store.writer import MemoryWriter
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.sources import read_source
from vclimb.pipeline.sources.table import SourceVideos


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
    prepare_table(replace(table, videos=SourceVideos.of(videos)), folder / "splits")
    return folder / "splits"


@pytest.mark.parametrize(("frames", "rebalance"), [("3", ()), ("all", ("--rebalance",))])
@pytest.mark.parametrize("budget", ["1v", "7v", "3f", "25f", "9kB", "30kB", "60kB", "1GB", "all"])
def test_no_budget_is_exceeded(
    jpeg_folder: Path, tmp_path: Path, budget: str, rebalance: tuple[str, ...], frames: str
) -> None:
    path = tmp_path / "m.zarr"
    result = memory("pack", jpeg_folder, "--out", path, "--budget", budget, "--frames", frames, *rebalance, "--json")
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
    assert lines[1] == f"{frames} frames as jpeg: 4 uniform of a video, random videos, seed 0, rebalanced"
    allocated = figures["totals"]["allocated_bytes"]
    share = f"{size / 20_000:.1%}"
    assert lines[2] == f"budget 20kB: {size:,} bytes on disk ({allocated:,} allocated), {share} of it"
    assert lines[3] == f"{path}: 2 classes, {n} exemplars, {frames} frames"
    assert re.fullmatch(r"PSNR [\d.]+ dB \(worst frame [\d.]+\), SSIM 0[\d.]+ \(.*", lines[4])
    assert len(lines) == 5


def test_what_is_kept_are_the_data_sets_own_frames(jpeg_folder: Path, tmp_path: Path) -> None:
    pack(jpeg_folder, tmp_path / "m.zarr", "--budget", "all", "--frames", "3")
    dataset = StoredDataset.open(jpeg_folder)
    for name, _, exemplars in contents_by_zarr(tmp_path / "m.zarr").values():
        for key, _, _, _, _, _, frames, _, _, units in exemplars:
            video = dataset.by_key[key]
            assert video.labels == (name,)
            assert [dataset.frame_bytes(video, frame) for frame in frames] == list(units)


@pytest.mark.parametrize("source", ["jpeg_folder", "h264_folder"])
def test_quality_is_that_of_each_kept_frame(source: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    jpeg_folder = request.getfixturevalue(source)
    figures = pack(
        jpeg_folder, tmp_path / "m.zarr", "--budget", "all", "--frames", "2", "--codec", "jpeg:30", "--quality"
    )
    dataset, decibels = StoredDataset.open(jpeg_folder), []
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
    better = pack(
        jpeg_folder, tmp_path / "n.zarr", "--budget", "all", "--frames", "2", "--codec", "jpeg:90", "--quality"
    )
    assert better["quality"]["psnr_db"] > quality["psnr_db"] + 3
    assert better["quality"]["ssim"] > quality["ssim"]


def test_what_loses_nothing_says_so(jpeg_folder: Path, tmp_path: Path) -> None:
    arguments = ("--budget", "6v", "--frames", "2", "--quality")
    quality = pack(jpeg_folder, tmp_path / "m.zarr", *arguments)["quality"]
    assert quality["identical"] == quality["frames"]
    assert (quality["psnr_db"], quality["worst_psnr_db"], quality["ssim"], quality["worst_ssim"]) == (None, None, 1, 1)
    result = memory("pack", jpeg_folder, "--out", tmp_path / "n.zarr", *arguments)
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
        replace(video, instances=(*video.instances, replace(video.instances[0], split="val"))) for video in table.videos
    ]
    prepare_table(replace(table, videos=SourceVideos.of(videos)), tmp_path / "twice")
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


def test_damaged_videos_are_passed_over_and_named(jpeg_folder: Path, tmp_path: Path) -> None:
    key = max(StoredDataset.open(jpeg_folder).videos, key=lambda video: video.n_frames).key
    where = damage(jpeg_folder, tmp_path / "tiny", key, 7)
    arguments = ("--budget", "all", "--frames", "all")
    figures = pack(tmp_path / "tiny", tmp_path / "m.zarr", *arguments)
    assert figures["totals"]["exemplars"] == 11
    (reason,) = figures["packed"]["passed_over"]
    assert reason.startswith(where)
    result = memory("pack", tmp_path / "tiny", "--out", tmp_path / "n.zarr", *arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "1 passed over, for their frames are damaged" in words(result.stdout)
    assert where in result.stdout


def test_existing_memory_is_left_alone(jpeg_folder: Path, tmp_path: Path) -> None:
    pack(jpeg_folder, tmp_path / "m.zarr", "--budget", "3v")
    before = bytes_of(tmp_path / "m.zarr")
    for budget in ("6v", "none"):
        result = memory("pack", jpeg_folder, "--out", tmp_path / "m.zarr", "--budget", budget)
        explains(result, f"{tmp_path / 'm.zarr'} holds a memory of 3 exemplars already; choose another place")
    assert bytes_of(tmp_path / "m.zarr") == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    explains(
        memory("pack", jpeg_folder, "--out", tmp_path / "other", "--budget", "3v"), "holds what is no part of a memory"
    )
    explains(memory("pack", jpeg_folder, "--out", jpeg_folder, "--budget", "3v"), "holds what is no part of a memory")
    assert bytes_of(tmp_path / "other") == {"letter.txt": b"dear"}
    with MemoryWriter.open(tmp_path / "busy.zarr"):
        explains(
            memory("pack", jpeg_folder, "--out", tmp_path / "busy.zarr", "--budget", "3v"), "another run is writing"
        )
    assert pack(jpeg_folder, tmp_path / "busy.zarr", "--budget", "3v")["totals"]["exemplars"] == 3  # it is empty


def test_budgets_that_keep_little_or_nothing(jpeg_folder: Path, tmp_path: Path) -> None:
    result = memory("pack", jpeg_folder, "--out", tmp_path / "none.zarr", "--budget", "none")
    assert (result.exit_code, result.stderr) == (0, "")
    assert words(result.stdout)[0] == "0 exemplars packed, of 12 instances"
    result = memory("pack", jpeg_folder, "--out", tmp_path / "small.zarr", "--budget", "1kB")
    assert (result.exit_code, result.stderr) == (1, "")
    assert "3 of 3 classes have none: the budget is too small" in words(result.stdout)
    result = memory("pack", jpeg_folder, "--out", tmp_path / "two.zarr", "--budget", "2v")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "1 of 3 classes have none: the budget is too small" in words(result.stdout)
    result = memory("pack", jpeg_folder, "--out", tmp_path / "tiny.zarr", "--budget", "10B")
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
    "released-herding": (
        ["--videos", "released-herding"],
        "'released-herding' needs features, and packing trains no model that has any; allowed: ",
    ),
    "split": (["--split", "train"], "split 'train' is not one of tiny; allowed: all, since it has no splits"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_VALUES.values(), ids=BAD_VALUES.keys())
def test_bad_values_are_explained_and_nothing_is_written(
    jpeg_folder: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    explains(memory("pack", jpeg_folder, "--out", tmp_path / "m.zarr", "--budget", "3v", *arguments), message)
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_go_together_is_explained(
    h264_folder: Path, jpeg_folder: Path, in_splits: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for dataset, out, arguments, message in (
        (h264_folder, "m.zarr", ("--codec", "copy"), "codec copy keeps the JPEG frames of a data set, and this"),
        (tmp_path / "none", "m.zarr", (), "is not a prepared data set (no dataset.json)"),
        (in_splits, "m.zarr", ("--split", "dev"), "split 'dev' is not one of splits; allowed: test, train or all"),
        (jpeg_folder, "file", (), str(tmp_path / "file")),
        (jpeg_folder, "file/m.zarr", (), str(tmp_path / "file" / "m.zarr")),
    ):
        result = memory("pack", dataset, "--out", tmp_path / out, "--budget", "3v", *arguments)
        explains(result, message)
    figures = pack(h264_folder, tmp_path / "m.zarr", "--budget", "3v", "--codec", "h264:20")  # nothing is in the way
    assert figures["totals"]["exemplars"] == 3


def test_stopped_packing_leaves_an_empty_memory_and_can_be_done_again(jpeg_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    arguments = (
        "memory",
        "pack",
        jpeg_folder,
        "--out",
        path,
        "--budget",
        "all",
        "--frames",
        "all",
        "--codec",
        "jxl:0.1",
    )
    command = RunningCommand(*arguments)
    assert command.wait_until((path / "zarr.json").exists)
    command.process.send_signal(signal.SIGINT)
    stdout, stderr = command.process.communicate(timeout=120)
    assert (command.process.returncode, stdout) == (130, ""), stderr
    assert stderr == f"stopped. Nothing is half made: {path} holds all that was packed, or nothing.\n"
    assert command.wait_until_alone() == []
    assert {"zarr.json"} <= set(files_of(path)) <= {"zarr.json", "exemplars/zarr.json"}
    assert pack(jpeg_folder, path, "--budget", "all", "--frames", "2")["totals"]["exemplars"] == 12
