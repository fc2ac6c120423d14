"""The passes of a training step through the network: the clips and, where there are any, the down-sampled clips."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vclimb.model.clip_model import ClipModel
from vclimb.model.memory_format import cat_clips
from vclimb.protocol import Differences

Logits = tuple[Tensor, Tensor | None]


class Passes(nn.Module):
    """All passes of a step as one module, so that processes exchange gradients and batch statistics once a step.

    Args:
        consistency: Weight of the down-sampled clips' loss. With 0, they change batch statistics and nothing else.
    """

    def __init__(self, model: ClipModel, differences: Differences, consistency: float) -> None:
        super().__init__()
        self.model = model
        self._pass_both = joined if differences.second_view_batch_norm == "joined" else released_separate
        self._learns_from_second = consistency > 0

    def forward(self, clips: Tensor, down_sampled: Tensor | None) -> Logits:
        """Compute the logits of clips and of down-sampled clips; None where these teach nothing.

        Both are (B, T, 3, H, W) uint8.
        """
        if down_sampled is None:
            return self.model(clips), None
        return self._pass_both(self.model, clips, down_sampled, self._learns_from_second)


def joined(model: ClipModel, clips: Tensor, down_sampled: Tensor, learns_from_second: bool) -> Logits:
    """Pass both through the network as one batch, with common batch statistics."""
    logits, second = model(cat_clips(clips, down_sampled)).split(len(clips))
    return logits, second if learns_from_second else None


def released_separate(model: ClipModel, clips: Tensor, down_sampled: Tensor, learns_from_second: bool) -> Logits:
    """Pass one after the other: each is normalised by itself, and both change the running statistics in turn.

    Without temporal consistency the released code weights the second loss by 0, so that its gradient is 0.
    """
    logits = model(clips)
    with torch.set_grad_enabled(learns_from_second and torch.is_grad_enabled()):
        second = model(down_sampled)
    return logits, second if learns_from_second else None
