"""Encoded frames: what codecs write, what data sets and memories store, and what streams decode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vclimb.pipeline.arrays import Indices

MAX_PIXELS = 2**26
"""Pixels of the largest picture that is decoded: 67 megapixels, twice 8K UHD."""

MIN_SIDE, MAX_SIDE = 16, 8192
"""Allowed short sides, in pixels, of frames that are scaled down."""


@dataclass(frozen=True)
class EncodedClip:
    """The encoded bytes of some frames of one item.

    Attributes:
        codec: `clip_codec` of the codec that decodes the units, such as `jpeg` or `h264`.
        units: Pieces of bytes that each decode alone: a picture, or a group of pictures. No unit occurs twice.
        unit: (T,) number of the unit that holds each frame.
        position: (T,) number of each frame within its unit; 0 for pictures.
    """

    codec: str
    units: Sequence[bytes]
    unit: Indices
    position: Indices


def one_unit_a_frame(codec: str, units: Sequence[bytes]) -> EncodedClip:
    numbers = np.arange(len(units), dtype=np.int64)
    return EncodedClip(codec, units, numbers, np.zeros_like(numbers))


def one_unit_for_all(codec: str, stream: bytes, n_frames: int) -> EncodedClip:
    numbers = np.arange(n_frames, dtype=np.int64)
    return EncodedClip(codec, [stream], np.zeros_like(numbers), numbers)
