"""Temporal segment networks (Wang et al., ECCV 2016): an image backbone over T frames, the average of its features.

The paper averages the frames' scores (section 3.1). A linear head on the mean of their features gives the same scores.
The authors' code drops out each frame's feature by a mask of its own (yjxiong/tsn-pytorch, models.py: dropout is the
last layer of the backbone, before the head and the average), which for T frames makes T times less noise than one mask.
"""

from __future__ import annotations

import functools
import re
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from vclimb.model.clip_model import IMAGENET_MEAN, IMAGENET_STD
from vclimb.model.frame_model import FrameModel
from vclimb.model.frozen import Stages, timm_stages
from vclimb.model.settings import ModelConfig
from vclimb.model.weights import make_backbone
from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.suggestion import suggestion


class TSN(FrameModel):
    """Average consensus over the features of T frames. The backbone is any timm model with a pooled feature."""

    name = "tsn"
    summary = "A timm image backbone over each frame, and the average of its features."

    def __init__(self, n_classes: int, config: ModelConfig) -> None:
        from timm import create_model

        backbone = make_backbone(
            config.backbone,
            config.weights,
            lambda pretrained: create_model(config.backbone, pretrained=pretrained, num_classes=0),
        )
        weights_config = getattr(backbone, "pretrained_cfg", None) or {}
        super().__init__(
            backbone,
            backbone.num_features,  # type: ignore[arg-type]
            n_classes,
            config.dropout,
            weights_config.get("mean", IMAGENET_MEAN),
            weights_config.get("std", IMAGENET_STD),
        )
        self.n_frame_features = self.n_features
        self.drops_frames = config.dropout_of == "frame"

    @classmethod
    def check(cls, config: ModelConfig) -> None:
        super().check(config)
        name = config.backbone.partition(".")[0]
        if ":" in name or name in _names_in_source():  # hf-hub:NAME and local-dir:PATH are not listed
            return
        from timm import list_models  # Takes seconds, which a plan or a dry run needn't spend on names that are known.

        if name not in (names := list_models()):
            near = suggestion(name, names).partition("allowed: ")[0]
            raise SettingsError(f"model.backbone {config.backbone!r} is not known; {near}allowed: any model of timm")

    def stages(self) -> Stages:
        return timm_stages(self.backbone) or super().stages()

    def frame_features(self, clips: Tensor) -> Tensor:
        batch, n_frames = clips.shape[:2]
        frames = self.normalise(clips.flatten(0, 1))
        features: Tensor = self.backbone(frames)
        return features.view(batch, n_frames, -1)

    def pool(self, frame_features: Tensor) -> Tensor:
        """Compute the mean of the frames' features (B, T, D)."""
        return frame_features.mean(1)


@functools.cache
def _names_in_source() -> frozenset[str]:
    """Read the names of timm's models from its source files, without importing them."""
    spec = find_spec("timm")
    places = (spec.submodule_search_locations if spec else None) or ()
    files = (file for place in places for file in Path(place, "models").glob("*.py"))
    return frozenset(re.findall(r"^@register_model\s+def (\w+)", "\n".join(f.read_text("utf-8") for f in files), re.M))
