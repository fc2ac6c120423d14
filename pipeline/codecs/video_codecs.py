"""The codecs of tiny videos: AV1, H.264 and H.265; and the groups of pictures of H.264 data sets."""

from __future__ import annotations

import os
import re

from vclimb.pipeline.arrays import Pixels
from vclimb.pipeline.codecs.codec import Scale
from vclimb.pipeline.codecs.encoded import EncodedClip
from vclimb.pipeline.codecs.tiny_video import VideoCodec, pictures_of_units
from vclimb.pipeline.errors import DatasetError

# A start code of Annex B with its optional leading zero.
_START_CODE = re.compile(rb"\x00\x00\x00?\x01")
_SEI = 6
# x265's cutree writes past its buffers where pictures are narrower than 50 pixels (seen in 4.2), and the process dies.
_CUTREE_WIDTH = 64
# A unit that ends a stream. FFmpeg's decoder makes up what a last picture lacks and reports nothing, so we look for it.
_END_OF_H265 = b"\x00\x00\x00\x01\x4a\x01"


class Av1(VideoCodec):
    """AV1 as OBUs with sizes, by SVT-AV1 and dav1d."""

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


class H264(VideoCodec):
    """H.264 in Annex B, by x264."""

    name = clip_codec = "h264"
    encoder, decoder = "libx264", "h264"
    scale = Scale("CRF", 1, 20, 51)
    also_called = ("avc", "x264")
    # Pictures are coded in squares of 16 pixels: as in the shards, no decoder needs to crop.
    side_multiple = 16

    def options(self, pixels: Pixels, crf: int) -> dict[str, str]:
        return {
            "crf": str(crf),
            "preset": "medium",
            "tune": "fastdecode",
            "bf": "0",
            "g": str(len(pixels)),
            "sc_threshold": "0",
            # mbtree reads memory that nobody has written: with it, one in a hundred encodings came out different.
            "x264-params": "lookahead-threads=1:sync-lookahead=0:mbtree=0",
        }

    def stream(self, packets: list[bytes]) -> bytes:
        return b"".join(map(_without_sei, packets))

    def packets(self, stream: bytes) -> list[bytes]:
        return pictures_of_units(stream, _unit_of_h264)


class H265(VideoCodec):
    """HEVC in Annex B, with a unit that ends the stream, by x265."""

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
        return b"".join([*packets, _END_OF_H265])

    def packets(self, stream: bytes) -> list[bytes]:
        if not stream.endswith(_END_OF_H265):
            raise ValueError("its end is missing")
        return pictures_of_units(stream, _unit_of_h265)


def annexb(packet: bytes) -> bytes:
    """Replace the 4-byte lengths of a packet, as mp4 stores it, by start codes of Annex B."""
    pieces, position = [], 0
    while position + 4 <= len(packet):
        size = int.from_bytes(packet[position : position + 4], "big")
        pieces.append(b"\x00\x00\x00\x01" + packet[position + 4 : position + 4 + size])
        position += 4 + size
    if position != len(packet):
        raise DatasetError("a packet is not a sequence of length-prefixed units")
    return b"".join(pieces)


def _unit_of_h264(unit: bytes) -> tuple[bool, bool]:
    """Whether a unit is a slice, and whether it can begin another picture: ITU-T H.264, section 7.4.1.2."""
    kind = unit[0] & 31 if unit else 0
    is_slice = 1 <= kind <= 5
    return is_slice, 6 <= kind <= 9 or (is_slice and unit[1:2] >= b"\x80")


def _unit_of_h265(unit: bytes) -> tuple[bool, bool]:
    """Whether a unit is a slice, and whether it can begin another picture: ITU-T H.265, section 7.4.2.4."""
    kind = unit[0] >> 1 & 63 if unit else 63
    is_slice = kind < 32
    return is_slice, 32 <= kind <= 35 or kind == 39 or (is_slice and unit[2:3] >= b"\x80")


def _without_sei(packet: bytes) -> bytes:
    """Drop the SEI of an Annex B packet: x264 writes 600 bytes about itself there, more than a small picture."""
    units = _START_CODE.split(packet)[1:]
    return b"".join(b"\0\0\0\1" + unit for unit in units if unit[0] & 31 != _SEI)
