"""The timeline of a video: when its frames are shown, how long it is, and at which rate."""

from __future__ import annotations

import math
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
# Flags of a container format: it holds no times, or its clock may start again in the middle.
_NO_TIMES, _CLOCK_MAY_JUMP = 0x0080, 0x0200  # AVFMT_NOTIMESTAMPS, AVFMT_TS_DISCONT
# Size of an MPEG-4 frame of nothing but its header.
_EMPTY_MPEG4_BYTES = 8
# The jump in seconds from which ffmpeg closes a gap.
_JUMP_SECONDS = 10.0
# Most frames that a decoder holds back to bring them in order. Some containers count this delay as part of the video.
_MOST_DELAY_FRAMES = 16


@dataclass
class Packets:
    """The coded frames of a stream."""

    codec: str  # ffmpeg's name of the codec.
    flags: int  # Flags of the container's format.
    count: int = 0  # Number of frames.
    shown: list[int] = field(default_factory=list)  # Known times at which frames are shown, in time bases.
    decoded: list[int] = field(default_factory=list)  # Times at which these frames are decoded, in time bases.
    last_duration: int = 0  # Time for which the last frame is shown, in time bases. 0: unknown.
    _last: int | None = None

    @property
    def have_times(self) -> bool:
        return not self.flags & _NO_TIMES

    def add(self, packet: av.Packet[av.VideoStream]) -> None:
        """Count a packet, unless its frame isn't shown: before the start of an edit list, or hidden."""
        if packet.is_discard or self._is_hidden(packet):
            return
        self.count += 1
        shown = packet.pts if packet.pts is not None else packet.dts
        if shown is not None:
            self.shown.append(shown)
            self.decoded.append(packet.dts if packet.dts is not None else shown)
        if self._last is None or (shown is not None and shown >= self._last):
            self._last, self.last_duration = shown, packet.duration or 0

    def _is_hidden(self, packet: av.Packet[av.VideoStream]) -> bool:
        """Whether a frame is never shown. It has the time of another one.

        Frames of VP8 and VP9 may serve for prediction only. Raw MPEG-4 has an empty frame after each two frames that an
        AVI held in one packet.
        """
        if self.codec == "mpeg4":
            return not self.have_times and packet.size <= _EMPTY_MPEG4_BYTES
        if self.codec not in ("vp8", "vp9"):
            return False
        data = memoryview(packet)
        if self.codec == "vp8":
            return not data[0] & 0x10
        if data[-1] & 0xE0 == 0xC0:  # a superframe: hidden frames and a shown one
            return False
        header = data[0] << 1 if data[0] & 0x30 == 0x30 else data[0]  # profile 3 has one more bit
        return not header & 0x08 and not header & 0x02  # neither shows an earlier frame nor itself


@dataclass(frozen=True)
class Timeline:
    duration_seconds: float  # Duration of the packets that are there.
    rate: Fraction  # Average frames a second; standard rates are met exactly.
    declared_seconds: float | None  # Duration that the file declares. None: it declares none.
    is_regular: bool  # Whether evening out the frames moves none by more than a frame's time.


def timeline(packets: Packets, stream: av.VideoStream, container: av.container.InputContainer) -> Timeline:
    """Find out how long a video is, at which rate, and whether its frames are evenly spaced.

    A file cut short in the middle is found after the transcode, by its `declared_seconds`.
    """
    declared = _declared_seconds(stream, container) if packets.have_times else None
    seconds = _frame_times(packets, stream)
    if not packets.have_times or len(seconds) < 2 or seconds[-1] == seconds[0]:
        rate = _rate_without_times(packets, stream, declared)
        return Timeline(packets.count / float(rate), rate, declared, is_regular=True)
    tick_seconds = float(stream.time_base or 0)
    usual_seconds = _usual_seconds(seconds)
    last_seconds = _last_seconds(seconds, usual_seconds, packets.last_duration * tick_seconds, declared)
    counted = float(seconds[-1] - seconds[0]) + last_seconds
    if counted * MIN_RATE > len(seconds):
        raise VideoError("probe", f"its {len(seconds)} frames span {counted:,.0f} s: its timestamps are damaged")
    durations, frame_seconds = [counted], counted / len(seconds)
    if declared is not None:
        start = max(0.0, float((stream.start_time or 0) * tick_seconds))
        delay = min(start, _MOST_DELAY_FRAMES * frame_seconds)
        # Some containers leave the last frame's time out.
        if -0.5 * frame_seconds <= declared - counted <= 1.01 * max(delay, 2 * frame_seconds):
            durations.insert(0, declared)
            declared = min(declared, counted)
    # A pause at the end, or pauses that are most of the video.
    pauses = last_seconds > 2 * frame_seconds + tick_seconds or frame_seconds > 2 * usual_seconds + tick_seconds
    if not pauses and (even := _even_rate(seconds, durations, tick_seconds)):
        return Timeline(*even, declared, is_regular=True)
    average = min(Fraction(packets.count / counted).limit_denominator(1001), Fraction(MAX_RATE))
    return Timeline(counted, average, declared, is_regular=False)


