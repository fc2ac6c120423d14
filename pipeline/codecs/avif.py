"""AVIF pictures, by libavif and libaom."""

from __future__ import annotations

import imagecodecs

from vclimb.pipeline.arrays import Pixels
from vclimb.pipeline.codecs.codec import Scale
from vclimb.pipeline.codecs.imagecodecs_package import ImagecodecsCodec


class Avif(ImagecodecsCodec):
    """AVIF with 4:2:0 chroma; quality as libavif defines it."""

    name = clip_codec = "avif"
    constants = "AVIF"
    scale = Scale("quality", 1, 60, 99)

    def encode_picture(self, frame: Pixels, number: float) -> bytes:
        return bytes(
            imagecodecs.avif_encode(frame, int(number), speed=6, pixelformat="yuv420", codec="aom", numthreads=1)
        )

    def decode_picture(self, data: bytes, frame: Pixels) -> None:
        imagecodecs.avif_decode(data, numthreads=1, out=frame)


CODEC = Avif()
