"""One bad video never stops a run: each odd video comes out right, or is explained in errors.jsonl."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
from video_cases import (
    CASES,
    REAL_VIDEOS,
    VARIABLE_SECONDS,
    Case,
    Failed,
    Frames,
    PeakMemory,
    Stored,
    grey_levels,
    make_video,
    run_ffmpeg_tool,
    sound_video,
)

import pipeline.executor
from pipeline.dataset import Dataset, StoredVideo
from pipeline.encode import CODECS
from pipeline.executor import LocalExecutor
from pipeline.ffmpeg import Ffmpeg, find_ffmpeg
from pipeline.prepare import Summary
from pipeline.sources.table import printable_path
from pipeline.verify import verify

PrepareFolder = Callable[..., Summary]

_PR_CAPBSET_DROP = 24
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2


def frames_of(dataset: Dataset, video: StoredVideo) -> Frames:
    return np.stack([dataset.decode_frame(video, number) for number in range(video.n_frames)])


def assert_sound(out: Path) -> None:
    """`vclimb verify --decode` finds nothing."""
    assert verify(out, True, 2, lambda _videos: None).problems == []


def reasons(out: Path) -> dict[str, str]:
    return {row["path"]: f"{row['stage']}: {row['reason']}" for row in Dataset.open(out).catalog.errors}


# All cases in one run


@pytest.fixture(scope="module")
def odd_videos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Case]]:
    folder = tmp_path_factory.mktemp("odd")
    cases = [case for case in CASES if case.name != "dropped_frames.avi" or REAL_VIDEOS.is_dir()]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda case: case.make(folder / case.name), cases))
    return folder, cases


@pytest.mark.parametrize("codec", ["jpeg", "h264"])
def test_every_odd_video_comes_out_right_or_is_explained(
    codec: str, odd_videos: tuple[Path, list[Case]], tmp_path: Path, prepare_folder: PrepareFolder
) -> None:
    folder, cases = odd_videos
    prepare_folder(folder, tmp_path / "out", codec=codec)
    dataset = Dataset.open(tmp_path / "out")
    stored = {video.source: video for video in dataset.videos}
    errors = {row["path"]: row for row in dataset.catalog.errors}
    wrong = {}
    for case in cases:
        path = printable_path(case.name)
        try:
            assert (path in stored) != (path in errors), "must be either stored or explained"
            if isinstance(case.outcome, Failed):
                assert path in errors, f"is stored, with {stored[path].n_frames} frames"
                assert errors[path]["stage"] == case.outcome.stage, errors[path]
                assert case.outcome.reason in errors[path]["reason"], errors[path]
            else:
                assert path in stored, errors[path]
                assert_stored(dataset, stored[path], case.outcome)
        except AssertionError as error:
            wrong[path] = str(error)
    assert not wrong, "".join(f"\n{path}: {what}" for path, what in wrong.items())
    assert len(stored) + len(errors) == len(cases)
    assert_sound(tmp_path / "out")


def assert_stored(dataset: Dataset, video: StoredVideo, expected: Stored) -> None:
    multiple = CODECS[video.codec][3]
    scale = min(1.0, 256 / min(expected.size))
    width, height = (max(multiple, round(side * scale / multiple) * multiple) for side in expected.size)
    assert (video.width, video.height, video.n_frames) == (width, height, expected.frames)
    if expected.fps is not None:
        assert video.fps_fraction == expected.fps
    assert times_of(dataset, video) == [number / video.fps_fraction for number in range(video.n_frames)]
    if expected.check is not None:
        frames = frames_of(dataset, video)
        assert frames.shape == (expected.frames, height, width, 3)
        expected.check(frames)


def times_of(dataset: Dataset, video: StoredVideo) -> list[Fraction]:
    """When each stored frame is shown, in seconds."""
    with dataset.open_video(video) as file, av.open(file) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        return [packet.pts * stream.time_base for packet in container.demux(stream) if packet.size]


def test_at_a_given_rate_every_timeline_keeps_its_length(
    odd_videos: tuple[Path, list[Case]], tmp_path: Path, prepare_folder: PrepareFolder
) -> None:
    folder, cases = odd_videos
    prepare_folder(folder, tmp_path / "out", fps=Fraction(10))
    dataset = Dataset.open(tmp_path / "out")
    stored = {video.source: video for video in dataset.videos}
    for case in cases:
        if isinstance(case.outcome, Failed):
            continue
        video = stored[printable_path(case.name)]
        seconds = case.outcome.frames / case.outcome.fps if case.outcome.fps else VARIABLE_SECONDS
        if not case.name.startswith("one_frame"):
            assert abs(video.n_frames - seconds * 10) <= 1, case.name
        assert times_of(dataset, video) == [Fraction(number, 10) for number in range(video.n_frames)], case.name


def test_frames_of_a_variable_rate_are_shown_at_their_times(tmp_path: Path, prepare_folder: PrepareFolder) -> None:
    by_name = {case.name: case for case in CASES}
    names = [name for name in by_name if name.startswith("variable.")]
    (tmp_path / "in").mkdir()
    for name in names:
        by_name[name].make(tmp_path / "in" / name)
    prepare_folder(tmp_path / "in", tmp_path / "out", fps=Fraction(25))
    dataset = Dataset.open(tmp_path / "out")
    assert len(dataset.videos) == len(names) == 3
    numbers = [*range(6), *[5] * 30, *range(6, 12)]
    for video in dataset.videos:
        assert video.n_frames == len(numbers)
        levels = grey_levels(frames_of(dataset, video))
        np.testing.assert_allclose(levels, np.array(numbers) * 16 * 255 / 219, atol=8)


def test_any_damage_is_survived(tmp_path: Path, prepare_folder: PrepareFolder) -> None:
    """Bytes overwritten, lost or put in anywhere, in several containers: stored soundly or explained, every one."""
    dice = random.Random(5)
    (tmp_path / "in").mkdir()
    kinds = [(".mp4",), (".avi", "-c:v", "mpeg4"), (".mkv",), (".ts",), (".webm", "-c:v", "libvpx"), (".gif",)]
    for number in range(60):
        suffix, *output = kinds[number % len(kinds)]
        data = bytearray(sound_video(suffix, 12, *output))
        for _ in range(dice.choice([1, 3, 10])):
            start = dice.randrange(len(data))
            data[start : start + dice.choice([0, 1, 1, 100])] = dice.randbytes(dice.choice([0, 1, 1, 100]))
        (tmp_path / "in" / f"{number}{suffix}").write_bytes(data)
    summary = prepare_folder(tmp_path / "in", tmp_path / "out", timeout_seconds=20)
    assert summary.prepared + len(summary.failed_now) == 60
    assert min(summary.prepared, len(summary.failed_now)) > 5, "the dice are loaded"
    assert not [row for row in summary.failed_now if "unforeseen" in row["reason"]]
    assert_sound(tmp_path / "out")


# Trying again


def test_retry_takes_just_the_failed_ones(tmp_path: Path, prepare_folder: PrepareFolder) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "good.mp4").write_bytes(sound_video())
    (folder / "cut.mp4").write_bytes(sound_video()[:500])
    (folder / "empty.mp4").touch()
    assert prepare_folder(folder, out).prepared == 1
    assert set(reasons(out)) == {"cut.mp4", "empty.mp4"}

    (folder / "cut.mp4").write_bytes(sound_video())
    again = prepare_folder(folder, out)
    assert (again.prepared, again.failed_before) == (0, 2), "a failed video is left alone until it is asked for"

    retried = prepare_folder(folder, out, retry_failed=True)
    assert (retried.prepared, [row["path"] for row in retried.failed_now]) == (1, ["empty.mp4"])
    assert reasons(out) == {"empty.mp4": "open: the file is empty (0 bytes)"}
    assert {video.source for video in Dataset.open(out).videos} == {"good.mp4", "cut.mp4"}


def test_what_decodes_of_damaged_videos_is_stored_on_request(tmp_path: Path, prepare_folder: PrepareFolder) -> None:
    by_name = {case.name: case for case in CASES}
    names = ["cut.avi", "cut.mkv", "cut_faststart.mp4", "scratched.mp4"]
    (tmp_path / "in").mkdir()
    for name in names:
        by_name[name].make(tmp_path / "in" / name)
    assert prepare_folder(tmp_path / "in", tmp_path / "out", keep_truncated=True).prepared == len(names)
    assert all(1 <= video.n_frames < 12 for video in Dataset.open(tmp_path / "out").videos)


# Files that can't be read


def test_a_file_that_may_not_be_read_is_explained(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "good.mp4").write_bytes(sound_video())
    (tmp_path / "in" / "forbidden.mp4").write_bytes(sound_video())
    (tmp_path / "in" / "forbidden.mp4").chmod(0)
    script = tmp_path / "prepare.py"
    script.write_text(
        "import sys\n"
        f"sys.path[:0] = {[str(Path(__file__).parents[1]), str(Path(__file__).parent)]}\n"
        "from pathlib import Path\n"
        "from conftest import prepare_videos\n"
        "if __name__ == '__main__':\n"
        f"    prepare_videos(Path({str(tmp_path / 'in')!r}), Path({str(tmp_path / 'out')!r}))\n"
    )
    libc = ctypes.CDLL(None)

    def obey_permissions() -> None:
        """Root may read everything; without these two capabilities it is treated as anyone."""
        for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
            if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 and os.geteuid() == 0:
                os._exit(77)

    done = subprocess.run([sys.executable, script], preexec_fn=obey_permissions, timeout=60, check=False)
    if done.returncode == 77:
        pytest.skip("root may not give up its right to read everything here")
    assert done.returncode == 0
    assert reasons(tmp_path / "out") == {"forbidden.mp4": "open: Permission denied"}
    assert [video.source for video in Dataset.open(tmp_path / "out").videos] == ["good.mp4"]


@contextmanager
def unopenable(path: Path) -> Iterator[None]:
    """Whoever opens the file waits: the kernel asks us to give up a lease on it, and we don't."""
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    handle = os.open(path, os.O_RDWR)
    try:
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError as error:
        pytest.skip(f"no file leases here: {error}")
    try:
        yield
    finally:
        os.close(handle)
        signal.signal(signal.SIGIO, before)


