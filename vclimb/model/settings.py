"""Settings of the network. Importing this module loads no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vclimb.settings import Settings


class ModelConfig(Settings):
    """Network and its input.

    Attributes:
        network: Network by its name (`vclimb.list_networks()`), or a class as `package.module:Class`.
        backbone: Name of a timm model with a pooled feature, for the networks `tsn` and `tsm`; others ignore it.
        weights: Weights of the backbone: `pretrained` (downloaded), `none`, or the path of a file.
        dropout: Probability of dropout on features.
        dropout_of: Features that dropout acts on in the networks `tsn` and `tsm`: that of each `frame`, as in the code
            of TSN, or that of the `clip`, the mean of its frames'.
        clip_frames: Number of frames of a clip, T.
        size: Side of the square input, in pixels.
    """

    network: str = "tsn"
    backbone: str = "resnet34.tv_in1k"
    weights: str = "pretrained"
    dropout: float = Field(default=0.5, ge=0, le=0.999)
    dropout_of: Literal["frame", "clip"] = "frame"
    clip_frames: int = Field(default=8, ge=1, le=1024)
    size: int = Field(default=224, ge=8, le=1024)
