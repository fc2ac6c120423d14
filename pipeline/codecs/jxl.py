"""JPEG XL pictures, by libjxl."""

from __future__ import annotations

import imagecodecs

from vclimb.pipeline.arrays import Pixels
from vclimb.pipeline.codecs.codec import Scale
from vclimb.pipeline.codecs.imagecodecs_package import ImagecodecsCodec


class Jxl(ImagecodecsCodec):
    """Bare JPEG XL codestream; the number is the Butteraugli distance, and loss is just visible at 1."""

    name = clip_codec = "jxl"
    constants = "JPEGXL"
    scale = Scale("distance", 0.1, 1, 15, is_whole=False)
    also_called = ("jpegxl",)

    def encode_picture(self, frame: Pixels, number: float) -> bytes:
        return bytes(imagecodecs.jpegxl_encode(frame, distance=number, effort=7, usecontainer=False, numthreads=1))

    def decode_picture(self, data: bytes, frame: Pixels) -> None:
        imagecodecs.jpegxl_decode(data, numthreads=1, out=frame)


CODEC = Jxl()
