"""The interface of networks: a feature of each clip, and a linear head that grows with the classes seen.

A network is one file with one class:

    class Mine(ClipModel):
        name = "mine"
        summary = "A network of mine."
        least_frames = 4

        def __init__(self, n_classes: int, config: ModelConfig) -> None:
            backbone = make_my_backbone(config.weights)
            super().__init__(backbone, backbone.n_features, n_classes, config.dropout)

        def features(self, clips: Tensor) -> Tensor: ...

In this folder, it is found by its file. In another package, it is found by an entry point of the group
`vclimb.networks`, or chosen as `--set model.network=package.module:Mine`.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from vclimb.model.frozen import Stages, frozen_modules
from vclimb.model.settings import FrozenParts, ModelConfig
from vclimb.model.weights_file import check_weights
from vclimb.pipeline.errors import SettingsError

Channels = tuple[float, float, float]

IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_STD: Channels = (0.229, 0.224, 0.225)


class PixelNorm(nn.Module):
    """Normalisation of uint8 RGB frames to the backbone's input range, on the frames' device.

    Args:
        mean: Mean of each channel, of pixels from 0 to 1.
        std: Standard deviation of each channel.

    Attributes:
        mean: (1, 3, 1, 1) mean of pixels from 0 to 255: the colour that becomes 0.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Channels = IMAGENET_MEAN, std: Channels = IMAGENET_STD) -> None:
        super().__init__()
        means, deviations = torch.tensor(mean), torch.tensor(std)
        self.register_buffer("mean", (255 * means).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", (1 / (255 * deviations)).view(1, 3, 1, 1), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """Normalise frames (N, 3, H, W) uint8 to floats of autocast's dtype, in the same memory format."""
        device = frames.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
        return (frames.to(dtype) - self.mean.to(dtype)) * self.scale.to(dtype)


def make_head(n_features: int, n_classes: int) -> nn.Linear:
    """Make a head with weights of N(0, 0.001) and bias 0, as the code of TSN does.

    Sources: yjxiong/tsn-pytorch, models.py, `_prepare_tsn`; and the benchmark's copy of it, also for new outputs.
    """
    head = nn.Linear(n_features, n_classes)
    nn.init.normal_(head.weight, std=0.001)
    nn.init.zeros_(head.bias)
    return head


class ClipModel(nn.Module, abc.ABC):
    """A network that classifies clips: a backbone, dropout, and a linear head.

    A subclass takes `(n_classes, config)`. It makes its backbone before it calls this constructor, so that a seed
    gives the same weights of the head for every backbone that draws the same number of random values.

    To work with every method, a network must compute a clip's feature from this clip alone in evaluation mode, and must
    be differentiable by `torch.func` (EWC and MAS take the gradient of each clip).

    Args:
        backbone: Module whose weights are loaded from a file, and which `compute.compile` compiles.
        n_features: Length of a clip's feature, D.
        n_classes: Number of the head's outputs.
        dropout: Probability of dropout on features.
        mean: Mean of each channel that the backbone's weights were trained with.
        std: Standard deviation of each channel that the backbone's weights were trained with.

    Attributes:
        name: Name of the network in settings.
        summary: Description of the network in one line.
        least_frames: Smallest number of frames of a clip.
        least_size: Smallest side of the square input, in pixels.
    """

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    least_frames: ClassVar[int] = 1
    least_size: ClassVar[int] = 8

    def __init__(
        self,
        backbone: nn.Module,
        n_features: int,
        n_classes: int,
        dropout: float = 0.5,
        mean: Channels = IMAGENET_MEAN,
        std: Channels = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.normalise = PixelNorm(mean, std)
        self.dropout = nn.Dropout(dropout)
        self.n_features = n_features
        self.head = make_head(n_features, n_classes)
        self._frozen: list[nn.Module] = []

    @classmethod
    def check(cls, config: ModelConfig) -> None:
        """Refuse settings that don't fit the network, without making it.

        Raises:
            SettingsError: a setting doesn't fit.
        """
        if config.clip_frames < cls.least_frames:
            raise SettingsError(
                f"network {config.network} needs model.clip_frames {cls.least_frames} or more, not {config.clip_frames}"
            )
        if config.size < cls.least_size:
            raise SettingsError(
                f"network {config.network} needs model.size {cls.least_size} or more, not {config.size}"
            )
        check_weights(config.weights)

    @property
    def n_classes(self) -> int:
        """Number of the head's outputs."""
        return self.head.out_features

    def stages(self) -> Stages:
        """List the modules of each stage of the backbone, from the input on: the stem is stage 0.

        Raises:
            SettingsError: the network has no stages.
        """
        raise SettingsError(f"training.frozen: network {self.name} names no stages; allowed: none, all, batch-norm")

    def freeze(self, parts: FrozenParts) -> None:
        """Keep the values of some parts of the backbone, whatever mode the network is in. Copies keep them as well.

        Raises:
            SettingsError: the network has no such parts.
        """
        self._frozen = frozen_modules(self.backbone, parts, self.name, self.stages)
        for module in self._frozen:
            module.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all modules but the frozen ones, which stay in evaluation mode."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    @abc.abstractmethod
    def features(self, clips: Tensor) -> Tensor:
        """Compute the features (B, D) of clips (B, T, 3, H, W) uint8."""

    def classify(self, features: Tensor) -> Tensor:
        """Compute logits (B, n_classes) from features (B, D)."""
        logits: Tensor = self.head(self.dropout(features))
        return logits

    def forward(self, clips: Tensor) -> Tensor:
        """Compute logits (B, n_classes) of clips (B, T, 3, H, W) uint8."""
        return self.classify(self.features(clips))

    def grow(self, n_classes: int) -> None:
        """Give the head more outputs. Present outputs keep their weights; new ones start as those of a new head.

        An optimiser made before doesn't know the new parameters.

        Raises:
            ValueError: the head has more outputs already.
        """
        old = self.head
        if n_classes < old.out_features:
            raise ValueError(f"a head of {old.out_features} outputs can't shrink to {n_classes}")
        # Drawn on the CPU, so that a seed means the same on every device.
        self.head = make_head(old.in_features, n_classes).to(old.weight)
        with torch.no_grad():
            self.head.weight[: old.out_features] = old.weight
            self.head.bias[: old.out_features] = old.bias

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Load a `state_dict()` of the same network, with any number of classes."""
        n_classes = len(state["head.weight"])
        if n_classes != self.n_classes:
            self.head = nn.Linear(self.n_features, n_classes, device=self.head.weight.device)
        self.load_state_dict(state)
