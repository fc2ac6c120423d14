"""Replay of features: a linear head on a frozen network, trained on new features and on those that a memory keeps.

vclimb train shards/ucf101 --out runs/features --tasks 10 --method features --budget 5MB --codec features:fp16

The idea of ESSENTIAL (Lee et al., ICCV 2025): features are kept, and what lies above them is trained; here without
that method's modules of cross-attention, which take more bytes than the features.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field

from vclimb.methods.method import Method, MethodConfig, TaskData, TaskInfo
from vclimb.methods.softmax_head import softmax_head
from vclimb.model.clip_model import ClipModel


class FeaturesConfig(MethodConfig):
    """Settings of the head.

    Attributes:
        weight_decay: Weight of the penalty on the head's weights, for features of mean squared length 1. The default is
            the best of seven on training videos of J-HMDB-21, of which the sources of a fifth were left out in turn.
        steps: Limit of the iterations by which the head is fitted.
    """

    weight_decay: float = Field(default=0.01, gt=0, le=1e9)
    steps: int = Field(default=500, ge=1, le=100_000)


class Features(Method[FeaturesConfig]):
    """A linear head by softmax cross-entropy, fitted anew after each task to the features of all classes.

    The network keeps the weights that it was initialised with. New classes count with the features of all their clips
    (segment centres, centre crop), earlier ones with those that the memory keeps; each class counts the same. A memory
    that keeps all videos, unrounded, gives the head of all classes at once.
    """

    name = "features"
    summary = "Replay of features in place of frames: a linear head on a frozen network; needs a budget."
    Config = FeaturesConfig
    replays = True
    replays_features = True

    def trains(self, task: TaskInfo) -> bool:
        return False

    def end_task(self, task: TaskInfo, model: ClipModel, data: TaskData) -> None:
        new = data.outputs(np.arange(len(data.labels)))
        kept, kept_labels = data.kept_features()
        head = softmax_head(
            torch.cat([kept, new.features]),
            torch.cat([kept_labels, torch.from_numpy(new.labels)]),
            task.n_classes,
            self.config.weight_decay,
            self.config.steps,
        )
        with torch.no_grad():
            model.head.weight.copy_(head.weight)
            model.head.bias.copy_(head.bias)
