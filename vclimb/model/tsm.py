"""Temporal shift (TSM: Lin, Gan, Han, "TSM: Temporal Shift Module for Efficient Video Understanding", ICCV 2019)."""

from __future__ import annotations

import functools
from typing import Any

import torch
from timm import create_model
from timm.models._efficientnet_blocks import EdgeResidual, InvertedResidual
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from vclimb.model.settings import ModelConfig
from vclimb.model.tsn import TSN
from vclimb.pipeline.errors import SettingsError

FOLD = 8
"""Divisor of the channels: 1/8 come from the previous frame, 1/8 from the next frame (section 4.1)."""


class TSM(TSN):
    """TSN over a network whose residual blocks shift channels in time (the paper's residual shift, figure 3b).

    The shift adds no parameters: the weights of TSN and TSM over one backbone have the same names.
    """

    name = "tsm"
    summary = "TSN over a timm network whose residual blocks shift channels in time."

    def __init__(self, n_classes: int, config: ModelConfig) -> None:
        super().__init__(n_classes, config)
        convolutions = shifted_convolutions(self.backbone)
        if not convolutions:
            raise _no_blocks(config.backbone)
        self._shift = TemporalShift()
        for convolution in convolutions:
            convolution.register_forward_pre_hook(self._shift)

    @classmethod
    def check(cls, config: ModelConfig) -> None:
        super().check(config)
        # What is not made by its name alone, such as hf-hub:NAME, is checked when it is made.
        if ":" not in config.backbone and not _has_blocks(config.backbone):
            raise _no_blocks(config.backbone)

    def frame_features(self, clips: Tensor) -> Tensor:
        self._shift.n_frames = clips.shape[1]
        return super().frame_features(clips)


class TemporalShift:
    """Hook that shifts the first input of a convolution."""

    n_frames = 1  # of a clip; set before each pass

    def __call__(self, _: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (shift_channels(inputs[0], self.n_frames), *inputs[1:])


def shifted_convolutions(backbone: nn.Module) -> list[nn.Module]:
    """List the convolutions whose input is shifted: the first one of the branch of each residual block.

    Of inverted residuals (MobileNet, EfficientNet), those with a shortcut and an expansion, as in the authors' code for
    MobileNetV2 (mit-han-lab/temporal-shift-module, ops/models.py and archs/mobilenet_v2.py).
    """
    convolutions: list[nn.Module] = []
    for block in backbone.modules():
        if isinstance(block, BasicBlock | Bottleneck):
            convolutions.append(block.conv1)
        elif isinstance(block, InvertedResidual) and block.has_skip:
            convolutions.append(block.conv_pw)
        elif isinstance(block, EdgeResidual) and block.has_skip:
            convolutions.append(block.conv_exp)
    return convolutions


@functools.cache
def _has_blocks(backbone: str) -> bool:
    """Tell whether a model of timm has convolutions to shift, without memory for its weights."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return bool(shifted_convolutions(create_model(backbone, pretrained=False, num_classes=0)))


def _no_blocks(backbone: str) -> SettingsError:
    return SettingsError(
        f"network tsm shifts channels in residual blocks of ResNets, MobileNets and EfficientNets, and {backbone!r} "
        "has none; take one that has, such as resnet34.tv_in1k or tf_efficientnet_lite0.in1k, or network tsn"
    )


def shift_channels(features: Tensor, n_frames: int) -> Tensor:
    """Take the first C // 8 channels from the next frame, and the next C // 8 channels from the previous frame.

    Frames beyond the ends of a clip are zeros.

    The features of all frames are (B * T, C, H, W).
    """
    channels = features.shape[1] // FOLD
    clips = features.view(-1, n_frames, *features.shape[1:])
    shifted = torch.zeros_like(clips)
    shifted[:, :-1, :channels] = clips[:, 1:, :channels]
    shifted[:, 1:, channels : 2 * channels] = clips[:, :-1, channels : 2 * channels]
    shifted[:, :, 2 * channels :] = clips[:, :, 2 * channels :]
    return shifted.flatten(0, 1)
