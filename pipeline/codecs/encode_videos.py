"""Exemplars whose frames are one tiny video: H.264, HEVC and AV1.

Such a video is one closed group of pictures in the order of display (no B-frames), with its parameter sets in
band, so that it decodes alone and quickly. Its colours are BT.601 in limited range, and say so.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from typing import Any

import av
import av.codec
import numpy as np

from vclimb.memory.store.exemplar import one_unit_for_all
from vclimb.pipeline.clips.provider import EncodedClip
from vclimb.pipeline.codecs.decode import Pixels
from vclimb.pipeline.codecs.decode_video import END_OF_HEVC, VIDEO_DECODERS, coded_side

# Encoders weigh a picture's bits by how long it is shown, and want to be told.
_FRAMES_A_SECOND = 25
# Annex B: what begins a unit.
_START_CODE = re.compile(rb"\x00\x00\x00?\x01")
_H264_SEI = 6
# x265's cutree writes past its buffers where pictures are narrower than 50 pixels (seen in 4.2), and the process dies.
_X265_CUTREE_WIDTH = 64


def encode_h264(pixels: Pixels, crf: float) -> EncodedClip:
    """x264. Frames (K, H, W, 3); CRF 1 (best) to 51."""
    options = {
        "crf": str(int(crf)),
        "preset": "medium",
        "tune": "fastdecode",
        "bf": "0",
        "g": str(len(pixels)),
        "sc_threshold": "0",
        # mbtree reads memory that nobody has written: with it, one in a hundred encodings came out different.
        "x264-params": "lookahead-threads=1:sync-lookahead=0:mbtree=0",
    }
    packets = _encode("libx264", "h264", pixels, options)
    return one_unit_for_all("h264", b"".join(map(_without_sei, packets)), len(pixels))


def encode_h265(pixels: Pixels, crf: float) -> EncodedClip:
    """x265. Frames (K, H, W, 3); CRF 1 (best) to 51."""
    own = {
        "bframes": 0,
        "keyint": len(pixels),
        "min-keyint": len(pixels),
        "scenecut": 0,
        "open-gop": 0,
        "cutree": int(pixels.shape[2] >= _X265_CUTREE_WIDTH),
        "pools": "none",
        "frame-threads": 1,
        "info": 0,  # its version and settings, in every stream
        "log-level": "none",
    }
    options = {
        "crf": str(int(crf)),
        "preset": "medium",
        "tune": "fastdecode",
        "x265-params": ":".join(f"{name}={value}" for name, value in own.items()),
    }
    packets = _encode("libx265", "hevc", pixels, options)
    return one_unit_for_all("hevc", b"".join([*packets, END_OF_HEVC]), len(pixels))


def encode_av1(pixels: Pixels, crf: float) -> EncodedClip:
    """SVT-AV1. Frames (K, H, W, 3); CRF 1 (best) to 63."""
    # SVT-AV1 writes its settings to stderr each time, unless this is in the environment.
    os.environ.setdefault("SVT_LOG", "1")
    options = {
        "crf": str(int(crf)),
        "preset": "6",
        "g": str(len(pixels)),
        # Low delay: pictures in the order of display. One level of parallelism, so that bytes are reproducible.
        "svtav1-params": "pred-struct=1:lp=1:fast-decode=1:scd=0",
    }
    return one_unit_for_all("av1", b"".join(_encode("libsvtav1", "av1", pixels, options)), len(pixels))


def lacking(encoder: str, codec: str) -> str | None:
    """What PyAV lacks to encode and decode, as the end of a sentence; None where it has both."""
    name = encoder
    try:
        av.codec.Codec(name, "w")
        name = VIDEO_DECODERS[codec][0]
        av.codec.Codec(name, "r")
    except av.codec.codec.UnknownCodecError:
        return f"PyAV {av.__version__} has no {name} (PyPI's wheels have: pip install av)"
    return None


def _encode(encoder: str, codec: str, pixels: Pixels, options: dict[str, str]) -> list[bytes]:
    """The packets of frames (K, H, W, 3), in order."""
    _, height, width, _ = pixels.shape
    right, bottom = coded_side(codec, width) - width, coded_side(codec, height) - height
    # The edge repeated costs the fewest bits; `decode_stream` cuts it off.
    pixels = np.pad(pixels, ((0, 0), (0, bottom), (0, right), (0, 0)), mode="edge")
    context: Any = av.CodecContext.create(encoder, "w")
    context.width, context.height, context.pix_fmt = width + right, height + bottom, "yuv420p"
    context.framerate, context.time_base = Fraction(_FRAMES_A_SECOND), Fraction(1, _FRAMES_A_SECOND)
    context.thread_count = 1
    context.options = {**options, "colorspace": "smpte170m", "color_range": "tv", "flags": "+cgop+bitexact"}
    with _scheduled_as_before():
        context.open()
    packets = []
    for number, frame in enumerate(pixels):
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(
            format="yuv420p", dst_colorspace="ITU601", dst_color_range="MPEG", interpolation="AREA", threads=1
        )
        picture.pts = number
        packets += context.encode(picture)
    packets += context.encode(None)
    return [bytes(packet) for packet in packets]


@contextmanager
def _scheduled_as_before() -> Iterator[None]:
    """Open an encoder within this block: this thread, and those that it starts, are scheduled as this one was.

    Where SVT-AV1 runs as root, as it does in most containers, it makes the thread that opens it and its own real-time
    ones of the highest priority. They would stay so, and so would all that they start: on those cores, whatever waits
    by spinning would keep everything else from running.
    """
    if not hasattr(os, "sched_setscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    others = _threads()
    try:
        yield
    finally:
        for thread in (0, *(_threads() - others)):
            with suppress(ProcessLookupError):
                os.sched_setscheduler(thread, policy, parameters)


def _threads() -> set[int]:
    """Ids of this process' threads."""
    try:
        return {int(name) for name in os.listdir("/proc/self/task")}
    except OSError:  # no Linux
        return set()


def _without_sei(packet: bytes) -> bytes:
    """An Annex B packet of H.264 less its SEI: x264 writes 600 bytes about itself there, more than a small picture."""
    units = _START_CODE.split(packet)[1:]
    return b"".join(b"\0\0\0\1" + unit for unit in units if unit[0] & 31 != _H264_SEI)
