"""Transcoding videos into parts.

A *part* is one video of a shard that is not yet assembled: `NNNNNN.mp4`, `NNNNNN.frames.npy` and, written last,
`NNNNNN.json`. A part whose json is there is done, well or badly, and survives a kill of the run.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from vclimb.pipeline.dataset.check import check_decodes, frame_ranges, with_checksums
from vclimb.pipeline.errors import TargetError, VideoError
from vclimb.pipeline.system.digest import file_sha256
from vclimb.pipeline.system.durable import draft_of
from vclimb.pipeline.transcode.encode import (
    expected_frames,
    keeps_uneven_times,
    most_frames,
    output_rate,
    output_size,
    transcode_argv,
)
from vclimb.pipeline.transcode.ffmpeg import Finished, run_ffmpeg
from vclimb.pipeline.transcode.jobs import VideoJob
from vclimb.pipeline.transcode.printed_times import printed_times
from vclimb.pipeline.transcode.probe import open_regular_file
from vclimb.pipeline.transcode.worker import unforeseen

# Part of the frames, less one frame, below which a video counts as damaged; and that of very short videos.
TRUNCATED_BELOW, SHORT_TRUNCATED_BELOW = 0.9, 0.8
# Two frames that claim to be days apart must not fill the disk with copies of the first.
MAX_COPIES = 1000
_DISK_FULL = ("No space left on device", "Disk quota exceeded")
_TARGET_ERRNOS = {errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO, errno.EACCES, errno.EPERM, errno.ENOENT}


def transcode_videos(jobs: Sequence[VideoJob]) -> None:
    """Make the parts of one or several videos. A bad video gives a part that holds its error.

    Several videos share one ffmpeg. If anything about that run is out of the ordinary, each video whose part isn't
    there is done again alone, so that no video answers for another. Raises a TargetError, with which the run must stop,
    where the disk is full or can't be written.
    """
    try:
        together = [job for job in jobs if not keeps_uneven_times(job.probe, job.settings)]  # others print their times
        if len(together) > 1:
            _transcode_together(together)
        for job in jobs:
            if not job.part.with_suffix(".json").exists():
                _write_part_record(job.part, _transcode_alone(job))
    except TargetError:
        raise
    except OSError as error:
        if error.errno in _TARGET_ERRNOS:
            raise TargetError(
                f"can't write {error.filename or jobs[0].part.parent}: {error.strerror}; see to that and run the same "
                "command again"
            ) from None
        raise


def write_failed_part(part: Path, error: VideoError) -> None:
    """Make the part of a video that can't be stored."""
    _write_part_record(part, {"error": error.to_json()})


def _write_part_record(part: Path, row: dict[str, Any]) -> None:
    """Write a part's json by rename. It isn't synced: what a power cut damages is made again."""
    record = part.with_suffix(".json")
    draft = draft_of(record)
    draft.write_text(json.dumps(row))
    os.replace(draft, record)


def _transcode_together(jobs: Sequence[VideoJob]) -> None:
    timeout_seconds = sum(job.timeout_seconds for job in jobs)
    try:
        for job in jobs:
            _check_source(job)
        if not _run(jobs, timeout_seconds).stderr:
            for job in jobs:
                _write_part_record(job.part, _finish(job, "", None))
    except OSError:  # of the target, which a TargetError is too
        raise
    except Exception:  # the video at fault shows when each is done alone
        return


def _transcode_alone(job: VideoJob) -> dict[str, Any]:
    stderr = ""
    try:
        _check_source(job)
        if not keeps_uneven_times(job.probe, job.settings):
            stderr = _without_run_details(_run([job], job.timeout_seconds).stderr, job)
            return _finish(job, stderr, None)
        with tempfile.TemporaryFile(dir=job.scratch) as times:
            stderr = _without_run_details(_run([job], job.timeout_seconds, times).stderr, job)
            return _finish(job, stderr, times)
    except VideoError as error:
        return {"error": VideoError(error.stage, error.reason, error.stderr or stderr).to_json()}
    except OSError:  # of the target, which a TargetError is too
        raise
    except Exception as error:
        return {"error": unforeseen("transcode", error).to_json()}
    finally:
        job.draft.unlink(missing_ok=True)  # there only if something failed


def _check_source(job: VideoJob) -> None:
    open_regular_file(job.source)
    _check_copies(job)


