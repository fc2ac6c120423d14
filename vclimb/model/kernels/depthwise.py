"""Depthwise convolutions by kernels that need no plan for each size of a batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vclimb.model.kernels.blocks import Chunks, ceil_divide, empty_frames, is_for_kernels

Padding = tuple[int, int]
"""Rows above and columns to the left of a frame."""

KERNELS = (3, 5)
STRIDES = (1, 2)
PIXELS, CHANNELS = 64, 32  # of a program's block, measured on an H100
WEIGHT_PIXELS, WEIGHT_CHANNELS = 16, 32  # of a block, for the gradient of weights
WEIGHT_PROGRAMS = 2112  # for the gradient of weights: sixteen for each processor of an H100


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, frames: Tensor, weight: Tensor, stride: int, padding: Padding, height: int, width: int
    ) -> Any:
        from vclimb.model.kernels import depthwise_triton

        n, channels, rows, columns = frames.shape
        by_place = weight.permute(
            2, 3, 1, 0
        ).contiguous()  # (K, K, 1, C): a program reads those of its channels at once
        out = empty_frames((n, channels, height, width), frames)
        pixels = n * height * width
        sizes = (rows, columns, height, width, channels // 8, *padding)
        grid = (ceil_divide(pixels, PIXELS), ceil_divide(channels, CHANNELS))
        depthwise_triton.convolve[grid](
            frames, by_place, out, pixels, *sizes, stride, weight.shape[-1], PIXELS, CHANNELS
        )
        ctx.save_for_backward(frames, by_place)
        ctx.sizes, ctx.stride, ctx.weight = sizes, stride, (weight.shape, weight.dtype)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        from vclimb.model.kernels import depthwise_triton

        frames, by_place = ctx.saved_tensors
        shape, dtype = ctx.weight
        slopes = gradients[0].contiguous(memory_format=torch.channels_last)
        n, channels, rows, columns = frames.shape
        sizes, stride, size = ctx.sizes, ctx.stride, shape[-1]
        of_frames = of_weight = None
        if ctx.needs_input_grad[0]:
            of_frames = torch.empty_like(frames)
            pixels = n * ceil_divide(rows, stride) * ceil_divide(columns, stride)
            grid: tuple[int, ...] = (ceil_divide(pixels, PIXELS), ceil_divide(channels, CHANNELS), stride * stride)
            depthwise_triton.differentiate_input[grid](
                slopes, by_place, of_frames, n, *sizes, stride, size, PIXELS, CHANNELS
            )
        if ctx.needs_input_grad[1]:
            pixels, blocks = slopes.numel() // channels, ceil_divide(channels, WEIGHT_CHANNELS)
            chunks = Chunks.of(pixels, WEIGHT_PIXELS, WEIGHT_PROGRAMS // (blocks * size))
            parts = torch.empty((chunks.count, *shape), dtype=torch.float32, device=frames.device)
            depthwise_triton.differentiate_weights[(chunks.count, blocks, size)](
                frames, slopes, parts, pixels, *sizes, chunks.size, stride, size, WEIGHT_PIXELS, WEIGHT_CHANNELS
            )
            of_weight = parts.sum(0).to(dtype)
        return of_frames, of_weight, None, None, None, None


def depthwise(frames: Tensor, weight: Tensor, stride: int, padding: Padding, height: int, width: int) -> Tensor:
    """Convolve each channel by a kernel of its own.

    Args:
        frames: (N, C, H, W) float32, bfloat16 or float16; C is a multiple of 8.
        weight: (C, 1, K, K), with K of `KERNELS`.
        stride: One of `STRIDES`.
        height: Rows of the result. Rows and columns outside the frames count as zeros.
        width: Columns of the result.

    Returns:
        (N, C, height, width) of the type of `frames`, with the channels of a pixel together.
    """
    frames = frames.contiguous(memory_format=torch.channels_last)
    result: Tensor = _Depthwise.apply(frames, weight, stride, padding, height, width)
    return result


class DepthwiseConv(nn.Conv2d):
    """A convolution of one kernel for each channel, by vclimb's kernels.

    It shares the weights of the convolution that it is made of.

    Args:
        same: Whether as many zeros as needed are put around a frame, so that a result has H / stride rows (rounded up),
            one more below and to the right than above and to the left where their number is odd. That is TensorFlow's
            way. Otherwise the convolution's own padding is taken.
    """

    def __init__(self, convolution: nn.Conv2d, same: bool) -> None:
        super().__init__(
            convolution.in_channels,
            convolution.out_channels,
            convolution.kernel_size,  # type: ignore[arg-type]
            convolution.stride,  # type: ignore[arg-type]
            convolution.padding,  # type: ignore[arg-type]
            groups=convolution.groups,
            bias=False,
            device="meta",
        )
        self.weight = convolution.weight
        self.same = same
        self.train(convolution.training)

    def forward(self, frames: Tensor) -> Tensor:
        """Convolve frames (N, C, H, W)."""
        size, stride = self.kernel_size[0], self.stride[0]
        sides = frames.shape[2:]
        if self.same:
            shape = [ceil_divide(side, stride) for side in sides]
            rests = [max((out - 1) * stride + size - side, 0) for out, side in zip(shape, sides, strict=True)]
            before, after = [rest // 2 for rest in rests], [rest - rest // 2 for rest in rests]
        else:
            before = after = [int(side) for side in self.padding]
            shape = [(side + 2 * pad - size) // stride + 1 for side, pad in zip(sides, before, strict=True)]
        if not is_for_kernels(frames) or torch._C._are_functorch_transforms_active():  # gradients of single clips
            padded = nn.functional.pad(frames, (before[1], after[1], before[0], after[0]))
            return nn.functional.conv2d(padded, self.weight, stride=self.stride, groups=self.groups)
        if torch.is_autocast_enabled(frames.device.type):
            frames = frames.to(torch.get_autocast_dtype(frames.device.type))
        return depthwise(frames, self.weight, stride, (before[0], before[1]), shape[0], shape[1])


def has_kernel(convolution: nn.Conv2d) -> bool:
    """Tell whether `DepthwiseConv` computes what a convolution does, whatever its padding is."""
    return (
        is_depthwise(convolution)
        and convolution.out_channels == convolution.in_channels
        and convolution.in_channels % 8 == 0
        and convolution.bias is None
        and convolution.kernel_size in {(size, size) for size in KERNELS}
        and convolution.stride in {(stride, stride) for stride in STRIDES}
        and convolution.dilation == (1, 1)
        and convolution.padding_mode == "zeros"
        and not isinstance(convolution.padding, str)
    )


def is_depthwise(convolution: nn.Conv2d) -> bool:
    """Tell whether each channel is convolved by itself."""
    return convolution.groups == convolution.in_channels > 1
