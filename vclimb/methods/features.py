"""Replay of features: what lies above a frozen network is trained on new features and on those that a memory keeps.

vclimb train shards/ucf101 --out runs/features --tasks 10 --method features --budget 5MB --codec features:fp16
vclimb train shards/ucf101 --out runs/frames --tasks 10 --method features --budget 50MB --frames 8
    --codec frame-features:fp16 --set model.network=tcn

The idea of ESSENTIAL (Lee et al., ICCV 2025): features are kept, and what lies above them is trained; here without
that method's modules of cross-attention, which take more bytes than the features.
"""

from __future__ import annotations

import torch
from pydantic import Field

from vclimb.methods.method import Method, MethodConfig, TaskData, TaskInfo
from vclimb.methods.softmax_head import softmax_head
from vclimb.methods.temporal_layers import fit_layers_above
from vclimb.model.clip_model import ClipModel
from vclimb.model.frame_model import FrameModel, clip_features


class FeaturesConfig(MethodConfig):
    """Settings of what is trained above the features.

    Attributes:
        weight_decay: Weight of the penalty on the head's weights, for features of mean squared length 1. The default is
            the best of seven on training videos of J-HMDB-21, of which the sources of a fifth were left out in turn.
        steps: Limit of the iterations by which the head is fitted.
        temporal_rate: Learning rate of temporal layers, with their head, where features of frames are kept.
        temporal_steps: Number of training steps of temporal layers, with their head, after each task.
    """

    weight_decay: float = Field(default=0.01, gt=0, le=1e9)
    steps: int = Field(default=500, ge=1, le=100_000)
    temporal_rate: float = Field(default=0.001, gt=0, le=100)
    temporal_steps: int = Field(default=2000, ge=1, le=1_000_000)


class Features(Method[FeaturesConfig]):
    """What lies above a frozen network, trained anew after each task on the features of all classes.

    The backbone keeps the weights that it was initialised with. New classes count with the features of all their clips
    (segment centres, centre crop), earlier ones with those that the memory keeps; each class counts the same. A linear
    head is fitted by softmax cross-entropy. Where the memory keeps features of frames and the network has temporal
    layers above them, these are trained with a head in place of that; new clips are shown in as many frames as the
    memory keeps, so that old and new classes look alike. A memory that keeps all videos, unrounded, gives what training
    on all classes at once gives.
    """

    name = "features"
    summary = "Replay of features in place of frames: what lies above a frozen network is trained; needs a budget."
    Config = FeaturesConfig
    replays = True
    replays_features = True
    restarts = True
    memory_settings = frozenset({"codec", "frames"})

    def trains(self, task: TaskInfo) -> bool:
        return False

    def end_task(self, task: TaskInfo, model: ClipModel, data: TaskData) -> None:
        samples, settings = data.feature_samples(), self.config
        features = samples.features
        if samples.shown is not None:
            assert isinstance(model, FrameModel)
            if model.layers_above():
                fit_layers_above(
                    model, samples, task.n_classes, settings.temporal_rate, settings.temporal_steps, data.seed
                )
                data.same_everywhere(model)
                return
            features = clip_features(model, features, samples.shown)
        head = softmax_head(features, samples.labels, task.n_classes, settings.weight_decay, settings.steps)
        with torch.no_grad():
            model.head.weight.copy_(head.weight)
            model.head.bias.copy_(head.bias)
