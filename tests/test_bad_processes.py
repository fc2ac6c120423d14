"""Unreadable files, hanging decoders and killed workers: the run continues and reports them."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from dataset_cases import OBEYING_PERMISSIONS, require_permissions_to_count
from peak_memory import PeakMemory
from video_cases import (
    make_video,
    reasons,
    run_ffmpeg_tool,
    sound_video,
)

import vclimb.pipeline.transcode.executors.local
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.errors import VideoError
from vclimb.pipeline.transcode.executors.local import LocalExecutor
from vclimb.pipeline.transcode.ffmpeg import Ffmpeg, find_ffmpeg
from vclimb.pipeline.transcode.prepare import PrepareSummary
from vclimb.pipeline.transcode.probe import Probe

PrepareFolder = Callable[..., PrepareSummary]

# Files that can't be read


def test_a_file_that_may_not_be_read_is_explained(tmp_path: Path) -> None:
    require_permissions_to_count()
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
    done = subprocess.run([*OBEYING_PERMISSIONS, sys.executable, script], timeout=120, check=False)
    assert done.returncode == 0
    assert reasons(tmp_path / "out") == {"forbidden.mp4": "open: Permission denied"}
    assert [video.source for video in StoredDataset.open(tmp_path / "out").videos] == ["good.mp4"]


@contextmanager
def unopenable(path: Path) -> Iterator[None]:
    """Make every open of the file hang: the kernel asks this process for its lease, which it keeps."""
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
    monkeypatch.setattr(vclimb.pipeline.transcode.executors.local, "PROBE_TIMEOUT_SECONDS", 1.0)
    (tmp_path / "in").mkdir()
    for name in ("a.mp4", "hanging.mp4", "z.mp4"):
        (tmp_path / "in" / name).write_bytes(sound_video())
    with unopenable(tmp_path / "in" / "hanging.mp4"):
        summary = prepare_folder(tmp_path / "in", tmp_path / "out")
    assert summary.prepared == 2
    assert reasons(tmp_path / "out") == {"hanging.mp4": "probe: took over 1 s"}


class SlyExecutor(LocalExecutor):
    """Between probing and transcoding one file vanishes, one is emptied, and some are overwritten."""

    def probe(self, sources: Sequence[Path]) -> Iterator[tuple[int, Probe | VideoError]]:
        yield from super().probe(sources)
        (sources[0].parent / "vanishing.mp4").unlink()
        (sources[0].parent / "emptied.mp4").write_bytes(b"")
        for overwritten in sources[0].parent.glob("*No space left on device*"):
            status = overwritten.stat()
            overwritten.write_bytes(b"something else".ljust(status.st_size))
            os.utime(overwritten, ns=(status.st_atime_ns, status.st_mtime_ns))  # else it is probed again


def test_files_that_change_during_the_run_are_explained(tmp_path: Path, prepare_folder: PrepareFolder) -> None:
    """Also where ffmpeg's message repeats a file name that reads like a full disk, which would end the run."""
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
    """An ffmpeg that runs another command for sources called `bad`."""
    real = find_ffmpeg()
    script = tmp_path / "ffmpeg"
    script.write_text(f'#!/bin/sh\ncase "$*" in *bad*) {for_bad_videos};; esac\nexec "{real.path}" "$@"\n')
    script.chmod(0o755)
    return Ffmpeg(str(script), real.version, "a test")


def long_time() -> str:
    """A number of seconds that no other process sleeps, not even another run of these tests."""
    return f"{1000 + os.getpid()}.{next(_numbers)}"


_numbers = itertools.count(1)


def some_videos(folder: Path, n_good: int) -> None:
    folder.mkdir()
    for name in ["bad", *(f"good_{number}" for number in range(n_good))]:
        (folder / f"{name}.mp4").write_bytes(sound_video())


def assert_only_bad_is_missing(out: Path, n_good: int, reason: str) -> None:
    assert len(StoredDataset.open(out).videos) == n_good
    assert set(reasons(out)) == {"bad.mp4"}
    assert reason in reasons(out)["bad.mp4"]


@pytest.mark.parametrize("n_good", [3, 9], ids=["alone", "together with others"])
def test_a_decoder_that_hangs_is_ended(n_good: int, tmp_path: Path, prepare_folder: PrepareFolder) -> None:
    some_videos(tmp_path / "in", n_good)
    ffmpeg = wrapped_ffmpeg(tmp_path, f"sleep {(seconds := long_time())}")
    # Long enough for the other videos, even on a busy machine.
    prepare_folder(tmp_path / "in", tmp_path / "out", ffmpeg=ffmpeg, timeout_seconds=2.0)
    assert_only_bad_is_missing(tmp_path / "out", n_good, "transcode: ffmpeg took over 2 s")
    assert not running(seconds), "what hung is still there"


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
    ffmpeg = wrapped_ffmpeg(tmp_path, f"exec sleep {(seconds := long_time())}")
    stop = threading.Event()

    def kill_the_worker() -> None:
        """Kill the worker, as the kernel does when memory runs out."""
        while not stop.wait(0.1):
            for hanging in running(seconds):
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
    while running(seconds) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not running(seconds), "the ffmpeg of a killed worker lives on"


def running(seconds: str) -> list[psutil.Process]:
    """The `sleep` processes of this many seconds."""
    processes = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cmdline()[-2:] == ["sleep", seconds]:
                processes.append(process)
    return processes


# Length


def test_half_an_hour_stays_within_bounded_memory(tmp_path: Path, prepare_folder: PrepareFolder) -> None:
    make_video(tmp_path / "ten_seconds.mkv", "-c:v", "mpeg4", frames=100, fps=10)
    (tmp_path / "in").mkdir()
    looped = ["-stream_loop", "179", "-i", tmp_path / "ten_seconds.mkv", "-c", "copy"]
    run_ffmpeg_tool([*looped, tmp_path / "in" / "half_an_hour.mkv"])
    with PeakMemory() as peak:
        assert prepare_folder(tmp_path / "in", tmp_path / "out").prepared == 1
    (video,) = StoredDataset.open(tmp_path / "out").videos
    assert (video.n_frames, video.seconds) == (18_000, 1800)
    assert 20 * 10**6 < peak.bytes < 600 * 10**6
