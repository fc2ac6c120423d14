"""Facts about a source file, read by PyAV: streams, sizes, rotation, timeline. Only the first frame is decoded.

Probing runs in a worker with bounded memory that may be killed, since the file may be hostile.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import numpy.typing as npt

from vclimb.pipeline.codecs.encoded import MAX_PIXELS
from vclimb.pipeline.errors import VideoError

# Containers only: no playlist (hls, dash, concat, asx), no image pattern, no text renderer, no device.
DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpegts,mpeg,mpegvideo,m4v,h264,hevc,av1,obu,ivf,flv,asf,ogg,gif,"
    "mxf,nut,dv,rm,mjpeg,wtv,y4m,yuv4mpegpipe"
)
STANDARD_RATES = tuple(
    Fraction(*pair)
    for pair in ((24000, 1001), (24, 1), (25, 1), (30000, 1001), (30, 1), (50, 1), (60000, 1001), (60, 1), (15, 1),
                 (25, 2), (12, 1), (10, 1), (20, 1), (5, 1), (120, 1))
)  # fmt: skip
MAX_RATE = 1000
MIN_RATE = Fraction(1, 1000)
# Tags in no known encoding are no errors; from PyAV 19 on they never are.
_METADATA: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
# Formats whose clock may start again in the middle, and the jump in seconds from which ffmpeg closes the gap.
_CLOCK_MAY_JUMP = 0x0200  # AVFMT_TS_DISCONT
_JUMP_SECONDS = 10.0


@dataclass(frozen=True)
class Probe:
    """The facts about a source's video stream that a transcode depends on.

    Attributes:
        stream_index: Index of the video stream in the file.
        codec: ffmpeg's name of the source's codec.
        display_width: Width in square pixels, after rotation.
        display_height: Height in square pixels, after rotation.
        n_packets: Number of coded frames, without those that an edit list cuts away.
        duration_seconds: Duration of the packets that are there.
        declared_seconds: Duration that the file declares. None: it declares none.
        rate: Average frames a second; standard rates are met exactly.
        is_regular: Whether evening out the frames moves none by more than a frame's time.
        has_alpha: Whether pixels carry transparency.
        colour_is_guessed_hd: Whether the stream is HD and declares no colour matrix, so that BT.709 is assumed.
        bytes: Size of the file.
    """

    stream_index: int
    codec: str
    display_width: int
    display_height: int
    n_packets: int
    duration_seconds: float
    declared_seconds: float | None
    rate: Fraction
    is_regular: bool
    has_alpha: bool
    colour_is_guessed_hd: bool
    bytes: int

    def to_json(self) -> dict[str, Any]:
        """The probe as plain JSON values; `from_json` reads it back."""
        return {**asdict(self), "rate": str(self.rate)}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Probe:
        """The probe that `to_json` wrote."""
        return cls(**{**row, "rate": Fraction(row["rate"])})


def open_regular_file(path: Path) -> int:
    """Size in bytes of a readable regular file.

    Raises:
        VideoError: The file is missing, a broken link, not a regular file, empty, or may not be read.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise VideoError("open", "not a regular file")
        if status.st_size == 0:
            raise VideoError("open", "the file is empty (0 bytes)")
        with open(path, "rb"):
            return status.st_size
    except FileNotFoundError:
        reason = "broken symbolic link" if path.is_symlink() else "no such file"
        raise VideoError("open", reason) from None
    except OSError as error:
        raise VideoError("open", error.strerror or str(error)) from None


def probe_video(path: Path) -> Probe:
    """Read a file's streams and packet times, and decode its first frame.

    Raises:
        VideoError: The file can't be used. The stage is `open` or `probe`.
    """
    size = open_regular_file(path)
    options = {"protocol_whitelist": "file", "format_whitelist": DEMUXERS, "max_pixels": str(MAX_PIXELS)}
    try:
        with av.open(f"file:{path}", options=options, **_METADATA) as container:
            return _probe_container(container, size)
    except MemoryError:  # FFmpegError has one too
        raise
    except av.error.FFmpegError as error:
        raise VideoError("probe", _why_not_read(path, error)) from None


