"""H.264: tiny videos of exemplars, by x264, and the groups of pictures of H.264 data sets."""

from __future__ import annotations

import re

from vclimb.pipeline.arrays import Pixels
from vclimb.pipeline.codecs.codec import Scale
from vclimb.pipeline.codecs.tiny_video import VideoCodec, pictures_of_units
from vclimb.pipeline.errors import DatasetError

# A start code of Annex B with its optional leading zero.
_START_CODE = re.compile(rb"\x00\x00\x00?\x01")
_SEI = 6


class H264(VideoCodec):
    """H.264 in Annex B."""

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
        return pictures_of_units(stream, _unit)


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


def _unit(unit: bytes) -> tuple[bool, bool]:
    """Whether a unit is a slice, and whether it can begin another picture: ITU-T H.264, section 7.4.1.2."""
    kind = unit[0] & 31 if unit else 0
    is_slice = 1 <= kind <= 5
    return is_slice, 6 <= kind <= 9 or (is_slice and unit[1:2] >= b"\x80")


def _without_sei(packet: bytes) -> bytes:
    """Drop the SEI of an Annex B packet: x264 writes 600 bytes about itself there, more than a small picture."""
    units = _START_CODE.split(packet)[1:]
    return b"".join(b"\0\0\0\1" + unit for unit in units if unit[0] & 31 != _SEI)
