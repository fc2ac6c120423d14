"""A temporal convolutional network over the features of frames.

Dilated residual convolutions in time: Lea et al., "Temporal Convolutional Networks for Action Segmentation and
Detection", CVPR 2017; Bai et al., "An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence
Modeling", 2018 (theirs are causal; these see both directions, as the whole clip is there).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vclimb.model.clip_model import make_head
from vclimb.model.settings import ModelConfig
from vclimb.model.tsn import TSN

WIDTH = 256
"""Number of channels of the temporal layers."""
DILATIONS = (1, 2, 4)
"""Dilations of the residual convolutions of 3 frames: together they see 15 frames."""


class TCN(TSN):
    """TSN whose feature is joined by that of convolutions over the frames' features, which see their order.

    Freezing parts of the backbone leaves the temporal layers free; they are trained at the head's learning rate.
    """

    name = "tcn"
    summary = "TSN with temporal convolutions over the frames' features."

    def __init__(self, n_classes: int, config: ModelConfig) -> None:
        super().__init__(n_classes, config)
        self.temporal = TemporalConvolutions(self.n_features)
        self.n_features += WIDTH
        self.head = make_head(self.n_features, n_classes)

    def pool(self, frame_features: Tensor) -> Tensor:
        """Join the mean of the frames' features and that of the temporal layers: (B, D + 256) of (B, T, D)."""
        return torch.cat([super().pool(frame_features), self.temporal(frame_features).mean(1)], dim=1)


class TemporalConvolutions(nn.Module):
    """Normalised and projected features of frames, with three residual convolutions in time."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(n_features)
        self.project = nn.Linear(n_features, WIDTH)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(WIDTH, WIDTH, 3, padding=dilation, dilation=dilation) for dilation in DILATIONS
        )

    def forward(self, frame_features: Tensor) -> Tensor:
        """Compute features (B, T, 256) of the features (B, T, D) of frames. Frames beyond the ends are zeros."""
        features: Tensor = self.project(self.norm(frame_features)).transpose(1, 2)
        for convolution in self.convolutions:
            features = features + functional.relu(convolution(features))
        return features.transpose(1, 2)
