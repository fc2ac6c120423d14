"""When the frames of a stored video are shown in its source, and which frames cover a segment in seconds."""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from fractions import Fraction

# Absorbs rounding errors: of seconds times frames a second, in frames, and of times in microseconds, in seconds.
EPSILON = 1e-6


@dataclass(frozen=True)
class FrameTimes:
    """The times of a video's frames, counted from the first one."""

    fps: Fraction  # Frames a second.
    n_frames: int  # Number of frames.
    seconds: tuple[float, ...] | None  # Time of each frame, and the end of the last one. None: `1 / fps` apart.

    @property
    def end_seconds(self) -> float:
        """Time at which the last frame ends."""
        return float(self.n_frames / self.fps) if self.seconds is None else self.seconds[-1]

    def between(self, start_seconds: float | None, end_seconds: float | None) -> tuple[int, int]:
        """Find the frames [start, end) that are shown between two times. No frames: start >= end.

        None stands for the video's start or end. The start is rounded down to a frame, the end up, and both are cut at
        the video's ends.
        """
        start, end = 0, self.n_frames
        if self.seconds is None:
            if start_seconds is not None:
                start = math.floor(start_seconds * self.fps + EPSILON)
            if end_seconds is not None:
                end = math.ceil(end_seconds * self.fps - EPSILON)
        else:
            if start_seconds is not None:
                start = bisect.bisect_right(self.seconds, start_seconds + EPSILON) - 1
            if end_seconds is not None:
                end = bisect.bisect_left(self.seconds, end_seconds - EPSILON)
        return max(start, 0), min(end, self.n_frames)
