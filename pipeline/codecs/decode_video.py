"""Frames of a short H.264, HEVC or AV1 stream to RGB pixels on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import av
import av.error
import numpy as np
import numpy.typing as npt

from vclimb.pipeline.errors import FrameDamagedError, SettingsError
from vclimb.pipeline.transcode.probe import MAX_PIXELS

Pixels = npt.NDArray[np.uint8]

# codec: (FFmpeg's decoder, the shortest side in pixels that its encoders take, what sides are multiples of). H.264 is
# coded in squares of 16 pixels: as in the shards, no stream needs cropping by its decoder.
VIDEO_DECODERS = {"h264": ("h264", 16, 16), "hevc": ("hevc", 16, 2), "av1": ("libdav1d", 16, 2)}
# A unit that ends an HEVC stream. FFmpeg's decoder makes up what a last picture lacks, and says nothing; so we look.
END_OF_HEVC = b"\x00\x00\x00\x01\x4a\x01"

_START_CODE = b"\x00\x00\x01"


class _Decoders(threading.local):
    """The decoders of a thread, by codec: making one costs as much as decoding a few frames."""

    def __init__(self) -> None:
        self.by_codec: dict[str, Any] = {}


_of_thread = _Decoders()


def coded_side(codec: str, side: int) -> int:
    """Pixels of a side of the pictures in a stream, for frames of `side` pixels.

    Colour has half the resolution, so that sides are even, and encoders have a smallest side; the rest of the picture,
    at the right and the bottom, isn't part of the frame.
    """
    _, shortest, multiple = VIDEO_DECODERS[codec]
    return max(shortest, -(-side // multiple) * multiple)


def decode_stream(
    codec: str, data: bytes, frames: Pixels, wanted: Mapping[int, Sequence[int]], where: Callable[[int], str]
) -> None:
    """Decode a stream that begins with a key frame, up to the last frame wanted.

    Args:
        codec: `h264`, `hevc` (both Annex B; the latter ends with `END_OF_HEVC`) or `av1` (OBUs with sizes).
        data: the stream.
        frames: (T, H, W, 3) RGB, written to.
        wanted: a frame's number in the stream -> its places in `frames`.
        where: tells where the frame in a place lies, for an error.

    Raises:
        FrameDamagedError: a wanted frame doesn't decode, or has another size.
        SettingsError: PyAV was built without the decoder.
    """
    left = {number: list(places) for number, places in wanted.items()}
    try:
        if not data or (codec == "hevc" and not data.endswith(END_OF_HEVC)):
            raise ValueError("its end is missing")
        decoder = _decoder(codec)
        decoder.flush_buffers()
        number = 0
        for packet in [*map(av.Packet, _packets(codec, data)), None]:
            for picture in decoder.decode(packet):
                if number in left:
                    frames[left[number]] = _rgb(picture, codec, frames.shape[2], frames.shape[1])
                    del left[number]
                number += 1
            if not left:
                return
    except (av.error.FFmpegError, ValueError) as error:
        _of_thread.by_codec.pop(codec, None)
        reason = error.strerror if isinstance(error, av.error.FFmpegError) else error
        raise FrameDamagedError(f"{where(_first(left))}: {reason}") from None
    raise FrameDamagedError(f"{where(_first(left))}: it doesn't come out of the decoder")


def _packets(codec: str, data: bytes) -> list[bytes]:
    """A stream in packets: of H.264 and HEVC one picture each, with what goes before it; of AV1 all of it.

    FFmpeg's own parser isn't asked: used for a second stream, where a decoder is kept, it writes out of its bounds
    if the first one ended in certain ways, and the process dies.
    """
    if codec == "av1":
        return [data]
    before, *units = data.split(_START_CODE)
    if before.strip(b"\0") or not units:
        raise ValueError("it doesn't begin with a start code")
    packets: list[list[bytes]] = [[]]
    has_picture = False
    for unit in units:
        is_slice, begins_picture = (_h264_unit if codec == "h264" else _hevc_unit)(unit)
        if has_picture and begins_picture:
            packets.append([])
            has_picture = False
        packets[-1] += [_START_CODE, unit]
        has_picture |= is_slice
    return [b"".join(packet) for packet in packets]


def _h264_unit(unit: bytes) -> tuple[bool, bool]:
    """Whether a unit is a slice, and whether a picture that follows another can begin with it: T-REC H.264, 7.4.1.2."""
    kind = unit[0] & 31 if unit else 0
    is_slice = 1 <= kind <= 5
    return is_slice, 6 <= kind <= 9 or (is_slice and unit[1:2] >= b"\x80")


def _hevc_unit(unit: bytes) -> tuple[bool, bool]:
    """The same by T-REC H.265, 7.4.2.4."""
    kind = unit[0] >> 1 & 63 if unit else 63
    is_slice = kind < 32
    return is_slice, 32 <= kind <= 35 or kind == 39 or (is_slice and unit[2:3] >= b"\x80")


def _first(wanted: Mapping[int, Sequence[int]]) -> int:
    """A place of the first frame that is wanted."""
    return wanted[min(wanted)][0]


def _rgb(picture: Any, codec: str, width: int, height: int) -> Pixels:
    expected = coded_side(codec, width), coded_side(codec, height)
    if (picture.width, picture.height) != expected:
        raise ValueError(f"is {picture.width}x{picture.height}, not {expected[0]}x{expected[1]}")
    if picture.is_corrupt:
        raise ValueError("some of it can't be decoded")
    # Stored streams carry their colour matrix and range; swscale takes BT.601 and limited where one doesn't.
    pixels: Pixels = picture.to_ndarray(format="rgb24", threads=1)
    return pixels[:height, :width]


def _decoder(codec: str) -> Any:
    """This thread's decoder. It neither hides damage nor uses other threads."""
    decoder = _of_thread.by_codec.get(codec)
    if decoder is None:
        name = VIDEO_DECODERS[codec][0]
        try:
            decoder = av.CodecContext.create(name, "r")
        except av.codec.codec.UnknownCodecError:
            raise SettingsError(
                f"{codec} frames need PyAV with the decoder {name}, and the one installed lacks it; "
                "install a wheel from PyPI: pip install av"
            ) from None
        decoder.thread_count = 1
        decoder.options = {"max_pixels": str(MAX_PIXELS), "err_detect": "crccheck+bitstream+buffer+explode"}
        _of_thread.by_codec[codec] = decoder
    return decoder
