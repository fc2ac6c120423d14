"""How the work of a kernel is divided among programs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def ceil_divide(number: int, divisor: int) -> int:
    """Divide, and round up."""
    return -(-number // divisor)


def empty_frames(shape: tuple[int, int, int, int], like: Tensor) -> Tensor:
    """Make frames (N, C, H, W) without values, whose channels lie together, of another tensor's type and device."""
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def is_for_kernels(frames: Tensor) -> bool:
    """Tell whether the kernels take frames: on a GPU, in single or half precision."""
    return frames.is_cuda and frames.dtype in (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Chunks:
    """Pixels divided into parts of about the same size, each summed by one program.

    Attributes:
        count: Number of parts.
        size: Number of pixels of each part but the last, a multiple of a block's.
    """

    count: int
    size: int

    @classmethod
    def of(cls, pixels: int, block: int, most: int) -> Chunks:
        """Divide pixels into at most `most` chunks of at least four blocks, if there are so many."""
        count = max(1, min(most, ceil_divide(pixels, 4 * block)))
        size = ceil_divide(ceil_divide(pixels, count), block) * block
        return cls(ceil_divide(pixels, size), size)
