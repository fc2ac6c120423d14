"""Encoded frames to RGB pixels on the CPU."""

from __future__ import annotations

from collections.abc import Callable

import imagecodecs
import numpy as np
import numpy.typing as npt
import simplejpeg

from vclimb.pipeline.clips.provider import EncodedClip
from vclimb.pipeline.codecs.decode_video import VIDEO_DECODERS, decode_stream
from vclimb.pipeline.errors import DatasetError, FrameDamagedError, SettingsError

Pixels = npt.NDArray[np.uint8]


def decode_clip(clip: EncodedClip, width: int, height: int, where: Callable[[int], str]) -> Pixels:
    """All frames of an encoded clip: (T, height, width, 3) uint8 RGB. Safe to use from several threads.

    Args:
        clip: encoded frames.
        width: pixels of the stored frames.
        height: pixels likewise.
        where: tells where the frame in a place of the clip lies, for an error.

    Raises:
        FrameDamagedError: a frame doesn't decode, or has another size.
        DatasetError: the clip's codec isn't one of ours.
        SettingsError: an installed package was built without that codec.
    """
    frames: Pixels = np.empty((len(clip.unit), height, width, 3), np.uint8)
    if clip.codec in VIDEO_DECODERS:
        for unit in range(len(clip.units)):
            wanted: dict[int, list[int]] = {}
            for place in np.flatnonzero(clip.unit == unit).tolist():
                wanted.setdefault(int(clip.position[place]), []).append(place)
            if wanted:
                decode_stream(clip.codec, clip.units[unit], frames, wanted, where)
    elif clip.codec in _IMAGE_DECODERS:
        for place, unit in enumerate(clip.unit.tolist()):
            _decode_image(clip.codec, clip.units[unit], frames[place], place, where)
    else:
        known = ", ".join([*_IMAGE_DECODERS, *VIDEO_DECODERS])
        raise DatasetError(f"frames of codec {clip.codec!r} can't be decoded; this version knows {known}")
    return frames


def ppm_header(width: int, height: int) -> bytes:
    """What comes before the pixels of a binary PPM (`P6`) file of 8 bits a channel, as we write it."""
    return b"P6\n%d %d\n255\n" % (width, height)


def _decode_image(codec: str, data: bytes, frame: Pixels, place: int, where: Callable[[int], str]) -> None:
    try:
        _IMAGE_DECODERS[codec](data, frame)
    except ImportError as error:
        raise SettingsError(
            f"{codec} frames need imagecodecs with {codec}, and the one installed lacks it ({error}); "
            "install a wheel from PyPI: pip install imagecodecs"
        ) from None
    except (ValueError, RuntimeError) as error:  # imagecodecs' errors are RuntimeErrors
        raise FrameDamagedError(f"{where(place)}: {error}") from None


def _jpeg(data: bytes, frame: Pixels) -> None:
    decoded = simplejpeg.decode_jpeg(data, buffer=frame)
    if decoded.shape != frame.shape:
        raise ValueError(f"is {decoded.shape[1]}x{decoded.shape[0]}, not {frame.shape[1]}x{frame.shape[0]}")


# The decoders of imagecodecs write into `out`, and refuse a picture of another shape before its pixels are decoded.


def _webp(data: bytes, frame: Pixels) -> None:
    imagecodecs.webp_decode(data, hasalpha=False, out=frame)


def _avif(data: bytes, frame: Pixels) -> None:
    imagecodecs.avif_decode(data, numthreads=1, out=frame)


def _jxl(data: bytes, frame: Pixels) -> None:
    imagecodecs.jpegxl_decode(data, numthreads=1, out=frame)


def _ppm(data: bytes, frame: Pixels) -> None:
    header = ppm_header(frame.shape[1], frame.shape[0])
    if not data.startswith(header):
        raise ValueError(f"is no PPM file of {frame.shape[1]}x{frame.shape[0]} pixels")
    if len(data) != len(header) + frame.size:
        raise ValueError(f"has {len(data)} bytes, not {len(header) + frame.size}")
    frame[:] = np.frombuffer(data, np.uint8, offset=len(header)).reshape(frame.shape)


_IMAGE_DECODERS: dict[str, Callable[[bytes, Pixels], None]] = {
    "jpeg": _jpeg,
    "webp": _webp,
    "avif": _avif,
    "jxl": _jxl,
    "ppm": _ppm,
}
