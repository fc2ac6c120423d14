"""The times of the frames of an uneven source, as ffmpeg prints them while it stores the frames."""

from __future__ import annotations

import re
from typing import IO

import numpy as np

from vclimb.pipeline.errors import VideoError
from vclimb.pipeline.transcode.probe import Probe

_FRAME = re.compile(rb"^frame:(\d+)\s+pts:(-?\d+)\s", re.MULTILINE)


def printed_times(stdout: IO[bytes], n_frames: int, probe: Probe) -> list[float]:
    """Time of each stored frame in seconds, counted from the first one, and the end of the last one.

    The last frame ends where the next one begins, if that isn't stored; else where the source ends, if all its frames
    decode; else after the usual time between frames.

    Raises a VideoError where frames were lost on the way.
    """
    stdout.seek(0)
    printed = np.array([(int(number), int(time)) for number, time in _FRAME.findall(stdout.read())], np.int64)
    if len(printed) < n_frames or (printed[:, 0] != np.arange(len(printed))).any():
        raise VideoError("transcode", "frames are lost where its picture changes its size or pixel format")
    microseconds = np.maximum.accumulate(printed[:, 1] - printed[0, 1])
    seconds: list[float] = (microseconds / 1e6).tolist()
    if len(seconds) > n_frames:
        return seconds[: n_frames + 1]
    is_complete = n_frames >= probe.n_packets
    length = probe.duration_seconds if is_complete else seconds[-1] + float(np.median(np.diff(seconds)))
    return [*seconds, max(length, seconds[-1])]