def _why_not_read(path: Path, error: av.error.FFmpegError) -> str:
    if isinstance(error, av.error.ArgumentError):  # raised for a format that isn't in DEMUXERS
        return "not a video: its content is audio, an image, a playlist, subtitles or the like, whatever its name"
    if isinstance(error, av.error.EOFError):
        return "the file ends before its first frame"
    if isinstance(error, av.error.InvalidDataError):
        with open(path, "rb") as file:
            if file.read(8)[4:] == b"ftyp":
                return "its index (moov box) is missing or damaged: the file was cut short, or is still being written"
        return "not a video, or one whose beginning is damaged"
    return f"damaged, or can't be read: {error.strerror}"


def _probe_container(container: av.container.InputContainer, size: int) -> Probe:
    video = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not video:
        raise VideoError("probe", f"no video stream ({len(container.streams)} other stream(s) in the file)")
    stream = video[0]
    context = stream.codec_context
    if context is None:
        raise VideoError("probe", "no decoder for its video stream")
    if context.width * context.height > MAX_PIXELS:
        raise VideoError(
            "probe",
            f"frame size {context.width}x{context.height} is over the limit of {MAX_PIXELS / 1e6:.0f} megapixels",
        )
    context.options = {"max_pixels": str(MAX_PIXELS)}
    context.thread_count = 1
    packets, frame = _Packets(), None
    for packet in container.demux(stream):
        if packet.size == 0:
            continue
        packets.add(packet)
        if frame is None:
            frame = _first_frame(packet)
    if packets.count == 0:
        raise VideoError("probe", "the video stream holds no frames")
    if frame is None:
        frame = next(iter(_decoded(lambda: context.decode(None))), None)
    if frame is None:
        raise VideoError(
            "probe", f"none of its {packets.count} frames decodes: damaged, or over {MAX_PIXELS / 1e6:.0f} megapixels"
        )
    declared = _declared_seconds(stream, container)
    seconds = _frame_times(packets, stream, bool(container.format.flags & _CLOCK_MAY_JUMP))
    duration_seconds, rate, is_regular = _timeline(seconds, packets, stream, declared)
    ratio = Fraction(stream.sample_aspect_ratio or 1)
    if not Fraction(1, 20) <= ratio <= 20:
        ratio = Fraction(1)
    width, height = max(1, round(frame.width * ratio)), frame.height
    if frame.rotation % 180 == 90:
        width, height = height, width
    guessed_hd = context.colorspace == 2 and frame.height >= 720 and not frame.format.is_rgb
    return Probe(
        stream_index=stream.index,
        codec=context.name,
        display_width=width,
        display_height=height,
        n_packets=packets.count,
        duration_seconds=duration_seconds,
        declared_seconds=declared,
        rate=rate,
        is_regular=is_regular,
        # VP8 and VP9 keep transparency in a second stream of data beside each frame, which the usual decoders ignore.
        has_alpha=any(part.is_alpha for part in frame.format.components) or stream.metadata.get("alpha_mode") == "1",
        colour_is_guessed_hd=guessed_hd,
        bytes=size,
    )


def _decoded(decode: Callable[[], list[av.VideoFrame]]) -> list[av.VideoFrame]:
    """The frames that a decode returns; none where the data is damaged, since a later packet may be intact."""
    try:
        return decode()
    except av.error.FFmpegError:
        return []


def _first_frame(packet: av.Packet[av.VideoStream]) -> av.VideoFrame | None:
    frames = _decoded(packet.decode)
    return frames[0] if frames else None


@dataclass
class _Packets:
    """The coded frames of a stream.

    Attributes:
        count: Number of frames.
        shown: Known times at which frames are shown, in time bases.
        decoded: Times at which these frames are decoded, in time bases.
        last_duration: Time for which the last frame is shown, in time bases. 0: unknown.
    """

    count: int = 0
    shown: list[int] = field(default_factory=list)
    decoded: list[int] = field(default_factory=list)
    last_duration: int = 0
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


def _frame_times(packets: _Packets, stream: av.VideoStream, clock_may_jump: bool) -> npt.NDArray[np.float64]:
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


def _timeline(
    seconds: npt.NDArray[np.float64], packets: _Packets, stream: av.VideoStream, declared: float | None
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
    return end - start if end > start else None


def _standard_rate(n_frames: int, duration_seconds: float) -> list[Fraction]:
    """The standard rate, if there is one, that explains the number of frames within half a frame or half a per cent.

    For example, 31 frames in 1.233 s are 25 a second, cut between two frames.
    """
    nearest = min(STANDARD_RATES, key=lambda standard: abs(float(standard) * duration_seconds - n_frames))
    error = abs(float(nearest) * duration_seconds - n_frames)
    return [nearest] if error <= max(0.6, n_frames / 200) else []
