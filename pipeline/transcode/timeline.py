"""The timeline of a video: when its frames are shown, how long it is, and at which rate."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt

from vclimb.pipeline.errors import VideoError

STANDARD_RATES = tuple(
    Fraction(*pair)
    for pair in ((24000, 1001), (24, 1), (25, 1), (30000, 1001), (30, 1), (50, 1), (60000, 1001), (60, 1), (15, 1),
                 (25, 2), (12, 1), (10, 1), (20, 1), (5, 1), (120, 1))
)  # fmt: skip
MAX_RATE = 1000
MIN_RATE = Fraction(1, 1000)
# Formats whose clock may start again in the middle, and the jump in seconds from which ffmpeg closes the gap.
CLOCK_MAY_JUMP = 0x0200  # AVFMT_TS_DISCONT
_JUMP_SECONDS = 10.0


@dataclass
class Packets:
    """The coded frames of a stream."""

    count: int = 0  # Number of frames.
    shown: list[int] = field(default_factory=list)  # Known times at which frames are shown, in time bases.
    decoded: list[int] = field(default_factory=list)  # Times at which these frames are decoded, in time bases.
    last_duration: int = 0  # Time for which the last frame is shown, in time bases. 0: unknown.
    _last: int | None = None

    def add(self, packet: av.Packet[av.VideoStream]) -> None:
        if packet.is_discard:  # before the start of an edit list: needed to decode other frames, not shown
            return
        self.count += 1
        shown = packet.pts if packet.pts is not None else packet.dts
        if shown is not None:
            self.shown.append(shown)
            self.decoded.append(packet.dts if packet.dts is not None else shown)
        if self._last is None or (shown is not None and shown >= self._last):
            self._last, self.last_duration = shown, packet.duration or 0


def frame_times(packets: Packets, stream: av.VideoStream, clock_may_jump: bool) -> npt.NDArray[np.float64]:
    """The time at which each frame is shown, in order, in seconds.

    Where the clock may jump, as in a transport stream joined from two, the decoding times show the jumps, which are
    replaced by the median time between frames. Elsewhere frames of equal time count as one: VP8 has hidden frames for
    prediction, each with the time of the frame that follows.
    """
    time_base = float(stream.time_base or Fraction(1, 90000))
    if not clock_may_jump or len(packets.decoded) < 3:
        return np.unique(np.asarray(packets.shown, np.float64)) * time_base
    steps = np.diff(np.asarray(packets.decoded, np.float64)) * time_base
    jumps = (steps <= 0) | (steps > _JUMP_SECONDS)
    steps[jumps] = np.median(steps[~jumps]) if not jumps.all() else 0.04
    return np.concatenate([[0.0], np.cumsum(steps)])


def timeline(
    seconds: npt.NDArray[np.float64], packets: Packets, stream: av.VideoStream, declared: float | None
) -> tuple[float, Fraction, bool]:
    """Duration in seconds, average rate, and whether evening out moves no frame by more than a frame's time.

    The declared duration is taken where the packets confirm it: from half a frame less (some containers leave the last
    frame's time out) to two frames more. A file cut short in the middle is found after the transcode, by its
    `declared_seconds`.
    """
    if len(seconds) < 2:
        rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
        if packets.last_duration > 0 and stream.time_base:
            rate = 1 / (packets.last_duration * Fraction(stream.time_base))
        rate = rate.limit_denominator(1001) if MIN_RATE <= rate <= MAX_RATE else Fraction(25)
        return packets.count / float(rate), rate, True
    frame_seconds = float(np.median(np.diff(seconds)))
    last_seconds = max(frame_seconds, packets.last_duration * float(stream.time_base or 0))
    duration = float(seconds[-1] - seconds[0]) + last_seconds
    if duration * MIN_RATE > len(seconds):
        raise VideoError("probe", f"its {len(seconds)} frames span {duration:,.0f} s: its timestamps are damaged")
    if declared is not None and -0.5 <= (declared - duration) / frame_seconds <= 2:
        duration = declared
    rates = [*_standard_rate(len(seconds), duration), Fraction(len(seconds) / duration).limit_denominator(1001)]
    for rate in rates:
        even = seconds[0] + np.arange(len(seconds)) / float(rate)
        if rate <= MAX_RATE and np.abs(seconds - even).max() <= 1 / float(rate):
            return duration, rate, True
    return duration, min(rates[0], Fraction(MAX_RATE)), False


def declared_seconds(stream: av.VideoStream, container: av.container.InputContainer) -> float | None:
    """The duration that the file declares for its video; None where it declares none.

    Matroska has no duration of a stream, only a tag that most writers set. The duration of the whole file counts only
    without an audio track, which may run on after the last frame. Both count from zero, wherever the first frame is.
    """
    if stream.duration and stream.time_base:
        # In an AVI that lost its end, the index, the duration covers what is left; the header still counts all frames.
        ticks = max(stream.duration, stream.frames) if container.format.name == "avi" else stream.duration
        return float(ticks * stream.time_base)
    start = max(0.0, float((stream.start_time or 0) * (stream.time_base or 0)))
    if tag := stream.metadata.get("DURATION"):
        try:
            hours, minutes, seconds = tag.split(":")
            end = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        except (ValueError, OverflowError):
            return None
    elif container.duration and len(container.streams) == 1:
        end = container.duration / av.time_base
    else:
        return None
    return end - start if end > start else None


def _standard_rate(n_frames: int, duration_seconds: float) -> list[Fraction]:
    """The standard rate, if there is one, that explains the number of frames within half a frame or half a per cent.

    For example, 31 frames in 1.233 s are 25 a second, cut between two frames.
    """
    nearest = min(STANDARD_RATES, key=lambda standard: abs(float(standard) * duration_seconds - n_frames))
    error = abs(float(nearest) * duration_seconds - n_frames)
    return [nearest] if error <= max(0.6, n_frames / 200) else []
