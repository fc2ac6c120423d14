"""Encoded frames to RGB pixels on the CPU."""

from __future__ import annotations

import numpy as np

from vclimb.pipeline.arrays import Pixels
from vclimb.pipeline.codecs.codec import Where
from vclimb.pipeline.codecs.encoded import EncodedClip
from vclimb.pipeline.codecs.registry import decoder_of


def decode_clip(clip: EncodedClip, width: int, height: int, where: Where) -> Pixels:
    """Decode all frames of a clip: (T, height, width, 3) uint8 RGB. Safe to call from several threads.

    Args:
        clip: Encoded frames.
        width: Width of the stored frames in pixels.
        height: Height of the stored frames in pixels.
        where: Describes, for an error message, where the frame at a place of the clip is stored.

    Raises:
        FrameDamagedError: A frame doesn't decode, or has another size.
        DatasetError: No codec decodes this kind of clip.
        SettingsError: An installed package lacks the decoder.
    """
    decoder = decoder_of(clip.codec)
    frames: Pixels = np.empty((len(clip.unit), height, width, 3), np.uint8)
    decoder.decode(clip, frames, where)
    return frames
