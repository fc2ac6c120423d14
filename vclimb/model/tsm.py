"""Temporal shift (TSM: Lin, Gan, Han, "TSM: Temporal Shift Module for Efficient Video Understanding", ICCV 2019)."""

from __future__ import annotations

import torch
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from vclimb.model.settings import ModelConfig
from vclimb.model.tsn import TSN
from vclimb.pipeline.errors import SettingsError

FOLD = 8
"""Divisor of the channels: 1/8 come from the previous frame, 1/8 from the next frame (section 4.1)."""


class TSM(TSN):
    """TSN over a ResNet whose residual blocks shift channels in time (the paper's residual shift, figure 3b).

    The shift adds no parameters: the weights of TSN and TSM over one backbone have the same names.
    """

    name = "tsm"
    summary = "TSN over a ResNet of timm whose blocks shift channels in time."

    def __init__(self, n_classes: int, config: ModelConfig) -> None:
        super().__init__(n_classes, config)
        blocks = [module for module in self.backbone.modules() if isinstance(module, BasicBlock | Bottleneck)]
        if not blocks:
            raise SettingsError(
                f"temporal shift goes into the residual blocks of a ResNet, and {config.backbone!r} has none; take a "
                "ResNet, such as resnet34.tv_in1k, or network tsn"
            )
        self._shift = TemporalShift()
        for block in blocks:
            block.conv1.register_forward_pre_hook(self._shift)

    def frame_features(self, clips: Tensor) -> Tensor:
        self._shift.n_frames = clips.shape[1]
        return super().frame_features(clips)


class TemporalShift:
    """Hook that shifts the input of a block's first convolution."""

    n_frames = 1  # of a clip; set before each pass

    def __call__(self, _: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (shift_channels(inputs[0], self.n_frames),)


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