def _rate_without_times(packets: Packets, stream: av.VideoStream, declared: float | None) -> Fraction:
    """The rate of a single frame, or of a format without times: as declared, else so that it lasts as declared."""
    if not packets.have_times:
        rates = [Fraction(stream.guessed_rate or 0)]
    else:
        rates = [Fraction(stream.average_rate or 0)]
        if packets.last_duration > 0 and stream.time_base and packets.count == 1:
            rates.insert(0, 1 / (packets.last_duration * Fraction(stream.time_base)))
        if declared:  # where the file names no rate, the frame's duration is a guess
            rates.insert(2 if stream.average_rate else 0, Fraction(packets.count / declared))
    usable = (rate.limit_denominator(1001) for rate in rates if MIN_RATE <= rate <= MAX_RATE)
    return next(usable, Fraction(25))


def _frame_times(packets: Packets, stream: av.VideoStream) -> npt.NDArray[np.float64]:
    """The time at which each frame is shown, in order, in seconds.

    Where the clock may jump, as in a transport stream joined from two, the decoding times show the jumps, which are
    replaced by the median time between frames.
    """
    time_base = float(stream.time_base or Fraction(1, 90000))
    if not packets.flags & _CLOCK_MAY_JUMP or len(packets.decoded) < 3:
        return np.sort(np.asarray(packets.shown, np.float64)) * time_base
    steps = np.diff(np.asarray(packets.decoded, np.float64)) * time_base
    jumps = (steps <= 0) | (steps > _JUMP_SECONDS)
    steps[jumps] = np.median(steps[~jumps]) if not jumps.all() else 0.04
    return np.concatenate([[0.0], np.cumsum(steps)])


def _usual_seconds(seconds: npt.NDArray[np.float64]) -> float:
    """The lower median of the times from one frame to the next, without those of 0, since times may repeat."""
    steps = np.diff(seconds)
    risen = np.sort(steps[steps > 0])
    return float(risen[(len(risen) - 1) // 2])


def _last_seconds(
    seconds: npt.NDArray[np.float64], usual_seconds: float, packet_seconds: float, declared: float | None
) -> float:
    """Time for which the last frame is shown.

    It is the usual time, or longer if the frame's packet says so and the file's declared duration doesn't contradict.
    """
    span = float(seconds[-1] - seconds[0])
    if declared is not None and span + packet_seconds > declared + 2 * usual_seconds:
        packet_seconds = declared - span
    return max(usual_seconds, packet_seconds)


def _even_rate(
    seconds: npt.NDArray[np.float64], durations: list[float], tick_seconds: float
) -> tuple[float, Fraction] | None:
    """Duration, and frames a second, of which the frames are within a frame's time. None: they are uneven.

    Of the durations, in order, the first counts whose rate fits to the tick of the file's clock; else the first whose
    rate fits within a frame's time.
    """
    n_frames = len(seconds)
    rates = []
    for duration in durations:
        average = Fraction(n_frames / duration).limit_denominator(1001)
        rates += [(duration, rate) for rate in (*_standard_rate(n_frames, duration), average)]
    for exact in (True, False):
        for duration, rate in rates:
            frame_seconds = 1 / float(rate)
            if rate > MAX_RATE:
                continue
            moved = np.abs(seconds - (seconds[0] + np.arange(n_frames) * frame_seconds)).max()
            if moved <= (1.01 * tick_seconds if exact else frame_seconds):
                return duration, rate
    return None


def _declared_seconds(stream: av.VideoStream, container: av.container.InputContainer) -> float | None:
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
    return end - start if start < end < math.inf else None


def _standard_rate(n_frames: int, duration_seconds: float) -> list[Fraction]:
    """The standard rate, if there is one, that explains the number of frames within half a frame or half a per cent.

    For example, 31 frames in 1.233 s are 25 a second, cut between two frames.
    """
    nearest = min(STANDARD_RATES, key=lambda standard: abs(float(standard) * duration_seconds - n_frames))
    error = abs(float(nearest) * duration_seconds - n_frames)
    return [nearest] if error <= max(0.6, n_frames / 200) else []
