"""Encoded frames to RGB pixels on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import av
import av.error
import numpy as np
import numpy.typing as npt
import simplejpeg

from pipeline.clips import EncodedClip
from pipeline.errors import FrameDamagedError

Pixels = npt.NDArray[np.uint8]

# A decoder of H.264 for each thread: making one costs as much as decoding a few frames.
_of_thread = threading.local()


def decode_clip(clip: EncodedClip, width: int, height: int, where: Callable[[int], str]) -> Pixels:
    """All frames of an encoded clip: (T, height, width, 3) uint8 RGB.

    Args:
        clip: encoded frames.
        width: pixels of the stored frames.
        height: pixels likewise.
        where: tells where the frame in a place of the clip lies, for an error.

    Raises:
        FrameDamagedError: a frame doesn't decode, or has another size.
    """
    frames: Pixels = np.empty((len(clip.unit), height, width, 3), np.uint8)
    if clip.codec == "jpeg":
        for place, unit in enumerate(clip.unit.tolist()):
            _decode_jpeg(clip.units[unit], frames[place], place, where)
    else:
        for unit in range(len(clip.units)):
            places = np.flatnonzero(clip.unit == unit).tolist()
            _decode_group(clip.units[unit], frames, {int(clip.position[p]): p for p in places}, where)
    return frames


def _decode_jpeg(data: bytes, frame: Pixels, place: int, where: Callable[[int], str]) -> None:
    try:
        decoded = simplejpeg.decode_jpeg(data, buffer=frame)
        if decoded.shape != frame.shape:
            raise ValueError(f"is {decoded.shape[1]}x{decoded.shape[0]}, not {frame.shape[1]}x{frame.shape[0]}")
    except ValueError as error:
        raise FrameDamagedError(f"{where(place)}: {error}") from None


def _decode_group(data: bytes, frames: Pixels, wanted: dict[int, int], where: Callable[[int], str]) -> None:
    """Decode a group of pictures; `wanted` maps a number in the group to a place in `frames`."""
    left = dict(wanted)
    try:
        decoder: Any = getattr(_of_thread, "h264", None)
        if decoder is None:
            decoder = _of_thread.h264 = av.CodecContext.create("h264", "r")
            decoder.thread_count = 1
        decoder.flush_buffers()
        number = 0
        for packet in [*decoder.parse(data), *decoder.parse(b""), None]:
            for picture in decoder.decode(packet):
                if (place := left.pop(number, None)) is not None:
                    pixels = picture.to_ndarray(format="rgb24", threads=1)
                    if pixels.shape != frames.shape[1:]:
                        raise ValueError(f"is {picture.width}x{picture.height}")
                    frames[place] = pixels
                number += 1
    except (av.error.FFmpegError, ValueError) as error:
        _of_thread.h264 = None
        place = next(iter(left.values() or wanted.values()))
        raise FrameDamagedError(f"{where(place)}: {error}") from None
    if left:
        raise FrameDamagedError(f"{where(next(iter(left.values())))}: it doesn't come out of the decoder")