def test_a_probe_that_hangs_is_ended(
    tmp_path: Path, prepare_folder: PrepareFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline.executor, "PROBE_TIMEOUT_SECONDS", 2.0)
    (tmp_path / "in").mkdir()
    for name in ("a.mp4", "hanging.mp4", "z.mp4"):
        (tmp_path / "in" / name).write_bytes(sound_video())
    with unopenable(tmp_path / "in" / "hanging.mp4"):
        summary = prepare_folder(tmp_path / "in", tmp_path / "out")
    assert summary.prepared == 2
    assert reasons(tmp_path / "out") == {"hanging.mp4": "probe: took over 2 s"}


class SlyExecutor(LocalExecutor):
    """Between probing and transcoding one file vanishes, one is emptied, and some are overwritten."""

    def probe(self, sources: Sequence[Path], on_probe: Callable[[], None]) -> list[dict[str, Any]]:
        found = super().probe(sources, on_probe)
        (sources[0].parent / "vanishing.mp4").unlink()
        (sources[0].parent / "emptied.mp4").write_bytes(b"")
        for overwritten in sources[0].parent.glob("*No space left on device*"):
            overwritten.write_bytes(b"something else")
        return found


def test_files_that_change_during_the_run_are_explained(tmp_path: Path, prepare_folder: PrepareFolder) -> None:
    """Even if their names stand in ffmpeg's message and read like a full disk, which would end the run."""
    (tmp_path / "in").mkdir()
    overwritten = ["No space left on device.mp4", "a\nNo space left on device\n.mp4"]
    for name in ["vanishing.mp4", "emptied.mp4", *overwritten, *(f"{number}.mp4" for number in range(8))]:
        (tmp_path / "in" / name).write_bytes(sound_video())
    assert prepare_folder(tmp_path / "in", tmp_path / "out", executor=SlyExecutor(2)).prepared == 8
    explained = reasons(tmp_path / "out")
    assert explained.pop("emptied.mp4") == "open: the file is empty (0 bytes)"
    assert explained.pop("vanishing.mp4") == "open: no such file"
    assert set(explained) == set(overwritten)
    assert all(reason.startswith("transcode: ffmpeg ended with status") for reason in explained.values())


