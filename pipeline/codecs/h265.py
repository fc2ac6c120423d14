"""Tiny videos in H.265 (HEVC), by x265."""

from __future__ import annotations

from vclimb.pipeline.arrays import Pixels
from vclimb.pipeline.codecs.codec import Scale
from vclimb.pipeline.codecs.tiny_video import VideoCodec, pictures_of_units

# x265's cutree writes past its buffers where pictures are narrower than 50 pixels (seen in 4.2), and the process dies.
_CUTREE_WIDTH = 64
# A unit that ends a stream. FFmpeg's decoder makes up what a last picture lacks and reports nothing, so we look for it.
_END = b"\x00\x00\x00\x01\x4a\x01"


class H265(VideoCodec):
    """HEVC in Annex B, with a unit that ends the stream."""

    name = "h265"
    clip_codec = "hevc"
    encoder, decoder = "libx265", "hevc"
    scale = Scale("CRF", 1, 24, 51)
    also_called = ("hevc", "x265")

    def options(self, pixels: Pixels, crf: int) -> dict[str, str]:
        parameters = {
            "bframes": 0,
            "keyint": len(pixels),
            "min-keyint": len(pixels),
            "scenecut": 0,
            "open-gop": 0,
            "cutree": int(pixels.shape[2] >= _CUTREE_WIDTH),
            "pools": "none",
            "frame-threads": 1,
            "info": 0,  # else x265 writes its version and settings into every stream
            "log-level": "none",
        }
        return {
            "crf": str(crf),
            "preset": "medium",
            "tune": "fastdecode",
            "x265-params": ":".join(f"{name}={value}" for name, value in parameters.items()),
        }

    def stream(self, packets: list[bytes]) -> bytes:
        return b"".join([*packets, _END])

    def packets(self, stream: bytes) -> list[bytes]:
        if not stream.endswith(_END):
            raise ValueError("its end is missing")
        return pictures_of_units(stream, _unit)


def _unit(unit: bytes) -> tuple[bool, bool]:
    """Whether a unit is a slice, and whether it can begin another picture: ITU-T H.265, section 7.4.2.4."""
    kind = unit[0] >> 1 & 63 if unit else 63
    is_slice = kind < 32
    return is_slice, 32 <= kind <= 35 or kind == 39 or (is_slice and unit[2:3] >= b"\x80")