def _check_copies(job: VideoJob) -> None:
    """Raise a VideoError if each frame of the source would be stored too often."""
    probe, rate = job.probe, float(output_rate(job.probe, job.settings))
    copies = expected_frames(probe, job.settings) / probe.n_packets
    if copies > MAX_COPIES:
        raise VideoError(
            "transcode",
            f"its {probe.n_packets} frame(s) span {probe.duration_seconds:,.0f} s; at {rate:g} frames a second each "
            f"would be stored {copies:,.0f} times; allowed: {MAX_COPIES}; without --fps each is stored about once",
        )


def _check_complete(n_frames: int, job: VideoJob, stderr: str) -> None:
    """Raise a VideoError if a stored video has too few or too many frames.

    A file that is cut short, or damaged in the middle, decodes to fewer frames than it holds or declares. A file that
    gives more frames than its packets account for was stopped, and has lost its end.
    """
    probe, rate = job.probe, float(output_rate(job.probe, job.settings))
    if job.settings.max_frames is None and n_frames >= most_frames(probe, job.settings):
        raise VideoError(
            "transcode",
            f"gave over {n_frames} frames where {expected_frames(probe, job.settings)} were expected of its "
            f"{probe.n_packets} packets: its timestamps contradict each other",
            stderr,
        )
    if job.settings.keep_truncated:
        return
    expected = max(probe.duration_seconds, probe.declared_seconds or 0.0) * rate
    expected = min(expected, job.settings.max_frames or expected)
    least = TRUNCATED_BELOW * expected - 1
    if job.settings.fps is None:  # else the number of frames isn't that of the packets
        least = max(least, SHORT_TRUNCATED_BELOW * min(expected, probe.n_packets))
    if n_frames < least:
        raise VideoError(
            "transcode",
            f"only {n_frames} of about {expected:.0f} frames could be decoded (truncated or damaged); "
            "--keep-truncated stores such videos",
            stderr,
        )


def _run(jobs: Sequence[VideoJob], timeout_seconds: float, stdout: IO[bytes] | None = None) -> Finished:
    """Run ffmpeg on the jobs' sources. Raises a VideoError where it fails, and a TargetError where the disk is full."""
    first = jobs[0]
    videos = [(job.source, job.draft, job.probe) for job in jobs]
    finished = run_ffmpeg(transcode_argv(first.ffmpeg, videos, first.settings), timeout_seconds, stdout=stdout)
    messages = finished.stderr
    for name in "\n".join(str(job.source) for job in jobs).splitlines():  # a file may be named like the error
        messages = messages.replace(name, "")
    if any(words in messages for words in _DISK_FULL):
        raise TargetError(f"no space left on the disk of {first.part.parents[2]}; free some and run again")
    stderr = _without_run_details(finished.stderr, first)
    if finished.timed_out:
        raise VideoError("transcode", f"ffmpeg took over {timeout_seconds:.0f} s", stderr)
    if finished.returncode != 0:
        raise VideoError("transcode", _how_it_ended(finished.returncode, stderr), stderr)
    return finished


def _how_it_ended(returncode: int, stderr: str) -> str:
    how = f"status {returncode}" if returncode > 0 else f"signal {signal.Signals(-returncode).name}"
    # Lines of ffmpeg's own parts (`[vost#0:0/mjpeg] ...`) only say that something failed, not why.
    causes = [line for line in stderr.splitlines() if "#" not in line.partition("]")[0]]
    return f"ffmpeg ended with {how}{f': {causes[0][:200]}' if causes else ''}"


def _finish(job: VideoJob, stderr: str, times: IO[bytes] | None) -> dict[str, Any]:
    draft = job.draft
    width, height = output_size(job.probe, job.settings)
    ranges = frame_ranges(str(draft))
    _check_complete(len(ranges), job, stderr)
    frame_seconds = None if times is None else printed_times(times, len(ranges), job.probe)
    check_decodes(draft, ranges, job.settings.codec, width, height)
    np.save(job.part.with_suffix(".frames.npy"), with_checksums(draft, ranges))
    try:
        source_sha256 = file_sha256(job.source)
    except OSError as error:
        raise VideoError("open", error.strerror or str(error)) from None
    stored = {
        "source_sha256": source_sha256,
        "source_bytes": job.probe.bytes,
        "sha256": file_sha256(draft),
        "codec": job.settings.codec,
        "width": width,
        "height": height,
        "fps": str(output_rate(job.probe, job.settings)),
        "n_frames": len(ranges),
        "frame_seconds": frame_seconds,
        "bytes": draft.stat().st_size,
    }
    draft.replace(job.part.with_suffix(".mp4"))
    return {"stored": stored}


def _without_run_details(stderr: str, job: VideoJob) -> str:
    """stderr without absolute paths, which differ from run to run."""
    return stderr.replace(str(job.source), job.source.name).replace(str(job.draft), "OUTPUT")