# An ffmpeg that hangs or dies


def wrapped_ffmpeg(tmp_path: Path, for_bad_videos: str) -> Ffmpeg:
    """An ffmpeg that does something else where a source is called `bad`."""
    real = find_ffmpeg()
    script = tmp_path / "ffmpeg"
    script.write_text(f'#!/bin/sh\ncase "$*" in *bad*) {for_bad_videos};; esac\nexec "{real.path}" "$@"\n')
    script.chmod(0o755)
    return Ffmpeg(str(script), real.version, "a test")


def some_videos(folder: Path, n_good: int) -> None:
    folder.mkdir()
    for name in ["bad", *(f"good_{number}" for number in range(n_good))]:
        (folder / f"{name}.mp4").write_bytes(sound_video())


def assert_only_bad_is_missing(out: Path, n_good: int, reason: str) -> None:
    assert len(Dataset.open(out).videos) == n_good
    assert set(reasons(out)) == {"bad.mp4"}
    assert reason in reasons(out)["bad.mp4"]


@pytest.mark.parametrize("n_good", [3, 9], ids=["alone", "together with others"])
def test_a_decoder_that_hangs_is_ended(n_good: int, tmp_path: Path, prepare_folder: PrepareFolder) -> None:
    some_videos(tmp_path / "in", n_good)
    ffmpeg = wrapped_ffmpeg(tmp_path, "sleep 1234")
    prepare_folder(tmp_path / "in", tmp_path / "out", ffmpeg=ffmpeg, timeout_seconds=1.0)
    assert_only_bad_is_missing(tmp_path / "out", n_good, "transcode: ffmpeg took over 1 s")
    assert not running("1234"), "what hung is still there"


