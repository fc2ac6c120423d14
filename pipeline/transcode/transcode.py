"""Transcoding videos into parts. A source that changed since it was planned is probed again and stored as it is now."""

from __future__ import annotations

import errno
import signal
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import IO

from vclimb.pipeline.dataset.check import check_decodes, frame_ranges, with_checksums
from vclimb.pipeline.dataset.shard import MAX_MEMBER_BYTES
from vclimb.pipeline.errors import TargetError, VideoError
from vclimb.pipeline.system.digest import file_sha256
from vclimb.pipeline.system.folders import writable
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
from vclimb.pipeline.transcode.part import Part, StoredFacts, is_done, write_frame_index, write_part
from vclimb.pipeline.transcode.printed_times import printed_times
from vclimb.pipeline.transcode.probe import open_regular_file
from vclimb.pipeline.transcode.worker import probe_file, unforeseen

# Part of the frames, less one frame, below which a video counts as damaged; and that of very short videos.
TRUNCATED_BELOW, SHORT_TRUNCATED_BELOW = 0.9, 0.8
# Two frames that claim to be days apart must not fill the disk with copies of the first.
MAX_COPIES = 1000
_DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
_DISK_FULL = ("No space left on device", "Disk quota exceeded")
_TARGET_ERRNOS = {*_DISK_FULL_ERRNOS, errno.EROFS, errno.EFBIG, errno.EIO, errno.EACCES, errno.EPERM}
_TARGET_ERRNOS |= {errno.ENOENT, errno.ELOOP}


def transcode_videos(jobs: Sequence[VideoJob]) -> None:
    """Make the parts of one or several videos. A bad video gives a part that holds its error.

    Several videos share one ffmpeg. If anything about that run is out of the ordinary, each video whose part isn't
    there is done again alone, so that no video answers for another. Raises a TargetError, with which the run must stop,
    where the disk is full or can't be written.
    """
    try:
        with ExitStack() as stack:
            _transcode_all(list(_as_sources_are_now(_fetched(jobs, stack))))
    except TargetError:
        raise
    except OSError as error:
        where = Path(error.filename or jobs[0].part.parent)
        if error.errno in _TARGET_ERRNOS:
            with writable(where):
                if error.errno in _DISK_FULL_ERRNOS:
                    raise
            raise TargetError(
                f"can't write {where}: {error.strerror}; see to that and run the same command again"
            ) from None
        raise


def _fetched(jobs: Iterable[VideoJob], stack: ExitStack) -> Iterable[VideoJob]:
    """The jobs, with sources in a bucket copied to this machine until the stack ends. One that fails gives its part."""
    for job in jobs:
        if job.remote is None:
            yield job
            continue
        copy = job.draft.with_suffix(f".source{job.source.suffix}")
        try:
            yield replace(job, source=stack.enter_context(job.remote.fetched(copy)), remote=None)
        except VideoError as error:
            write_part(job.part, Part(error=error))


def _transcode_all(current: Sequence[VideoJob]) -> None:
    # Uneven ones print the times of their frames, each for itself.
    together = [job for job in current if not keeps_uneven_times(job.probe, job.settings)]
    if len(together) > 1:
        _transcode_together(together)
    for job in current:
        if not is_done(job.part):
            write_part(job.part, _transcode_alone(job))


def _as_sources_are_now(jobs: Iterable[VideoJob]) -> Iterable[VideoJob]:
    """The jobs, with a new probe where the source changed since it was planned. One that fails gives a failed part."""
    for job in jobs:
        try:
            status = open_regular_file(job.source)
        except VideoError as error:
            write_part(job.part, Part(error=error))
            continue
        if (status.st_size, status.st_mtime_ns) == (job.probe.bytes, job.probe.mtime_ns):
            yield job
            continue
        probe = probe_file(job.source)
        if isinstance(probe, VideoError):
            write_part(job.part, Part(error=probe))
        else:
            yield replace(job, probe=probe)


def _transcode_together(jobs: Sequence[VideoJob]) -> None:
    timeout_seconds = sum(job.timeout_seconds for job in jobs)
    try:
        for job in jobs:
            _check_copies(job)
        if not _run(jobs, timeout_seconds).stderr:
            for job in jobs:
                write_part(job.part, _finish(job, "", None))
    except OSError:  # of the target, which a TargetError is too
        raise
    except Exception:  # the video at fault shows when each is done alone
        return


def _transcode_alone(job: VideoJob) -> Part:
    stderr = ""
    try:
        _check_copies(job)
        if not keeps_uneven_times(job.probe, job.settings):
            stderr = _without_run_details(_run([job], job.timeout_seconds).stderr, job)
            return _finish(job, stderr, None)
        with tempfile.TemporaryFile(dir=job.scratch) as times:
            stderr = _without_run_details(_run([job], job.timeout_seconds, times).stderr, job)
            return _finish(job, stderr, times)
    except VideoError as error:
        return Part(error=VideoError(error.stage, error.reason, error.stderr or stderr))
    except OSError:  # of the target, which a TargetError is too
        raise
    except Exception as error:
        return Part(error=unforeseen("transcode", error))
    finally:
        job.draft.unlink(missing_ok=True)  # there only if something failed


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
    if finished.returncode != 0 and not first.scratch.is_dir():
        raise TargetError(f"{first.scratch} was removed while a run wrote to it; run the same command again")
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


def _finish(job: VideoJob, stderr: str, times: IO[bytes] | None) -> Part:
    draft = job.draft
    _check_size(draft)
    width, height = output_size(job.probe, job.settings)
    ranges = frame_ranges(str(draft))
    _check_complete(len(ranges), job, stderr)
    frame_seconds = None if times is None else printed_times(times, len(ranges), job.probe)
    check_decodes(draft, ranges, job.settings.codec, width, height)
    frames_sha256 = write_frame_index(job.part, with_checksums(draft, ranges))
    stored = StoredFacts(
        source_sha256=_source_sha256(job),
        source_bytes=job.probe.bytes,
        sha256=file_sha256(draft),
        codec=job.settings.codec,
        width=width,
        height=height,
        fps=output_rate(job.probe, job.settings),
        n_frames=len(ranges),
        frame_seconds=None if frame_seconds is None else tuple(frame_seconds),
        bytes=draft.stat().st_size,
    )
    draft.replace(job.part.with_suffix(".mp4"))
    return Part(stored, frames_sha256)


def _check_size(draft: Path) -> None:
    """Raise a VideoError if a stored video is larger than a file in a tar may be."""
    if (size := draft.stat().st_size) > MAX_MEMBER_BYTES:
        raise VideoError(
            "transcode",
            f"would take {size / 1e9:.1f} GB, and a shard holds files of up to {MAX_MEMBER_BYTES / 1e9:.1f} GB; cut it "
            "into several files, or prepare with a higher --quality number, a smaller --short-side, fewer --fps, or "
            "--codec h264",
        )


def _source_sha256(job: VideoJob) -> str:
    """SHA-256 of the source. Raises a VideoError if it changed while it was transcoded."""
    try:
        digest = file_sha256(job.source)
    except OSError as error:
        raise VideoError("open", error.strerror or str(error)) from None
    status = open_regular_file(job.source)
    if (status.st_size, status.st_mtime_ns) != (job.probe.bytes, job.probe.mtime_ns):
        raise VideoError("open", "the file changed while it was transcoded; --retry-failed takes it again")
    return digest


def _without_run_details(stderr: str, job: VideoJob) -> str:
    """stderr without absolute paths, which differ from run to run."""
    return stderr.replace(str(job.source), job.source.name).replace(str(job.draft), "OUTPUT")
