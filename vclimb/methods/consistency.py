"""Temporal consistency: a clip and its down-sampled version are classified alike.

Source: Villa et al., "vCLIMB", CVPR 2022: L = (1 - l) * CE(F(X), y) + l * CE(F(Xd), y), where Xd is the clip X made
from the K frames that a memory would keep (a stream's `View(seen_frames=K)`).

The benchmark's code has the same formula and other clips. It takes frame numbers below K, meant for the kept frames,
from the whole video, so Xd is the first K frames. Xd of a sample from the memory, and of a video of at most K frames,
is all zeros after the normalisation of pixels: a uniform clip of ImageNet's mean colour.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from vclimb.pipeline.errors import SettingsError

Classification = Callable[[Tensor, Tensor], Tensor]
"""Logits (B, C) and labels (B,) int64 -> a scalar."""


def cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Compute the softmax cross-entropy of logits (B, C) and labels (B,) int64.

    The result is a float32 scalar: the mean over samples, 0 for an empty batch.

    Args:
        label_smoothing: Share of a label that is spread over all classes.
    """
    total = nn.functional.cross_entropy(logits.float(), labels, reduction="sum", label_smoothing=label_smoothing)
    return total / max(len(logits), 1)


def cross_entropy_of(logits: Tensor, labels: Tensor, counted: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Sum the softmax cross-entropies of the samples that are counted (B,) bool, divided by the number of all samples.

    The arguments are otherwise those of `cross_entropy`. The values of samples that aren't counted must be finite.
    """
    each = nn.functional.cross_entropy(logits.float(), labels, reduction="none", label_smoothing=label_smoothing)
    return (each * counted).sum() / max(len(labels), 1)


def refuse_label_smoothing(method: str, label_smoothing: float, reason: str) -> None:
    """Refuse label smoothing for a method whose loss is no softmax cross-entropy of whole outputs."""
    if label_smoothing:
        raise SettingsError(
            f"training.label_smoothing is {label_smoothing:g}, and method {method} has no labels to smooth: {reason}; "
            "leave it out, or take method naive"
        )


def temporal_consistency(
    logits: Tensor,
    down_sampled_logits: Tensor,
    labels: Tensor,
    weight: float = 0.5,
    classification: Classification = cross_entropy,
) -> Tensor:
    """Compute (1 - weight) * classification(F(X), y) + weight * classification(F(Xd), y), a float32 scalar.

    Args:
        logits: (B, C) logits of the clips, F(X).
        down_sampled_logits: (B, C) logits of the down-sampled clips, F(Xd).
        labels: (B,) int64 label ids.
        weight: Weight of the down-sampled clips, l, from 0 to 1.
        classification: The method's loss on labels. Its distillation is computed separately.
    """
    whole, down_sampled = classification(logits, labels), classification(down_sampled_logits, labels)
    return (1 - weight) * whole.float() + weight * down_sampled.float()
