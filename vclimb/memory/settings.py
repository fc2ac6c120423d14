"""Settings of a replay memory, as a run, a command or a study gives them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from vclimb.memory.choice.budget import MemoryBudget, Remainder
from vclimb.memory.choice.frames import parse_frame_choice
from vclimb.memory.choice.videos import parse_video_choice
from vclimb.memory.feature_codec import keeps_features, parse_feature_codec
from vclimb.pipeline.codecs.exemplar import parse_codec
from vclimb.pipeline.errors import SettingsError
from vclimb.settings import Settings

AUTO = "auto"
"""Codec that stands for the one that fits the data set."""
PILOT = "pilot"
"""Codec, or number of frames, of a run that a pilot after its first task chooses; no memory has it."""

# What `auto` stands for, by the codec of the data set. A JPEG frame is kept as it is. A frame of H.264 doesn't stand
# alone, so it is encoded once more: as a tiny video, at about the quality of the data set (CRF 23). At equal bytes that
# keeps more videos than still pictures do, trains better (docs/study-jhmdb21.md), and decodes fastest.
_FITTING = {"jpeg": "copy", "h264": "h264:24"}


class MemorySettings(Settings):
    """What a memory keeps.

    Attributes:
        budget: Limit of the memory.
        frames: Number of frames kept of each video, K, or `all`.
        frame_choice: Rule that chooses the frames of a video, a name of `FRAME_CHOICES`.
        video_choice: Rule that ranks the videos of a class, a name of `VIDEO_CHOICES`.
        codec: Encoding of the frames, as `parse_codec` reads it; `auto`: see `fitting`; or in place of frames
            `features:fp32`, `features:fp16` or `features:int8`, which keeps a feature of each video, whatever `frames`
            is, or `frame-features:fp16` (likewise) which keeps the features of K frames.
        rebalance: Whether classes that can't use their share of the budget give it to others; None: where the budget is
            in bytes.
        remainder: Use of the part of the budget that can't be shared out equally over the classes.
        seed: Seed of the rules that draw.
    """

    budget: MemoryBudget
    frames: Annotated[int, Field(ge=1)] | Literal["all"] = 8
    frame_choice: str = "uniform"
    video_choice: str = "random"
    codec: str = "copy"
    rebalance: bool | None = None
    remainder: Remainder = "earliest-classes"
    seed: int = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        parse_frame_choice(self.frame_choice, self.frames, self.seed)
        parse_video_choice(self.video_choice, self.seed)
        if self.keeps_features:
            if parse_feature_codec(self.codec).of_frames and self.frame_choice != "uniform":
                raise SettingsError(
                    f"memory.frame_choice is {self.frame_choice}, and memory.codec {self.codec} keeps the features of "
                    "frames that are spread evenly over the clip; take uniform"
                )
            if self.budget.kind == "frames":
                raise SettingsError(
                    f"memory.budget {self.budget} counts frames, and memory.codec {self.codec} keeps none; give a "
                    "number of videos (2020v) or bytes (64MB)"
                )
        elif self.codec != AUTO:
            parse_codec(self.codec)
        return self

    @property
    def keeps_features(self) -> bool:
        """Whether features are kept in place of frames."""
        return keeps_features(self.codec)

    @property
    def keeps_frame_features(self) -> bool:
        """Whether features of K frames are kept in place of frames."""
        return self.keeps_features and parse_feature_codec(self.codec).of_frames

    @property
    def encoding(self) -> str:
        """Codec with its number and size, such as `jpeg:75@128`, as a memory names how its exemplars were encoded."""
        return str(parse_feature_codec(self.codec) if self.keeps_features else parse_codec(self.codec))

    def fitting(self, stored_codec: str) -> Self:
        """Replace the codec `auto` by the one that fits a data set, and check that the codec can take its frames.

        Args:
            stored_codec: Codec of the data set.

        Raises:
            SettingsError: the codec can't take the data set's frames, or keeps features in their place.
        """
        if self.keeps_features:
            raise SettingsError(
                f"memory.codec {self.codec} keeps features in place of frames, and frames are needed here; allowed: a "
                "codec of frames, such as jpeg:75"
            )
        codec = _FITTING[stored_codec] if self.codec == AUTO else self.codec
        if reason := parse_codec(codec).codec.refusal(stored_codec):
            raise SettingsError(reason)
        return self.replaced(codec=codec)

    @property
    def needs_features(self) -> bool:
        """Whether features are kept, or the rule that ranks videos looks at them."""
        return self.keeps_features or parse_video_choice(self.video_choice, self.seed).needs_features

    @property
    def rebalances(self) -> bool:
        """Whether classes that can't use their share of the budget give it to others."""
        return self.budget.kind == "bytes" if self.rebalance is None else self.rebalance

    @property
    def share_multiple(self) -> int:
        """Number that each class's share is a multiple of: a budget of frames counts whole videos of K frames."""
        return self.frames if self.budget.kind == "frames" and self.frames != "all" else 1
