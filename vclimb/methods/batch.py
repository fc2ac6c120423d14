"""A training batch, and the network's outputs for it, as a method's loss gets them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vclimb.pipeline.arrays import Indices


@dataclass(frozen=True)
class StepBatch:
    """A training batch on the model's device.

    Attributes:
        clips: (B, T, 3, H, W) uint8 clips.
        labels: (B,) int64 label ids. A label below `TaskInfo.n_old` is an exemplar's.
        items: (B,) int64 numbers of the clips among the task's items.
        stored_logits: (B, C) float32 logits that the memory keeps beside exemplars, with `Method.keeps_logits`; NaN for
            new clips, and in the columns of classes that came after an exemplar entered. None: there are none.
    """

    clips: Tensor
    labels: Tensor
    items: Tensor
    stored_logits: Tensor | None = None


@dataclass(frozen=True)
class StepOutputs:
    """The model's outputs for a training batch.

    Attributes:
        logits: (B, C) logits of the clips.
        down_sampled: (B, C) logits of the temporally down-sampled clips; None without temporal consistency.
    """

    logits: Tensor
    down_sampled: Tensor | None = None


@dataclass(frozen=True, eq=False)
class FeatureSamples:
    """Features of a task's clips, and those that the memory keeps of earlier classes, ordered by label and name.

    Attributes:
        features: (n, D) features of clips, or (n, K, D) of K of their frames.
        labels: (n,) label ids.
        shown: (T,) numbers of the K features that stand for a clip's frames; None where those of clips are kept.
    """

    features: Tensor
    labels: Tensor
    shown: Indices | None = None
