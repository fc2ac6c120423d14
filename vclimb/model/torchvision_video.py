"""Video networks of torchvision, with its Kinetics-400 weights, weights from a file, or none.

R(2+1)D and MC3: Tran et al., "A closer look at spatiotemporal convolutions for action recognition", CVPR 2018. Video
Swin: Liu et al., "Video Swin Transformer", CVPR 2022.

Weights trained on Kinetics-400 have seen the classes of the benchmark's Kinetics scenarios, and many of its others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn
from torchvision.models import video

from vclimb.model.clip_model import IMAGENET_MEAN, IMAGENET_STD, Channels, ClipModel
from vclimb.model.settings import ModelConfig
from vclimb.model.weights import make_backbone

KINETICS_MEAN: Channels = (0.43216, 0.394666, 0.37645)
KINETICS_STD: Channels = (0.22803, 0.22145, 0.216989)


class TorchvisionVideo(ClipModel):
    """A video network of torchvision whose classifier is replaced by a growing head.

    Attributes:
        classifier: Name of the classifier in torchvision's module.
    """

    least_frames = 2
    least_size = 16
    build: ClassVar[Callable[..., nn.Module]]
    classifier: ClassVar[str] = "fc"
    mean: ClassVar[Channels] = KINETICS_MEAN
    std: ClassVar[Channels] = KINETICS_STD

    def __init__(self, n_classes: int, config: ModelConfig) -> None:
        n_features = 0

        def make(pretrained: bool) -> nn.Module:
            nonlocal n_features
            module = self.build(weights="DEFAULT" if pretrained else None)
            n_features = module.get_submodule(self.classifier).in_features  # type: ignore[assignment]
            setattr(module, self.classifier, nn.Identity())
            return module

        backbone = make_backbone(self.name, config.weights, make)
        super().__init__(backbone, n_features, n_classes, config.dropout, self.mean, self.std)

    def features(self, clips: Tensor) -> Tensor:
        """Compute the pooled features (B, D) of clips (B, T, 3, H, W) uint8."""
        batch, n_frames = clips.shape[:2]
        frames: Tensor = self.normalise(clips.flatten(0, 1)).view(batch, n_frames, *clips.shape[2:])
        features: Tensor = self.backbone(frames.transpose(1, 2))
        return features


class R2Plus1D18(TorchvisionVideo):
    """R(2+1)D-18: each 3-D convolution is a 2-D convolution in space and a 1-D convolution in time."""

    name = "r2plus1d_18"
    summary = "torchvision's R(2+1)D-18: convolutions in space and in time."
    build = staticmethod(video.r2plus1d_18)


class MC318(TorchvisionVideo):
    """MC3-18: 3-D convolutions in the first layers, 2-D convolutions in the others."""

    name = "mc3_18"
    summary = "torchvision's MC3-18: 3-D convolutions in the first layers."
    build = staticmethod(video.mc3_18)


class Swin3dT(TorchvisionVideo):
    """Video Swin-T: attention within shifted windows of 8 x 7 x 7 patches of 2 x 4 x 4 pixels."""

    name = "swin3d_t"
    summary = "torchvision's Video Swin-T: attention within shifted windows."
    least_size = 32
    build = staticmethod(video.swin3d_t)
    classifier = "head"
    mean = IMAGENET_MEAN
    std = IMAGENET_STD
