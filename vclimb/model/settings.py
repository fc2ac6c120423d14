"""Settings of the network. Importing this module loads no torch."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import Field

from vclimb.pipeline.errors import SettingsError
from vclimb.settings import Settings

_STAGES = "stages:"
_MOST_STAGES = 1000


TIMM_NETWORKS = ("tsn", "tsm", "tcn")
"""Networks over a backbone of timm."""


class ModelConfig(Settings):
    """Network and its input.

    Attributes:
        network: Network by its name (`vclimb.list_networks()`), or a class as `package.module:Class`.
        backbone: Name of a timm model with a pooled feature, for the networks `tsn`, `tsm` and `tcn`; others ignore
            it.
        weights: Weights of the backbone: `pretrained` (downloaded), `none`, or the path of a file.
        dropout: Probability of dropout on features.
        dropout_of: Features that dropout acts on in the networks `tsn`, `tsm` and `tcn`: that of each `frame`, as in
            the code of TSN, or that of the `clip`.
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


class FrozenParts(NamedTuple):
    """Parts of a backbone that keep their values.

    Attributes:
        everything: Whether the whole backbone is frozen.
        stages: Number of stages that are frozen, with the stem; None: neither they nor the stem.
        batch_norm_after: Number of layers of batch normalisation before the first frozen one; None: none is frozen.
    """

    everything: bool = False
    stages: int | None = None
    batch_norm_after: int | None = None


def parse_frozen(text: str) -> FrozenParts:
    """Read the setting `training.frozen`.

    Raises:
        SettingsError: a part is not known.
    """
    parts = FrozenParts()
    for name in [] if text == "none" else text.split("+"):
        number = name.removeprefix(_STAGES)
        if name == "all":
            parts = parts._replace(everything=True)
        elif name == "batch-norm":
            parts = parts._replace(batch_norm_after=0)
        elif name == "later-batch-norm":
            parts = parts._replace(batch_norm_after=1)
        elif name != number and number.isascii() and number.isdecimal() and int(number[:9]) <= _MOST_STAGES:
            parts = parts._replace(stages=int(number[:9]))
        else:
            raise SettingsError(
                f"training.frozen {text[:80]!r} is not known; allowed: none, all, batch-norm, later-batch-norm, "
                "stages:N, and two of them joined by a plus, such as stages:3+batch-norm"
            )
    return parts
