"""What a replay memory keeps: the settings that a run, a command or a study gives it."""

from __future__ import annotations

from dataclasses import dataclass

from vclimb.memory.choice.budget import MemoryBudget
from vclimb.memory.choice.frames import FrameCount, parse_frame_choice
from vclimb.memory.choice.videos import parse_video_choice
from vclimb.pipeline.codecs.exemplar import parse_codec


@dataclass(frozen=True)
class MemorySettings:
    """What a memory keeps.

    Attributes:
        budget: at most.
        frames: K, frames of a video that are kept, or `all`.
        frame_choice: which of them, a name of `frame_choice.FRAME_CHOICES`.
        video_choice: which videos of a class, a name of `video_choice.VIDEO_CHOICES`.
        codec: how frames are encoded, as `codecs.parse_codec` reads it.
        rebalance: classes that can't use their share give it to others.
        seed: of the choices that draw.

    Raises:
        SettingsError: one of the names isn't known.
    """

    budget: MemoryBudget
    frames: FrameCount = 8
    frame_choice: str = "uniform"
    video_choice: str = "random"
    codec: str = "copy"
    rebalance: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        parse_frame_choice(self.frame_choice, self.frames, self.seed)
        parse_video_choice(self.video_choice, self.seed)
        parse_codec(self.codec)

    @property
    def needs_features(self) -> bool:
        """Whether the choice of videos looks at features."""
        return parse_video_choice(self.video_choice, self.seed).needs_features

    @property
    def granule(self) -> int:
        """Shares of the budget are multiples of it: a budget of frames counts whole videos of K frames."""
        return self.frames if self.budget.kind == "frames" and self.frames != "all" else 1
