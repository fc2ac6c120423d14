"""Networks that compute a feature of each frame, and a clip's feature from those of its frames.

What they compute of frames can be kept and replayed: the layers above it take it in place of clips.
"""

from __future__ import annotations

import abc

import numpy as np
import torch
from torch import Tensor, nn

from vclimb.model.clip_model import ClipModel
from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.clips.sampling import segment_centres


class FrameModel(ClipModel, abc.ABC):
    """A backbone over each frame of a clip, layers that make the clip's feature of the frames' features, and a head.

    Attributes:
        n_frame_features: Length of a frame's feature; a subclass sets it.
        drops_frames: Whether dropout acts on the feature of each frame, in place of the clip's.
    """

    n_frame_features: int
    drops_frames: bool = False

    @abc.abstractmethod
    def frame_features(self, clips: Tensor) -> Tensor:
        """Compute the frames' features (B, T, D) of clips (B, T, 3, H, W) uint8."""

    @abc.abstractmethod
    def pool(self, frame_features: Tensor) -> Tensor:
        """Compute the features of clips from those of their frames, (B, T, D)."""

    def features(self, clips: Tensor) -> Tensor:
        """Compute the features of clips (B, T, 3, H, W) uint8 from those of their frames."""
        return self.pool(self.frame_features(clips))

    def classify_frames(self, frame_features: Tensor) -> Tensor:
        """Compute logits (B, n_classes) from the features of frames, (B, T, D)."""
        if not self.drops_frames:
            return self.classify(self.pool(frame_features))
        logits: Tensor = self.head(self.pool(self.dropout(frame_features)))
        return logits

    def forward(self, clips: Tensor) -> Tensor:
        return self.classify_frames(self.frame_features(clips))

    def layers_above(self) -> list[nn.Parameter]:
        """List the parameters of the layers between the frames' features and the head."""
        below = {*self.backbone.parameters(), *self.head.parameters()}
        return [parameter for parameter in self.parameters() if parameter not in below]


def kept_frames(n_frames: int, count: int) -> Indices:
    """Choose the frames of a clip of `n_frames` whose features are kept: (count,) numbers, spread evenly."""
    return segment_centres(np.array(n_frames), count)


def shown_frames(count: int, n_frames: int) -> Indices:
    """Choose one of `count` kept features for each frame of a clip: (n_frames,) numbers, as kept frames are shown."""
    return segment_centres(np.array(count), n_frames)


@torch.no_grad()
def clip_features(model: FrameModel, features: Tensor, shown: Indices, batch_size: int = 256) -> Tensor:
    """Compute the features of clips, on the CPU, from kept features (n, K, D) of their frames, in evaluation mode.

    Args:
        shown: (T,) numbers of the K features that stand for the frames of a clip.
    """
    device = model.head.weight.device
    was_training = model.training
    model.eval()
    parts = [model.pool(part.to(device)[:, shown]).cpu() for part in torch.split(features, batch_size)]
    model.train(was_training)
    return torch.cat(parts)
