"""Memory layout of a batch of clips on a GPU.

Convolutions are faster on pixels whose channels lie together ("channels last"), but cuDNN plans them anew for each size
of a batch, and compiles some. A network with depthwise convolutions (EfficientNet-lite0, 112 pixels, bf16, an H100)
took 11 s for the first training step of each size, and 0.3 s with separate channels. So whole batches, which are all of
one size, have their channels together, and the last batch of an epoch has separate channels where cuDNN plans such
convolutions (`vclimb.model.kernels` doesn't). In passes without training, the last batch is padded instead, so that the
plans of the training batches serve it: J-HMDB's passes of two to nine batches spent most of their time on plans.
"""

from __future__ import annotations

import torch
from torch import Tensor


def layout_for(clips: Tensor, whole: bool, planned: bool = True) -> Tensor:
    """Choose the memory layout of a training batch (B, T, 3, H, W) of a stream. The values are unchanged.

    Args:
        whole: Whether the batch has as many clips as all batches but the last.
        planned: Whether cuDNN compiles convolutions of the network for each size of a batch.
    """
    return clips if whole or not planned or not plans_each_size(clips.device) else clips.contiguous()


def pad_batch(clips: Tensor, size: int) -> Tensor:
    """Append blank clips to a last batch (B, T, 3, H, W), so that it has the size of the other batches.

    The layout is unchanged. Ignore the outputs for all but the first B clips.
    """
    return cat_clips(clips, clips.new_zeros(size - len(clips), *clips.shape[1:])) if len(clips) < size else clips


def plans_each_size(device: torch.device) -> bool:
    """Tell whether a device plans each new batch size, so that padding a batch is faster."""
    return device.type == "cuda"


def cat_clips(first: Tensor, second: Tensor) -> Tensor:
    """Concatenate clips (B, T, 3, H, W) in the first one's layout; `torch.cat` alone would separate the channels."""
    if first.is_contiguous():
        return torch.cat([first, second])
    return torch.cat([clips.permute(0, 1, 3, 4, 2) for clips in (first, second)]).permute(0, 1, 4, 2, 3)
