"""Tiny videos in AV1, by SVT-AV1 and dav1d."""

from __future__ import annotations

import os

from vclimb.pipeline.arrays import Pixels
from vclimb.pipeline.codecs.codec import Scale
from vclimb.pipeline.codecs.encoded import EncodedClip
from vclimb.pipeline.codecs.tiny_video import VideoCodec


class Av1(VideoCodec):
    """AV1 as OBUs with sizes."""

    name = clip_codec = "av1"
    encoder, decoder = "libsvtav1", "libdav1d"
    scale = Scale("CRF", 1, 35, 63)

    def encode(self, pixels: Pixels, number: float) -> EncodedClip:
        # SVT-AV1 writes its settings to stderr each time, unless this is in the environment.
        os.environ.setdefault("SVT_LOG", "1")
        return super().encode(pixels, number)

    def options(self, pixels: Pixels, crf: int) -> dict[str, str]:
        return {
            "crf": str(crf),
            "preset": "6",
            "g": str(len(pixels)),
            # Low delay: pictures in the order of display. One level of parallelism, so that bytes are reproducible.
            "svtav1-params": "pred-struct=1:lp=1:fast-decode=1:scd=0",
        }
