"""An exemplar: what the memory keeps of one instance of a video."""

from __future__ import annotations

from dataclasses import dataclass

from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.codecs.encoded import EncodedClip


@dataclass(frozen=True)
class Exemplar:
    """K encoded frames of an instance, and where they come from.

    Attributes:
        key: Key of the stored video.
        start_frame: First frame of the instance within the video, inclusive.
        end_frame: End of the instance within the video, exclusive.
        frames: (K,) int64 numbers of the kept frames within the video, rising.
        clip: Encoded frames: one unit for each frame (image codecs) or one unit for all (video codecs).
        width: Width of the encoded frames in pixels.
        height: Height of the encoded frames in pixels.
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
