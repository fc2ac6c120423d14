"""Whether a transcode gave all frames of its source, neither fewer nor more."""

from __future__ import annotations

from vclimb.pipeline.errors import VideoError
from vclimb.pipeline.transcode.encode import expected_frames, most_frames, output_rate
from vclimb.pipeline.transcode.jobs import VideoJob

TRUNCATED_BELOW = 0.9
# Two frames that claim to be days apart must not fill the disk with copies of the first.
MAX_COPIES = 1000


def check_copies(job: VideoJob) -> None:
    """Raise a VideoError if each frame of the source would be stored too often."""
    probe, rate = job.probe, float(output_rate(job.probe, job.settings))
    copies = expected_frames(probe, job.settings) / probe.n_packets
    if copies > MAX_COPIES:
        raise VideoError(
            "transcode",
            f"its {probe.n_packets} frame(s) span {probe.duration_seconds:,.0f} s; at {rate:g} frames a second each "
            f"would be stored {copies:,.0f} times; allowed: {MAX_COPIES}; without --fps each is stored about once",
        )


def check_complete(n_frames: int, job: VideoJob, stderr: str) -> None:
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
    if n_frames < TRUNCATED_BELOW * expected - 1:
        raise VideoError(
            "transcode",
            f"only {n_frames} of about {expected:.0f} frames could be decoded (truncated or damaged); "
            "--keep-truncated stores such videos",
            stderr,
        )
