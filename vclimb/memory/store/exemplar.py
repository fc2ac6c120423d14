"""An exemplar: what the memory keeps of one instance of a video."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vclimb.memory.store.stored_array import AnyArray
from vclimb.memory.store.stored_class import NO_CODEC
from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.codecs.encoded import EncodedClip, one_unit_a_frame

NO_FRAMES = one_unit_a_frame(NO_CODEC, [])
"""Clip of an exemplar that keeps numbers in place of frames."""


@dataclass(frozen=True)
class Exemplar:
    """K encoded frames of an instance or numbers in their place, such as features, and where they come from.

    Attributes:
        key: Key of the stored video.
        start_frame: First frame of the instance within the video, inclusive.
        end_frame: End of the instance within the video, exclusive.
        frames: (K,) int64 numbers of the kept frames within the video, rising; K is 0 where no frames are kept.
        clip: Encoded frames: one unit for each frame (image codecs) or one unit for all (video codecs).
        width: Width of the encoded frames in pixels; without frames, that of the video.
        height: Height of the encoded frames in pixels; without frames, that of the video.
        arrays: Numbers that are kept beside the frames or in their place, by name, such as `features` or `logits`.
    """

    key: str
    start_frame: int
    end_frame: int
    frames: Indices
    clip: EncodedClip
    width: int
    height: int
    arrays: Mapping[str, AnyArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.frames) != len(self.clip.unit) or len(self.clip.position) != len(self.clip.unit):
            raise ValueError(f"{len(self.frames)} frame numbers don't fit a clip of {len(self.clip.unit)} frames")
        if len(self.frames) and not self.start_frame <= self.frames.min() <= self.frames.max() < self.end_frame:
            raise ValueError(f"frames {self.frames.tolist()} lie outside of {self.start_frame} to {self.end_frame}")

    @property
    def payload_bytes(self) -> int:
        """Bytes of the encoded frames alone."""
        return sum(map(len, self.clip.units))
