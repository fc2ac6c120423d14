"""How a batch's pixels lie in a GPU's memory.

Convolutions run faster on pixels whose channels lie together ("channels last"), but cuDNN plans those of each size of
a batch anew, and compiles some of them: a network with depthwise convolutions (EfficientNet-lite0, 112 pixels, bf16, an
H100) took 11 s for the first training step of each size, and 0.3 s with channels apart. So whole batches, which are all
of one size, have their channels together; the last one of an epoch has them apart. Where nothing is trained, the last
one of a pass is filled up instead, and so computed by the plans that training's batches have: J-HMDB's passes of two to
nine batches took most of their time in plans.
"""

from __future__ import annotations

import torch
from torch import Tensor


def laid_out(clips: Tensor, whole: bool) -> Tensor:
    """Clips as they are to be computed with; the values are the same.

    Args:
        clips: (B, T, 3, H, W), as a stream gives them: channels together.
        whole: the batch has as many clips as all others but the last.
    """
    return clips if whole or not needs_plans(clips.device) else clips.contiguous()


def filled(clips: Tensor, size: int) -> Tensor:
    """Clips with blank ones behind them, so that a last batch has the size of all others; worth it where `needs_plans`.

    Args:
        clips: (B, T, 3, H, W).
        size: clips of a batch, B or more.

    Returns:
        (`size`, T, 3, H, W), laid out as the clips are. Only the first B are of any meaning.
    """
    return cat_clips(clips, clips.new_zeros(size - len(clips), *clips.shape[1:])) if len(clips) < size else clips


def needs_plans(device: torch.device) -> bool:
    """Whether each new size of a batch costs time there, so that filling one up costs less."""
    return device.type == "cuda"


def cat_clips(first: Tensor, second: Tensor) -> Tensor:
    """Clips one after the other, laid out as they are: `torch.cat` alone would put the channels apart.

    Args:
        first: (B, T, 3, H, W).
        second: (B', T, 3, H, W), which takes the first's layout.
    """
    if first.is_contiguous():
        return torch.cat([first, second])
    return torch.cat([clips.permute(0, 1, 3, 4, 2) for clips in (first, second)]).permute(0, 1, 4, 2, 3)
