"""Encoded frames to RGB pixels on the CPU."""

from __future__ import annotations

import numpy as np

from vclimb.pipeline.arrays import Pixels
from vclimb.pipeline.codecs.codec import Where
from vclimb.pipeline.codecs.encoded import EncodedClip
from vclimb.pipeline.codecs.registry import pixel_codecs
from vclimb.pipeline.errors import DatasetError, FrameDamagedError


def decode_clip(clip: EncodedClip, width: int, height: int, where: Where) -> Pixels:
    """Decode all frames of a clip, stored at this size: (T, height, width, 3) uint8 RGB.

    Safe to call from several threads. `where` names the place of a frame in an error.

    Raises:
        FrameDamagedError: A frame doesn't decode, or has another size.
        DatasetError: No codec decodes this kind of clip.
        SettingsError: An installed package lacks the decoder.
    """
    decoders = pixel_codecs()
    if clip.codec not in decoders:
        raise DatasetError(f"frames of codec {clip.codec!r} can't be decoded; this version knows {', '.join(decoders)}")
    try:
        frames: Pixels = np.empty((len(clip.unit), height, width, 3), np.uint8)
    except MemoryError:
        raise FrameDamagedError(
            f"{where(0)}: {len(clip.unit)} frames of {width}x{height} pixels don't fit in this machine's memory"
        ) from None
    decoders[clip.codec].decode(clip, frames, where)
    return frames
