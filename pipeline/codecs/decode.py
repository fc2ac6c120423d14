"""Encoded frames to RGB pixels on the CPU."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vclimb.pipeline.arrays import Pixels
from vclimb.pipeline.codecs.codec import PictureCodec, PixelCodec, Where
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
    frames = _memory(len(clip.unit), width, height, where)
    _decoder(clip).decode(clip, frames, where)
    return frames


def decode_each(clip: EncodedClip, width: int, height: int, where: Where) -> Iterator[Pixels]:
    """Decode the frames of a clip one after another: (height, width, 3) uint8 RGB, each valid until the next one.

    Raises what `decode_clip` raises, and is as safe.
    """
    decoder = _decoder(clip)
    if isinstance(decoder, PictureCodec):
        frame = _memory(1, width, height, where)[0]
        for place in range(len(clip.unit)):
            decoder.decode_place(clip, place, frame, where)
            yield frame
    else:
        yield from decode_clip(clip, width, height, where)


def _decoder(clip: EncodedClip) -> PixelCodec:
    decoders = pixel_codecs()
    if clip.codec not in decoders:
        raise DatasetError(f"frames of codec {clip.codec!r} can't be decoded; this version knows {', '.join(decoders)}")
    return decoders[clip.codec]


def _memory(n_frames: int, width: int, height: int, where: Where) -> Pixels:
    try:
        return np.empty((n_frames, height, width, 3), np.uint8)
    except MemoryError:
        raise FrameDamagedError(
            f"{where(0)}: {n_frames} frames of {width}x{height} pixels don't fit in this machine's memory"
        ) from None