def test_a_decoder_that_crashes_is_explained(tmp_path: Path, prepare_folder: PrepareFolder) -> None:
    some_videos(tmp_path / "in", n_good := 9)
    ffmpeg = wrapped_ffmpeg(tmp_path, "kill -SEGV $$")
    prepare_folder(tmp_path / "in", tmp_path / "out", ffmpeg=ffmpeg)
    assert_only_bad_is_missing(tmp_path / "out", n_good, "transcode: ffmpeg ended with signal SIGSEGV")


@pytest.mark.parametrize("n_good", [3, 9], ids=["alone", "together with others"])
def test_a_worker_that_is_killed_does_not_stop_the_run(
    n_good: int, tmp_path: Path, prepare_folder: PrepareFolder
) -> None:
    some_videos(tmp_path / "in", n_good)
    ffmpeg = wrapped_ffmpeg(tmp_path, "exec sleep 1235")
    stop = threading.Event()

    def kill_the_worker() -> None:
        """The way the kernel does when memory runs out."""
        while not stop.wait(0.1):
            for hanging in running("1235"):
                with contextlib.suppress(psutil.Error):
                    hanging.parent().kill()

    killer = threading.Thread(target=kill_the_worker)
    killer.start()
    try:
        prepare_folder(tmp_path / "in", tmp_path / "out", ffmpeg=ffmpeg)
    finally:
        stop.set()
        killer.join()
    assert_only_bad_is_missing(tmp_path / "out", n_good, "transcode: the worker process died")
    deadline = time.monotonic() + 5
    while running("1235") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not running("1235"), "the ffmpeg of a killed worker lives on"


def running(argument: str) -> list[psutil.Process]:
    """The `sleep` processes of this argument."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cmdline()[-2:] == ["sleep", argument]:
                found.append(process)
    return found


# Length


def test_half_an_hour_stays_within_bounded_memory(tmp_path: Path, prepare_folder: PrepareFolder) -> None:
    make_video(tmp_path / "ten_seconds.mkv", "-c:v", "mpeg4", frames=100, fps=10)
    (tmp_path / "in").mkdir()
    looped = ["-stream_loop", "179", "-i", tmp_path / "ten_seconds.mkv", "-c", "copy"]
    run_ffmpeg_tool([*looped, tmp_path / "in" / "half_an_hour.mkv"])
    with PeakMemory() as peak:
        assert prepare_folder(tmp_path / "in", tmp_path / "out").prepared == 1
    (video,) = Dataset.open(tmp_path / "out").videos
    assert (video.n_frames, video.seconds) == (18_000, 1800)
    assert 20 * 10**6 < peak.bytes < 600 * 10**6
