"""One bad video never stops a run: each odd video is stored right, or explained in errors.jsonl."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import video_cases_broken  # noqa: F401 - each registers its cases
import video_cases_formats  # noqa: F401
import video_cases_geometry  # noqa: F401
import video_cases_timelines  # noqa: F401
import video_cases_uneven  # noqa: F401
from dataset_cases import InlineExecutor
from video_cases import (
    CASES,
    REAL_VIDEOS,
    Case,
    Failed,
    Stored,
    frames_of,
    grey_levels,
    reasons,
    row_contrast,
    sound_video,
)

from vclimb.pipeline.dataset.dataset import StoredDataset, StoredVideo
from vclimb.pipeline.dataset.settings import CODECS
from vclimb.pipeline.sources.table import printable_path
from vclimb.pipeline.transcode.prepare import PrepareSummary
from vclimb.pipeline.transcode.verify import verify

PrepareFolder = Callable[..., PrepareSummary]
N_DAMAGED = 42  # seven of each kind


def assert_sound(out: Path) -> None:
    """Check that `vclimb verify --decode` finds no problem."""
    assert verify(out, decode=True, workers=1, progress=False).problems == []


# All cases in one run


@pytest.fixture(scope="module")
def odd_videos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Case]]:
    folder = tmp_path_factory.mktemp("odd")
    cases = [case for case in CASES if case.name != "dropped_frames.avi" or REAL_VIDEOS.is_dir()]
    if len(cases) < len(CASES):
        warnings.warn(f"without dropped_frames.avi: there is no {REAL_VIDEOS}", stacklevel=1)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda case: case.make(folder / case.name), cases))
    return folder, cases


@pytest.mark.parametrize("codec", ["jpeg", "h264"])
def test_every_odd_video_comes_out_right_or_is_explained(
    codec: str, odd_videos: tuple[Path, list[Case]], tmp_path: Path, prepare_folder: PrepareFolder
) -> None:
    folder, cases = odd_videos
    prepare_folder(folder, tmp_path / "out", codec=codec)
    dataset = StoredDataset.open(tmp_path / "out")
    stored = {video.source: video for video in dataset.videos}
    errors = {error.path: error for error in dataset.catalog.errors}
    wrong = {}
    for case in cases:
        path = printable_path(case.name)
        try:
            assert (path in stored) != (path in errors), "must be either stored or explained"
            if isinstance(case.outcome, Failed):
                assert path in errors, f"is stored, with {stored[path].n_frames} frames"
                assert errors[path].stage == case.outcome.stage, errors[path]
                assert case.outcome.reason in errors[path].reason, errors[path]
            else:
                assert path in stored, errors[path]
                assert_stored(dataset, stored[path], case.outcome)
        except AssertionError as error:
            wrong[path] = str(error)
    assert not wrong, "".join(f"\n{path}: {what}" for path, what in wrong.items())
    assert len(stored) + len(errors) == len(cases)
    assert_sound(tmp_path / "out")


def assert_stored(dataset: StoredDataset, video: StoredVideo, expected: Stored) -> None:
    multiple = CODECS[video.codec].multiple
    scale = min(1.0, 256 / min(expected.size))
    width, height = (max(multiple, round(side * scale / multiple) * multiple) for side in expected.size)
    assert (video.width, video.height, video.n_frames) == (width, height, expected.frames)
    if expected.fps is not None:
        assert video.fps_fraction == expected.fps
    if expected.times is None:
        assert video.frame_seconds is None
    else:
        assert video.frame_seconds == pytest.approx(expected.times, abs=2e-3)
    assert times_of(dataset, video) == [number / video.fps_fraction for number in range(video.n_frames)]
    if expected.check is not None:
        frames = frames_of(dataset, video)
        assert frames.shape == (expected.frames, height, width, 3)
        expected.check(frames)


def times_of(dataset: StoredDataset, video: StoredVideo) -> list[Fraction]:
    """Time at which each stored frame is shown, in seconds."""
    with dataset.open_video(video) as file, av.open(file) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        return sorted(packet.pts * stream.time_base for packet in container.demux(stream) if packet.size)


def test_at_a_given_rate_every_timeline_keeps_its_length(
    odd_videos: tuple[Path, list[Case]], tmp_path: Path, prepare_folder: PrepareFolder
) -> None:
    folder, cases = odd_videos
    prepare_folder(folder, tmp_path / "out", fps=Fraction(10))
    dataset = StoredDataset.open(tmp_path / "out")
    stored = {video.source: video for video in dataset.videos}
    for case in cases:
        if isinstance(case.outcome, Failed):
            continue
        video = stored[printable_path(case.name)]
        assert video.frame_seconds is None, "at a given rate, frames are even"
        if case.outcome.times is not None:
            assert abs(video.n_frames - case.outcome.times[-1] * 10) <= 1, case.name
        elif case.outcome.fps is not None:
            assert abs(video.n_frames - case.outcome.frames / case.outcome.fps * 10) <= 1, case.name
        assert times_of(dataset, video) == [Fraction(number, 10) for number in range(video.n_frames)], case.name


def test_frames_of_a_variable_rate_are_shown_at_their_times(tmp_path: Path, prepare_folder: PrepareFolder) -> None:
    by_name = {case.name: case for case in CASES}
    names = [name for name in by_name if name.startswith("variable.")]
    (tmp_path / "in").mkdir()
    for name in names:
        by_name[name].make(tmp_path / "in" / name)
    prepare_folder(tmp_path / "in", tmp_path / "out", executor=InlineExecutor(), fps=Fraction(25))
    dataset = StoredDataset.open(tmp_path / "out")
    assert len(dataset.videos) == len(names) == 3
    numbers = [*range(6), *[5] * 30, *range(6, 12)]
    for video in dataset.videos:
        assert video.n_frames == len(numbers)
        levels = grey_levels(frames_of(dataset, video))
        np.testing.assert_allclose(levels, np.array(numbers) * 16 * 255 / 219, atol=8)


def test_any_damage_is_survived(tmp_path: Path, prepare_folder: PrepareFolder) -> None:
    """Videos with bytes overwritten, lost or inserted anywhere are stored intact or explained."""
    dice = random.Random(5)
    (tmp_path / "in").mkdir()
    kinds = [(".mp4",), (".avi", "-c:v", "mpeg4"), (".mkv",), (".ts",), (".webm", "-c:v", "libvpx"), (".gif",)]
    for number in range(N_DAMAGED):
        suffix, *output = kinds[number % len(kinds)]
        data = bytearray(sound_video(suffix, 12, *output))
        for _ in range(dice.choice([1, 3, 10])):
            start = dice.randrange(len(data))
            data[start : start + dice.choice([0, 1, 1, 100])] = dice.randbytes(dice.choice([0, 1, 1, 100]))
        (tmp_path / "in" / f"{number}{suffix}").write_bytes(data)
    summary = prepare_folder(tmp_path / "in", tmp_path / "out", timeout_seconds=20)
    assert summary.prepared + len(summary.failed_now) == N_DAMAGED
    assert min(summary.prepared, len(summary.failed_now)) > 5, "the dice are loaded"
    assert not [error for error in summary.failed_now if "unforeseen" in error.reason]
    assert_sound(tmp_path / "out")


def test_the_interlaced_cases_are_combed_as_they_come(odd_videos: tuple[Path, list[Case]]) -> None:
    """Check that sources have combs: otherwise a test that finds none afterwards would prove nothing."""
    folder, cases = odd_videos
    names = [case.name for case in cases if case.name.startswith("interlaced")]
    assert len(names) == 3
    for name in names:
        with av.open(str(folder / name)) as container:
            frames = list(container.decode(video=0))
        assert all(frame.interlaced_frame for frame in frames)
        assert row_contrast(np.stack([frame.to_ndarray(format="rgb24") for frame in frames])) > 10


# Trying again


def test_retry_takes_just_the_failed_videos(tmp_path: Path, prepare_folder: PrepareFolder) -> None:
    folder, out, inline = tmp_path / "in", tmp_path / "out", InlineExecutor()
    folder.mkdir()
    (folder / "good.mp4").write_bytes(sound_video())
    (folder / "cut.mp4").write_bytes(sound_video()[:500])
    (folder / "empty.mp4").touch()
    assert prepare_folder(folder, out, executor=inline).prepared == 1
    assert set(reasons(out)) == {"cut.mp4", "empty.mp4"}

    (folder / "cut.mp4").write_bytes(sound_video())
    again = prepare_folder(folder, out, executor=inline)
    assert (again.prepared, again.failed_before) == (0, 2), "a failed video is left alone until it is asked for"

    retried = prepare_folder(folder, out, executor=inline, retry_failed=True)
    assert (retried.prepared, [error.path for error in retried.failed_now]) == (1, ["empty.mp4"])
    assert reasons(out) == {"empty.mp4": "open: the file is empty (0 bytes)"}
    assert {video.source for video in StoredDataset.open(out).videos} == {"good.mp4", "cut.mp4"}


def test_keep_truncated_stores_what_decodes_of_damaged_videos(tmp_path: Path, prepare_folder: PrepareFolder) -> None:
    by_name = {case.name: case for case in CASES}
    names = ["cut.avi", "cut.mkv", "cut_faststart.mp4", "scratched.mp4", "damaged_end.gif", "damaged_middle.avi"]
    (tmp_path / "in").mkdir()
    for name in names:
        by_name[name].make(tmp_path / "in" / name)
    summary = prepare_folder(tmp_path / "in", tmp_path / "out", executor=InlineExecutor(), keep_truncated=True)
    assert summary.prepared == len(names)
    n_frames = {video.source: video.n_frames for video in StoredDataset.open(tmp_path / "out").videos}
    assert n_frames.pop("damaged_end.gif") == n_frames.pop("damaged_middle.avi") == 3
    assert all(1 <= count < 12 for count in n_frames.values())
