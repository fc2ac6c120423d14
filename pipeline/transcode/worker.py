"""What runs in a worker process: probe a source, transcode one video into a part.

A *part* is one video of a shard that is not yet assembled: `NNNNNN.mp4`, `NNNNNN.frames.npy` and, written
last, `NNNNNN.json`. A part whose json is there is done, well or badly, and survives a kill of the run.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from vclimb.pipeline.dataset.check import check_decodes, frame_ranges, with_checksums
from vclimb.pipeline.errors import TargetError, VideoError
from vclimb.pipeline.transcode.encode import (
    EncodeSettings,
    expected_frames,
    most_frames,
    output_rate,
    output_size,
    transcode_argv,
)
from vclimb.pipeline.transcode.ffmpeg import Finished, kill_running, run_ffmpeg
from vclimb.pipeline.transcode.probe import Probe, open_regular_file, probe_video

# Bounds what a hostile file can make a decoder allocate; an honest 4K source needs 300 MB.
WORKER_DATA_BYTES = 2 * 2**30
TRUNCATED_BELOW = 0.9
# Exit status of a worker that was asked to stop, as a shell gives it for SIGTERM: no fault of its video's.
STOPPED = 128 + signal.SIGTERM
# Two frames that claim to be days apart must not fill the disk with copies of the first.
MAX_COPIES = 1000
_PR_SET_PDEATHSIG = 1
_DISK_FULL = ("No space left on device", "Disk quota exceeded")
_TARGET_ERRNOS = {errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO, errno.EACCES, errno.EPERM, errno.ENOENT}


@dataclass(frozen=True)
class VideoTask:
    """One video to transcode into one part.

    Attributes:
        source: absolute path of the file.
        probe: what planning found in it.
        settings: how to store it.
        part: path of the part without a suffix.
        scratch: folder for unfinished files; it belongs to this run alone.
        ffmpeg: the binary.
        timeout_seconds: how long ffmpeg may take.
    """

    source: Path
    probe: Probe
    settings: EncodeSettings
    part: Path
    scratch: Path
    ffmpeg: str
    timeout_seconds: float

    @property
    def draft(self) -> Path:
        """Where ffmpeg writes."""
        return self.scratch / f"{self.part.parent.name}-{self.part.name}.mp4"


def start_worker(report: Connection) -> None:
    """Initialise a worker: die with the run, leave Ctrl-C to it, and stay within a bounded memory.

    Args:
        report: takes this process's id once all of that is so.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop_at_once)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        run = multiprocessing.parent_process()
        if run is None or os.getppid() != run.pid:  # it died before we asked to be told; in a container it may be 1
            os._exit(1)
    resource.setrlimit(resource.RLIMIT_DATA, (WORKER_DATA_BYTES, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    report.send(os.getpid())


def _stop_at_once(_number: int, _frame: object) -> None:
    kill_running()
    os._exit(STOPPED)


def probe_task(source: Path) -> dict[str, Any]:
    """Probe one file: `{"probe": ...}` or `{"error": ...}`, as plain values."""
    try:
        return {"probe": probe_video(source).to_json()}
    except VideoError as error:
        return {"error": error_row(error)}
    except Exception as error:
        return {"error": error_row(_unforeseen("probe", error))}


def _unforeseen(stage: str, error: Exception) -> VideoError:
    """A file can be broken in ways that nobody thought of; the others must not wait for one."""
    if isinstance(error, MemoryError):
        return VideoError(stage, f"takes more than the {WORKER_DATA_BYTES / 2**30:.0f} GiB of memory that a video may")
    return VideoError(stage, f"failed in an unforeseen way ({type(error).__name__}: {error})")


def error_row(error: VideoError) -> dict[str, str]:
    """A VideoError as plain values."""
    return {"stage": error.stage, "reason": error.reason, "stderr": error.stderr}


def transcode_tasks(tasks: Sequence[VideoTask]) -> None:
    """Make the parts of one or several videos. A bad video gives a part that holds its error.

    Several videos are given to one ffmpeg; if anything about that run is out of the ordinary, each
    video whose part isn't there is done again alone, so that no video answers for another.

    Raises:
        TargetError: the disk is full or can't be written: the run must stop.
    """
    try:
        if len(tasks) > 1:
            _transcode_together(tasks)
        for task in tasks:
            if not task.part.with_suffix(".json").exists():
                write_part_record(task.part, _transcode_alone(task))
    except OSError as error:
        if error.errno in _TARGET_ERRNOS:
            raise TargetError(
                f"can't write {error.filename or tasks[0].part.parent}: {error.strerror}; see to that and run the same "
                "command again"
            ) from None
        raise


def write_part_record(part: Path, row: dict[str, Any]) -> None:
    """Write a part's json by rename, so that it is there whole or not at all."""
    record = part.with_suffix(".json")
    draft = part.with_suffix(".json.new")
    draft.write_text(json.dumps(row))
    draft.replace(record)


def _transcode_together(tasks: Sequence[VideoTask]) -> None:
    timeout_seconds = sum(task.timeout_seconds for task in tasks)
    try:
        for task in tasks:
            _check_source(task)
        if not _run(tasks, timeout_seconds).stderr:
            for task in tasks:
                write_part_record(task.part, _finish(task, ""))
    except (TargetError, OSError):
        raise
    except Exception:  # it shows again when each is done alone, and whose it is
        return


def _transcode_alone(task: VideoTask) -> dict[str, Any]:
    stderr = ""
    try:
        _check_source(task)
        stderr = _without_run_details(_run([task], task.timeout_seconds).stderr, task)
        return _finish(task, stderr)
    except VideoError as error:
        return {"error": error_row(VideoError(error.stage, error.reason, error.stderr or stderr))}
    except (TargetError, OSError):
        raise
    except Exception as error:
        return {"error": error_row(_unforeseen("transcode", error))}
    finally:
        task.draft.unlink(missing_ok=True)  # there only if something failed


def _check_source(task: VideoTask) -> None:
    open_regular_file(task.source)
    probe, rate = task.probe, float(output_rate(task.probe, task.settings))
    copies = expected_frames(probe, task.settings) / probe.n_packets
    if copies > MAX_COPIES:
        raise VideoError(
            "transcode",
            f"its {probe.n_packets} frame(s) span {probe.duration_seconds:,.0f} s; at {rate:g} frames a second each "
            f"would be stored {copies:,.0f} times; allowed: {MAX_COPIES}; without --fps each is stored about once",
        )


def _run(tasks: Sequence[VideoTask], timeout_seconds: float) -> Finished:
    """Run ffmpeg on the tasks' sources.

    Raises:
        VideoError: it failed or took too long.
        TargetError: the disk is full.
    """
    first = tasks[0]
    videos = [(task.source, task.draft, task.probe) for task in tasks]
    finished = run_ffmpeg(transcode_argv(first.ffmpeg, videos, first.settings), timeout_seconds)
    said = finished.stderr
    for name in "\n".join(str(task.source) for task in tasks).splitlines():  # a file may be named like the error
        said = said.replace(name, "")
    if any(words in said for words in _DISK_FULL):
        raise TargetError(f"no space left on the disk of {first.part.parents[2]}; free some and run again")
    stderr = _without_run_details(finished.stderr, first)
    if finished.timed_out:
        raise VideoError("transcode", f"ffmpeg took over {timeout_seconds:.0f} s", stderr)
    if finished.returncode != 0:
        raise VideoError("transcode", _why_it_ended(finished.returncode, stderr), stderr)
    return finished


def _why_it_ended(returncode: int, stderr: str) -> str:
    how = f"status {returncode}" if returncode > 0 else f"signal {signal.Signals(-returncode).name}"
    # Lines of ffmpeg's own parts (`[vost#0:0/mjpeg] ...`) only say that something failed, not why.
    causes = [line for line in stderr.splitlines() if "#" not in line.partition("]")[0]]
    return f"ffmpeg ended with {how}{f': {causes[0][:200]}' if causes else ''}"


def _finish(task: VideoTask, stderr: str) -> dict[str, Any]:
    """Verify a draft and make it a part."""
    draft = task.draft
    width, height = output_size(task.probe, task.settings)
    ranges = frame_ranges(str(draft))
    _check_complete(len(ranges), task, stderr)
    check_decodes(draft, ranges, task.settings.codec, width, height)
    np.save(task.part.with_suffix(".frames.npy"), with_checksums(draft, ranges))
    try:
        source_sha256 = file_sha256(task.source)
    except OSError as error:
        raise VideoError("open", error.strerror or str(error)) from None
    stored = {
        "source_sha256": source_sha256,
        "source_bytes": task.probe.bytes,
        "sha256": file_sha256(draft),
        "codec": task.settings.codec,
        "width": width,
        "height": height,
        "fps": str(output_rate(task.probe, task.settings)),
        "n_frames": len(ranges),
        "bytes": draft.stat().st_size,
    }
    draft.replace(task.part.with_suffix(".mp4"))
    return {"stored": stored}


def _without_run_details(stderr: str, task: VideoTask) -> str:
    """stderr without the absolute paths, which differ from run to run."""
    return stderr.replace(str(task.source), task.source.name).replace(str(task.draft), "OUTPUT")


def _check_complete(n_frames: int, task: VideoTask, stderr: str) -> None:
    """A file cut short or damaged in the middle decodes to fewer frames than it holds or declares.

    One that gives more frames than its packets account for was stopped, and has lost its end.
    """
    probe, rate = task.probe, float(output_rate(task.probe, task.settings))
    if task.settings.max_frames is None and n_frames >= most_frames(probe, task.settings):
        raise VideoError(
            "transcode",
            f"gave over {n_frames} frames where {expected_frames(probe, task.settings)} were expected of its "
            f"{probe.n_packets} packets: its timestamps contradict each other",
            stderr,
        )
    if task.settings.keep_truncated:
        return
    expected = max(probe.duration_seconds, probe.declared_seconds or 0.0) * rate
    expected = min(expected, task.settings.max_frames or expected)
    if n_frames < TRUNCATED_BELOW * expected - 1:
        raise VideoError(
            "transcode",
            f"only {n_frames} of about {expected:.0f} frames could be decoded (truncated or damaged); "
            "--keep-truncated stores such videos",
            stderr,
        )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, as hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
