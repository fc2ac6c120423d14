"""Facts about a source file, read by PyAV: streams, sizes, rotation, timeline. Only the first frame is decoded.

Probing runs in a worker with bounded memory that may be killed, since the file may be hostile.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error

from vclimb.pipeline.codecs.encoded import MAX_PIXELS
from vclimb.pipeline.dataset.fields import Count, PositiveRate, Seconds, Size
from vclimb.pipeline.errors import VideoError
from vclimb.pipeline.system.pyav import ANY_TAGS
from vclimb.pipeline.transcode.timeline import Packets, timeline

# Containers only: no playlist (hls, dash, concat, asx), no image pattern, no text renderer, no device.
DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpegts,mpeg,mpegvideo,m4v,h264,hevc,av1,obu,ivf,flv,asf,ogg,gif,"
    "mxf,nut,dv,rm,mjpeg,wtv,y4m,yuv4mpegpipe"
)


@dataclass(frozen=True)
class Probe:
    """The facts about a source's video stream that a transcode depends on."""

    stream_index: Size  # Index of the video stream in the file.
    codec: str  # ffmpeg's name of the source's codec.
    display_width: Count  # Width in square pixels, after rotation.
    display_height: Count  # Height in square pixels, after rotation.
    n_packets: Count  # Number of coded frames, without those that an edit list cuts away.
    duration_seconds: Seconds  # Duration of the packets that are there.
    declared_seconds: Seconds | None  # Duration that the file declares. None: it declares none.
    rate: PositiveRate  # Average frames a second; standard rates are met exactly.
    is_regular: bool  # Whether evening out the frames moves none by more than a frame's time.
    has_alpha: bool  # Whether pixels carry transparency.
    colour_is_guessed_hd: bool  # Whether the stream is HD and declares no colour matrix, so that BT.709 is assumed.
    bytes: Size  # Size of the file.
    mtime_ns: int  # Time of the file's last change, in nanoseconds.


def open_regular_file(path: Path) -> os.stat_result:
    """Status of a readable regular file that isn't empty. Raises a VideoError for any other file."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise VideoError("open", "not a regular file")
        if status.st_size == 0:
            raise VideoError("open", "the file is empty (0 bytes)")
        with open(path, "rb"):
            return status
    except FileNotFoundError:
        reason = "broken symbolic link" if path.is_symlink() else "no such file"
        raise VideoError("open", reason) from None
    except OSError as error:
        raise VideoError("open", error.strerror or str(error)) from None


def probe_video(path: Path) -> Probe:
    """Read a file's streams and packet times, and decode its first frame.

    Raises a VideoError of the stage `open` or `probe` for a file that can't be used.
    """
    status = open_regular_file(path)
    options = {"protocol_whitelist": "file", "format_whitelist": DEMUXERS, "max_pixels": str(MAX_PIXELS)}
    try:
        with av.open(f"file:{path}", options=options, **ANY_TAGS) as container:
            return _probe_container(container, status)
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


def _probe_container(container: av.container.InputContainer, status: os.stat_result) -> Probe:
    stream = _best_video_stream(container)
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
    is_encrypted = "enc_key_id" in stream.metadata  # of Matroska and WebM
    packets, frame = Packets(context.name, container.format.flags), None
    for packet in container.demux(stream):
        if packet.size == 0:
            continue
        if is_encrypted or packet.has_sidedata("encryption_info"):
            raise VideoError("probe", "its video is encrypted (DRM): only a decrypted copy can be prepared")
        packets.add(packet)
        if frame is None:
            frame = next(iter(_decoded(packet.decode)), None)
    if packets.count == 0:
        raise VideoError("probe", "the video stream holds no frames")
    if frame is None:
        frame = next(iter(_decoded(lambda: context.decode(None))), None)
    if frame is None:
        raise VideoError(
            "probe", f"none of its {packets.count} frames decodes: damaged, or over {MAX_PIXELS / 1e6:.0f} megapixels"
        )
    times = timeline(packets, stream, container)
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
        duration_seconds=times.duration_seconds,
        declared_seconds=times.declared_seconds,
        rate=times.rate,
        is_regular=times.is_regular,
        # VP8 and VP9 keep transparency in a second stream of data beside each frame, which the usual decoders ignore.
        has_alpha=any(part.is_alpha for part in frame.format.components) or stream.metadata.get("alpha_mode") == "1",
        colour_is_guessed_hd=guessed_hd,
        bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
    )


def _best_video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """The video stream that ffmpeg chooses by itself: the default one, else that with most pixels, else the first.

    As in ffmpeg, being the default counts as much as 5 megapixels. Cover art is no video.
    """
    pictures, default = av.stream.Disposition.attached_pic, av.stream.Disposition.default
    video = [stream for stream in container.streams.video if not stream.disposition & pictures]
    if not video:
        raise VideoError("probe", f"no video stream ({len(container.streams)} other stream(s) in the file)")

    def score(stream: av.VideoStream) -> int:
        context = stream.codec_context
        pixels = context.width * context.height if context else 0
        return pixels + 5_000_000 * bool(stream.disposition & default)

    return max(video, key=score)


def _decoded(decode: Callable[[], list[av.VideoFrame]]) -> list[av.VideoFrame]:
    """The frames that a decode returns; none where the data is damaged, since a later packet may be intact."""
    try:
        return decode()
    except av.error.FFmpegError:
        return []
