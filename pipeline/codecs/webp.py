"""WebP pictures, by libwebp."""

from __future__ import annotations

import imagecodecs

from vclimb.pipeline.arrays import Pixels
from vclimb.pipeline.codecs.codec import Scale
from vclimb.pipeline.codecs.imagecodecs_package import ImagecodecsCodec


class Webp(ImagecodecsCodec):
    """Lossy WebP."""

    name = clip_codec = "webp"
    constants = "WEBP"
    scale = Scale("quality", 1, 75, 100)

    def encode_picture(self, frame: Pixels, number: float) -> bytes:
        return bytes(imagecodecs.webp_encode(frame, number, lossless=False, method=4, numthreads=1))

    def decode_picture(self, data: bytes, frame: Pixels) -> None:
        imagecodecs.webp_decode(data, hasalpha=False, out=frame)


CODEC = Webp()
