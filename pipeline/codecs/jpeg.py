"""JPEG pictures, by libjpeg-turbo."""

from __future__ import annotations

import numpy as np
import simplejpeg

from vclimb.pipeline.arrays import Pixels
from vclimb.pipeline.codecs.codec import PictureCodec, Scale


class Jpeg(PictureCodec):
    """JPEG with 4:2:0 chroma; quality as libjpeg defines it."""

    name = clip_codec = "jpeg"
    scale = Scale("quality", 1, 75, 100)
    also_called = ("jpg",)

    def encode_picture(self, frame: Pixels, number: float) -> bytes:
        data: bytes = simplejpeg.encode_jpeg(
            np.ascontiguousarray(frame), int(number), colorsubsampling="420", fastdct=False
        )
        return data

    def decode_picture(self, data: bytes, frame: Pixels) -> None:
        decoded = simplejpeg.decode_jpeg(data, buffer=frame)
        if decoded.shape != frame.shape:
            raise ValueError(f"is {decoded.shape[1]}x{decoded.shape[0]}, not {frame.shape[1]}x{frame.shape[0]}")
