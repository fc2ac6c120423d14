"""Temporal segment networks (Wang et al., ECCV 2016): an image backbone over T frames, the average of its features."""

from __future__ import annotations

import textwrap
from pathlib import Path
from pickle import UnpicklingError

import timm
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from vclimb.model.tsm import TemporalShift
from vclimb.pipeline.errors import SettingsError

# Mean and deviation of ImageNet's pixels: what a backbone expects that doesn't say otherwise.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Channels = tuple[float, float, float]


class PixelNorm(nn.Module):
    """uint8 RGB frames to the backbone's input range, on the device they are on.

    Args:
        mean: of pixels from 0 to 1, by channel.
        std: their deviation.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Channels = IMAGENET_MEAN, std: Channels = IMAGENET_STD) -> None:
        super().__init__()
        means, deviations = torch.tensor(mean), torch.tensor(std)
        self.register_buffer("mean", (255 * means).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", (1 / (255 * deviations)).view(1, 3, 1, 1), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """(N, 3, H, W) uint8 -> float of the autocast type, channels last."""
        device = frames.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
        return (frames.to(dtype) - self.mean.to(dtype)) * self.scale.to(dtype)


class TSN(nn.Module):
    """Backbone, average consensus over T frames, dropout and a linear head that grows with the classes seen.

    Args:
        n_classes: outputs of the head, to begin with.
        backbone: any timm model with a pooled feature.
        weights: `pretrained` (from timm's hub), `none`, or a file of weights (safetensors or a state dict).
        dropout: on the averaged feature.
        shift: temporal shift in the residual blocks; for ResNets.

    Raises:
        SettingsError: no such backbone or weights, or one that takes no temporal shift.
    """

    def __init__(
        self,
        n_classes: int,
        backbone: str = "resnet34.tv_in1k",
        weights: str = "none",
        dropout: float = 0.5,
        shift: bool = False,
    ) -> None:
        super().__init__()
        is_file = weights not in ("pretrained", "none")
        if is_file and not Path(weights).is_file():
            raise SettingsError(f"weights {weights!r} is not a file; allowed: pretrained, none, or a file")
        try:
            self.backbone: nn.Module = timm.create_model(backbone, pretrained=weights == "pretrained", num_classes=0)
            if is_file:
                _load(self.backbone, weights)
        except (RuntimeError, OSError, ValueError, EOFError, UnpicklingError, SafetensorError) as error:
            reason = textwrap.shorten(str(error), 300)
            hint = "; without a network, give their file, or none" if weights == "pretrained" else ""
            raise SettingsError(
                f"backbone {backbone!r} with weights {weights!r} can't be made: {reason}{hint}"
            ) from None
        self._shift = TemporalShift(self.backbone, backbone) if shift else None
        expected = getattr(self.backbone, "pretrained_cfg", None) or {}  # what its weights were trained with
        self.normalise = PixelNorm(expected.get("mean", IMAGENET_MEAN), expected.get("std", IMAGENET_STD))
        self.dropout = nn.Dropout(dropout)
        self.n_features: int = self.backbone.num_features  # type: ignore[assignment]
        self.head = nn.Linear(self.n_features, n_classes)

    def features(self, clips: Tensor) -> Tensor:
        """(B, T, 3, H, W) uint8 -> (B, D), the mean of the frames' features."""
        batch, n_frames = clips.shape[:2]
        if self._shift is not None:
            self._shift.n_frames = n_frames
        frames = self.normalise(clips.flatten(0, 1))
        features: Tensor = self.backbone(frames)
        return features.view(batch, n_frames, -1).mean(1)

    def forward(self, clips: Tensor) -> Tensor:
        """(B, T, 3, H, W) uint8 -> (B, n_classes) logits."""
        return self.classify(self.features(clips))

    def classify(self, features: Tensor) -> Tensor:
        """(B, D) -> (B, n_classes) logits."""
        logits: Tensor = self.head(self.dropout(features))
        return logits

    def grow_head(self, n_classes: int) -> None:
        """Give the head more outputs. Those that are there keep their weights; new ones start as a new layer's do.

        An optimiser made before doesn't know the new parameters.

        Raises:
            ValueError: fewer outputs than there are.
        """
        old = self.head
        if n_classes < old.out_features:
            raise ValueError(f"a head of {old.out_features} outputs can't shrink to {n_classes}")
        # Drawn on the CPU, so that a seed means the same on every device.
        self.head = nn.Linear(old.in_features, n_classes, dtype=old.weight.dtype).to(old.weight.device)
        with torch.no_grad():
            self.head.weight[: old.out_features] = old.weight
            self.head.bias[: old.out_features] = old.bias


def _load(backbone: nn.Module, file: str) -> None:
    """Load all of a backbone's weights; what else the file holds, such as a classifier, is left."""
    keys = timm.models.load_checkpoint(backbone, file, strict=False)
    if keys is not None and keys.missing_keys:  # None: a NumPy file, which the backbone has read by itself
        raise ValueError(f"{len(keys.missing_keys)} of its tensors are not in the file, {keys.missing_keys[0]!r} first")
