"""An exemplar: what the memory keeps of one instance of a video."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vclimb.pipeline.clips.provider import EncodedClip, Indices


@dataclass(frozen=True)
class Exemplar:
    """K encoded frames of an instance, and where they come from.

    Attributes:
        key: of the stored video.
        start_frame: of the instance within the video, inclusive.
        end_frame: of the instance within the video, exclusive.
        frames: (K,) int64 numbers, within the video, of the frames that are kept; rising.
        clip: their bytes: one unit a frame (image codecs) or one unit for all (video codecs).
        width: pixels of the encoded frames.
        height: pixels of the encoded frames.
    """

    key: str
    start_frame: int
    end_frame: int
    frames: Indices
    clip: EncodedClip
    width: int
    height: int

    def __post_init__(self) -> None:
        if len(self.frames) != len(self.clip.unit) or len(self.clip.position) != len(self.clip.unit):
            raise ValueError(f"{len(self.frames)} frame numbers don't fit a clip of {len(self.clip.unit)} frames")
        if len(self.frames) and not self.start_frame <= self.frames.min() <= self.frames.max() < self.end_frame:
            raise ValueError(f"frames {self.frames.tolist()} lie outside of {self.start_frame} to {self.end_frame}")

    @property
    def payload_bytes(self) -> int:
        """Bytes of the encoded frames alone."""
        return sum(map(len, self.clip.units))


def one_unit_a_frame(codec: str, units: list[bytes]) -> EncodedClip:
    """A clip of pictures that stand alone."""
    numbers = np.arange(len(units), dtype=np.int64)
    return EncodedClip(codec, units, numbers, np.zeros_like(numbers))


def one_unit_for_all(codec: str, stream: bytes, n_frames: int) -> EncodedClip:
    """A clip whose frames are one tiny video."""
    numbers = np.arange(n_frames, dtype=np.int64)
    return EncodedClip(codec, [stream], np.zeros_like(numbers), numbers)
