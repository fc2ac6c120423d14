"""Temporal shift (TSM: Lin, Gan, Han, "TSM: Temporal Shift Module for Efficient Video Understanding", ICCV 2019)."""

from __future__ import annotations

import torch
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from vclimb.pipeline.errors import SettingsError

SHARE = 8
"""One in so many channels comes from the frame before, and as many from the frame after (section 4.1: 1/8 each)."""


def shifted(features: Tensor, n_frames: int) -> Tensor:
    """Features (B * T, C, H, W) whose first C // 8 channels are the next frame's, and whose next C // 8 the last one's.

    Zeros come from beyond the ends of a clip.
    """
    channels = features.shape[1] // SHARE
    clips = features.view(-1, n_frames, *features.shape[1:])
    shift = torch.zeros_like(clips)
    shift[:, :-1, :channels] = clips[:, 1:, :channels]
    shift[:, 1:, channels : 2 * channels] = clips[:, :-1, channels : 2 * channels]
    shift[:, :, 2 * channels :] = clips[:, :, 2 * channels :]
    return shift.flatten(0, 1)


class TemporalShift:
    """Shifts what goes into the first convolution of every residual block (the paper's residual shift, figure 3b).

    It adds no parameters: the weights of a backbone with and without it have the same names.

    Attributes:
        n_frames: T of the clips that come; set it before the backbone is run.
    """

    def __init__(self, backbone: nn.Module, name: str) -> None:
        """Put the shift into a backbone.

        Raises:
            SettingsError: the backbone is no ResNet of timm's.
        """
        self.n_frames = 1
        blocks = [module for module in backbone.modules() if isinstance(module, BasicBlock | Bottleneck)]
        if not blocks:
            raise SettingsError(
                f"temporal shift goes into the residual blocks of a ResNet, and {name!r} has none; take a ResNet, such "
                "as resnet34.tv_in1k, or leave it out"
            )
        for block in blocks:
            block.conv1.register_forward_pre_hook(self._shift)

    def _shift(self, _: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (shifted(inputs[0], self.n_frames),)
