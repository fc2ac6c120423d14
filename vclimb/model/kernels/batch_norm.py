"""Batch normalisation and the activation after it, by kernels that compute both at once."""

from __future__ import annotations

import enum
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vclimb.model.kernels.blocks import Chunks, ceil_divide, is_for_kernels

PIXELS, CHANNELS = 64, 64  # of a program's block, measured on an H100
SUM_PIXELS, SUM_CHANNELS = 32, 32  # of a block of sums
SUM_PROGRAMS, MOST_CHUNKS = 2112, 512  # for sums: sixteen for each processor of an H100; limit of parts to add up
PARTS, PART_CHANNELS = 64, 8  # of a block, where parts are added up


class Activation(enum.IntEnum):
    """Activations that are computed with the normalisation."""

    NONE = 0
    RELU = 1
    RELU6 = 2


ACTIVATIONS: dict[type[nn.Module], Activation] = {
    nn.Identity: Activation.NONE,
    nn.ReLU: Activation.RELU,
    nn.ReLU6: Activation.RELU6,
}


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, frames: Tensor, weight: Tensor, bias: Tensor, layer: FusedBatchNorm) -> Any:
        from vclimb.model.kernels import batch_norm_triton

        channels = frames.shape[1]
        pixels, eighths = frames.numel() // channels, channels // 8
        chunks, blocks = _sums_of(pixels, channels)
        parts = torch.empty((chunks.count, 2, channels), dtype=torch.float32, device=frames.device)
        mean, scale = torch.empty((2, channels), dtype=torch.float32, device=frames.device)
        batch_norm_triton.sum_inputs[(chunks.count, blocks)](
            frames, parts, pixels, eighths, chunks.size, SUM_PIXELS, SUM_CHANNELS
        )
        batch_norm_triton.finish_statistics[(ceil_divide(channels, PART_CHANNELS),)](
            frames,
            parts,
            mean,
            scale,
            layer.running_mean,
            layer.running_var,
            layer.num_batches_tracked,
            pixels,
            eighths,
            chunks.count,
            layer.eps,
            layer.momentum,
            PARTS,
            PART_CHANNELS,
        )
        out = torch.empty_like(frames)
        batch_norm_triton.normalise[(ceil_divide(pixels, PIXELS), ceil_divide(channels, CHANNELS))](
            frames, out, mean, scale, weight, bias, pixels, eighths, int(layer.activation), PIXELS, CHANNELS
        )
        ctx.save_for_backward(frames, weight, bias, mean, scale)
        ctx.activation = int(layer.activation)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        from vclimb.model.kernels import batch_norm_triton

        frames, weight, bias, mean, scale = ctx.saved_tensors
        slopes = gradients[0].contiguous(memory_format=torch.channels_last)
        channels = frames.shape[1]
        pixels, eighths = frames.numel() // channels, channels // 8
        chunks, blocks = _sums_of(pixels, channels)
        parts = torch.empty((chunks.count, 2, channels), dtype=torch.float32, device=frames.device)
        statistics = (mean, scale, weight, bias)
        batch_norm_triton.sum_gradients[(chunks.count, blocks)](
            frames, slopes, parts, *statistics, pixels, eighths, chunks.size, ctx.activation, SUM_PIXELS, SUM_CHANNELS
        )
        of_weight, of_bias = torch.empty_like(weight), torch.empty_like(bias)
        batch_norm_triton.finish_gradients[(ceil_divide(channels, PART_CHANNELS),)](
            parts, of_weight, of_bias, eighths, chunks.count, PARTS, PART_CHANNELS
        )
        of_frames = torch.empty_like(frames)
        batch_norm_triton.differentiate_input[(ceil_divide(pixels, PIXELS), ceil_divide(channels, CHANNELS))](
            frames,
            slopes,
            of_frames,
            *statistics,
            of_weight,
            of_bias,
            pixels,
            eighths,
            ctx.activation,
            PIXELS,
            CHANNELS,
        )
        return of_frames, of_weight, of_bias, None


def _sums_of(pixels: int, channels: int) -> tuple[Chunks, int]:
    """Divide pixels into chunks and channels into blocks, for sums over pixels."""
    blocks = ceil_divide(channels, SUM_CHANNELS)
    return Chunks.of(pixels, SUM_PIXELS, min(MOST_CHUNKS, SUM_PROGRAMS // blocks)), blocks


def batch_norm(frames: Tensor, layer: FusedBatchNorm) -> Tensor:
    """Normalise frames (N, C, H, W) by their own statistics, apply the activation, and update the running statistics.

    The result is of the type of `frames` (float32, bfloat16 or float16), with the channels of a pixel together.
    """
    frames = frames.contiguous(memory_format=torch.channels_last)
    result: Tensor = _BatchNorm.apply(frames, layer.weight, layer.bias, layer)
    return result


class FusedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation and the activation after it; in training on a GPU by vclimb's kernels.

    It shares the weights and statistics of the layer that it is made of, and their names.

    Args:
        activation: Activation that is computed with the normalisation.
        act: What follows: another activation, or nothing.
    """

    def __init__(self, norm: nn.BatchNorm2d, activation: Activation, act: nn.Module) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, device="meta")
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.activation = activation
        self.act = act
        self.train(norm.training)

    def forward(self, frames: Tensor) -> Tensor:
        """Normalise frames (N, C, H, W), and apply the activation."""
        if self.training and is_for_kernels(frames) and frames.numel() > frames.shape[1]:  # torch refuses one value
            out = batch_norm(frames, self)
        else:
            out = super().forward(frames)
            if self.activation is Activation.RELU:
                out = nn.functional.relu(out)
            elif self.activation is Activation.RELU6:
                out = nn.functional.relu6(out)
        result: Tensor = self.act(out)
        return result


def has_kernel(norm: nn.BatchNorm2d) -> bool:
    """Tell whether `FusedBatchNorm` computes what a layer does."""
    return norm.affine and norm.track_running_stats and norm.momentum is not None and norm.num_features % 8 == 0
