"""What a source file holds, read by PyAV without decoding: streams, sizes, rotation, timeline.

Runs inside a worker that may be killed and whose memory is bounded, since the file may be hostile.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np

from pipeline.errors import VideoError

# Containers only: no playlist (hls, dash, concat, asx), no image pattern, no text renderer, no device.
DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpegts,mpeg,mpegvideo,m4v,h264,hevc,av1,obu,ivf,flv,asf,ogg,gif,"
    "mxf,nut,dv,rm,mjpeg,wtv,y4m,yuv4mpegpipe"
)
MAX_PIXELS = 2**26  # 67 megapixels: twice 8K UHD
STANDARD_RATES = tuple(
    Fraction(*pair)
    for pair in ((24000, 1001), (24, 1), (25, 1), (30000, 1001), (30, 1), (50, 1), (60000, 1001), (60, 1), (15, 1),
                 (25, 2), (12, 1), (10, 1), (20, 1), (5, 1), (120, 1))
)  # fmt: skip
MAX_RATE = 240


@dataclass(frozen=True)
class Probe:
    """The facts about a source's video stream that a transcode depends on.

    Attributes:
        stream_index: which stream of the file is the video.
        codec: ffmpeg's name of the source's codec.
        display_width: pixels, upright and with square pixels.
        display_height: pixels, likewise.
        n_packets: coded frames found.
        duration_seconds: of the packets that are there.
        declared_seconds: how long the file says the video is; None where it doesn't say.
        rate: average frames a second; standard rates are met exactly.
        is_regular: evening out the frames moves none by more than a frame's time.
        has_alpha: the pixel format carries transparency.
        colour_is_guessed_hd: the stream doesn't say its colour matrix and is HD, so BT.709 is meant.
        bytes: size of the file.
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
        """As plain JSON values; `from_json` reads it back."""
        return {**asdict(self), "rate": str(self.rate)}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Probe:
        """The probe that `to_json` wrote."""
        return cls(**{**row, "rate": Fraction(row["rate"])})


def open_regular_file(path: Path) -> int:
    """Size in bytes of a readable regular file.

    Raises:
        VideoError: it is missing, a broken link, not a regular file, empty, or may not be read.
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
        VideoError: stage `open` or `probe`, with the reason.
    """
    size = open_regular_file(path)
    options = {"protocol_whitelist": "file", "format_whitelist": DEMUXERS}
    try:
        with av.open(f"file:{path}", options=options, metadata_errors="replace") as container:
            return _probe_container(container, size)
    except av.error.FFmpegError as error:
        raise VideoError("probe", f"not a video that ffmpeg can read: {error.strerror}") from None
    except (ValueError, OverflowError, MemoryError) as error:
        raise VideoError("probe", f"{type(error).__name__}: {error}") from None


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
    times: list[int] = []
    n_packets, frame = 0, None
    for packet in container.demux(stream):
        if packet.size == 0:
            continue
        n_packets += 1
        if (time := packet.pts if packet.pts is not None else packet.dts) is not None:
            times.append(time)
        if frame is None:
            frame = _first_frame(packet)
    if n_packets == 0:
        raise VideoError("probe", "the video stream holds no frames")
    if frame is None:
        frame = next(iter(_decoded(lambda: context.decode(None))), None)
    if frame is None:
        raise VideoError("probe", f"none of its {n_packets} frames decodes")
    declared = _declared_seconds(stream, container)
    duration_seconds, rate, is_regular = _timeline(stream, times, n_packets, declared)
    ratio = stream.sample_aspect_ratio or Fraction(1)
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
        n_packets=n_packets,
        duration_seconds=duration_seconds,
        declared_seconds=declared,
        rate=rate,
        is_regular=is_regular,
        has_alpha=any(component.is_alpha for component in frame.format.components),
        colour_is_guessed_hd=guessed_hd,
        bytes=size,
    )


def _decoded(decode: Callable[[], list[av.VideoFrame]]) -> list[av.VideoFrame]:
    """What a decode gives; nothing where the data is damaged, since a later packet may be sound."""
    try:
        return decode()
    except av.error.FFmpegError:
        return []


def _first_frame(packet: av.Packet[av.VideoStream]) -> av.VideoFrame | None:
    frames = _decoded(packet.decode)
    return frames[0] if frames else None


def _timeline(
    stream: av.VideoStream, times: list[int], n_packets: int, declared: float | None
) -> tuple[float, Fraction, bool]:
    """Duration in seconds, average rate, and whether evening out moves no frame by more than its own time.

    The container's word for the duration is taken where the packets bear it out to within two frames;
    a file cut short in the middle is found after the transcode, by its `declared_seconds`.
    """
    time_base = float(stream.time_base or Fraction(1, 90000))
    seconds = np.unique(np.asarray(times, np.float64)) * time_base
    fallback = stream.average_rate or stream.guessed_rate or Fraction(25)
    if len(seconds) < 2:
        rate = fallback.limit_denominator(1001) if 0 < fallback <= MAX_RATE else Fraction(25)
        return n_packets / float(rate), rate, True
    frame_seconds = (seconds[-1] - seconds[0]) / (len(seconds) - 1)
    duration = float(seconds[-1] - seconds[0] + frame_seconds)
    if declared is not None and abs(declared - duration) <= 2 * frame_seconds:
        duration = declared
    rate = _average_rate(n_packets, duration)
    even = seconds[0] + np.arange(len(seconds)) / float(rate)
    is_regular = bool(np.abs(seconds - even).max() <= 1 / float(rate)) and len(seconds) == n_packets
    return duration, min(rate, Fraction(MAX_RATE)), is_regular and rate <= MAX_RATE


def _declared_seconds(stream: av.VideoStream, container: av.container.InputContainer) -> float | None:
    """How long the file says its video is; None where it doesn't say.

    Matroska has no duration of a stream, only a tag that most writers set; the file's own duration
    counts only without an audio track, which may run on after the last frame.
    """
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if tag := stream.metadata.get("DURATION"):
        try:
            hours, minutes, seconds = tag.split(":")
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        except ValueError:
            return None
    alone = len(container.streams) == 1
    return container.duration / av.time_base if container.duration and alone else None


def _average_rate(n_frames: int, duration_seconds: float) -> Fraction:
    """The standard rate that explains the count of frames to within half a frame or half a per cent, else the
    plain quotient: 31 frames in 1.233 s are 25 a second, cut between two frames."""
    nearest = min(STANDARD_RATES, key=lambda standard: abs(float(standard) * duration_seconds - n_frames))
    if abs(float(nearest) * duration_seconds - n_frames) <= max(0.6, n_frames / 200):
        return nearest
    return Fraction(n_frames / duration_seconds).limit_denominator(1001)
