"""The picture codecs of the package imagecodecs: AVIF, JPEG XL and WebP.

Its decoders write into `out`, and those of WebP and JPEG XL refuse a picture of another shape before they decode its
pixels.
"""

from __future__ import annotations

from typing import ClassVar

import imagecodecs

from vclimb.pipeline.arrays import Pixels
from vclimb.pipeline.codecs.codec import PictureCodec, Scale

# The box of an AVIF file that says how large a picture is: ISO/IEC 23008-12, section 6.5.3.
_AVIF_SIZE = b"\0\0\0\x14ispe\0\0\0\0"


class ImagecodecsCodec(PictureCodec):
    """A picture codec of imagecodecs.

    Attributes:
        constants: Name of the codec's constants in imagecodecs, such as `WEBP`.
    """

    constants: ClassVar[str]

    def lacking(self) -> str | None:
        if getattr(imagecodecs, self.constants).available:
            return None
        version, package = imagecodecs.__version__, "PyPI's wheels have: pip install imagecodecs"
        return f"imagecodecs {version} has no {self.constants} ({package})"


class Avif(ImagecodecsCodec):
    """AVIF with 4:2:0 chroma, by libavif and libaom; quality as libavif defines it."""

    name = clip_codec = "avif"
    constants = "AVIF"
    scale = Scale("quality", 1, 60, 99)

    def encode_picture(self, frame: Pixels, number: float) -> bytes:
        return bytes(
            imagecodecs.avif_encode(frame, int(number), speed=6, pixelformat="yuv420", codec="aom", numthreads=1)
        )

    def decode_picture(self, data: bytes, frame: Pixels) -> None:
        # libavif decodes a picture of any size before it looks at `out`.
        height, width, _ = frame.shape
        start = data.find(_AVIF_SIZE)
        while start >= 0:
            sides = data[start + len(_AVIF_SIZE) : start + len(_AVIF_SIZE) + 8]
            if sides != width.to_bytes(4, "big") + height.to_bytes(4, "big"):
                other = int.from_bytes(sides[:4], "big"), int.from_bytes(sides[4:], "big")
                raise ValueError(f"is {other[0]}x{other[1]}, not {width}x{height}")
            start = data.find(_AVIF_SIZE, start + 1)
        imagecodecs.avif_decode(data, numthreads=1, out=frame)


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


class Webp(ImagecodecsCodec):
    """Lossy WebP."""

    name = clip_codec = "webp"
    constants = "WEBP"
    scale = Scale("quality", 1, 75, 100)

    def encode_picture(self, frame: Pixels, number: float) -> bytes:
        return bytes(imagecodecs.webp_encode(frame, number, lossless=False, method=4, numthreads=1))

    def decode_picture(self, data: bytes, frame: Pixels) -> None:
        imagecodecs.webp_decode(data, hasalpha=False, out=frame)
