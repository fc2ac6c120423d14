"""Pixels as they are, each frame a binary PPM (`P6`) file of 8 bits a channel, which DALI reads too."""

from __future__ import annotations

import numpy as np

from vclimb.pipeline.arrays import Pixels
from vclimb.pipeline.codecs.codec import PictureCodec


class Raw(PictureCodec):
    """Uncompressed pixels."""

    name = "raw"
    clip_codec = "ppm"
    also_called = ("ppm",)

    def encode_picture(self, frame: Pixels, number: float = 0) -> bytes:
        return ppm_header(frame.shape[1], frame.shape[0]) + frame.tobytes()

    def decode_picture(self, data: bytes, frame: Pixels) -> None:
        header = ppm_header(frame.shape[1], frame.shape[0])
        if not data.startswith(header):
            raise ValueError(f"is no PPM file of {frame.shape[1]}x{frame.shape[0]} pixels")
        if len(data) != len(header) + frame.size:
            raise ValueError(f"has {len(data)} bytes, not {len(header) + frame.size}")
        frame[:] = np.frombuffer(data, np.uint8, offset=len(header)).reshape(frame.shape)


def ppm_header(width: int, height: int) -> bytes:
    """The bytes before the pixels."""
    return b"P6\n%d %d\n255\n" % (width, height)
