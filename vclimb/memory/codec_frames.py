"""What goes into an exemplar's codec and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional

from vclimb.pipeline.clips.provider import ClipProvider, EncodedClip, Indices
from vclimb.pipeline.codecs.decode import Pixels, decode_clip


@dataclass(frozen=True)
class SourceFrames:
    """The frames of an instance that are to be kept.

    Attributes:
        clip: as they are stored in the data set; (K,) frames, `jpeg` or `h264`.
        width: pixels of the stored frames.
        height: pixels likewise.
        where: tells where the frame in a place of the clip lies, for an error.
    """

    clip: EncodedClip
    width: int
    height: int
    where: Callable[[int], str]

    @classmethod
    def read(cls, provider: ClipProvider, item: int, frames: Indices) -> SourceFrames:
        """Frames (K,) of a provider's item, numbered within the item.

        Raises:
            FrameDamagedError: they are not what was stored.
        """
        facts = provider.items
        clip = provider.read(item, frames)
        width, height = int(facts.widths[item]), int(facts.heights[item])
        return cls(clip, width, height, lambda place: provider.where(item, int(frames[place])))

    @cached_property
    def pixels(self) -> Pixels:
        """(K, height, width, 3) uint8 RGB, decoded when first asked for.

        Raises:
            FrameDamagedError: one doesn't decode.
        """
        return decode_clip(self.clip, self.width, self.height, self.where)


@dataclass(frozen=True)
class EncodedFrames:
    """What a codec made of an exemplar's frames.

    Attributes:
        clip: (K,) frames; its codec is one that `vclimb.pipeline.codecs.decode.decode_clip` takes.
        width: pixels of the frames that come out of it.
        height: pixels likewise.
    """

    clip: EncodedClip
    width: int
    height: int


def scaled_down(pixels: Pixels, short_side: int) -> Pixels:
    """Frames (K, H, W, 3) with their shorter side scaled down to so many pixels: antialiased, of the same aspect.

    Frames that are no larger stay as they are.
    """
    _, height, width, _ = pixels.shape
    if min(height, width) <= short_side:
        return pixels
    scale = short_side / min(height, width)
    size = (round(height * scale), round(width * scale))
    frames = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)
    frames = torch.nn.functional.interpolate(frames, size, mode="bilinear", antialias=True)
    scaled: Pixels = frames.permute(0, 2, 3, 1).contiguous().numpy()
    return scaled
