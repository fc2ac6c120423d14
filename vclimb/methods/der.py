"""DER++ (Buzzega et al., "Dark experience for general continual learning: a strong, simple baseline", NeurIPS 2020).

vclimb train shards/ucf101 --out runs/der++ --tasks 10 --method der++ --budget 2020v --frames 8
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from vclimb.methods.consistency import cross_entropy_of
from vclimb.methods.method import Method, MethodConfig, StepBatch, StepOutputs, TaskInfo, Terms
from vclimb.model.clip_model import ClipModel


class DERConfig(MethodConfig):
    """Settings of DER++.

    Attributes:
        alpha: Weight of the squared distance between an exemplar's logits and those that were stored with it.
        beta: Weight of the cross-entropy of exemplars; 0: DER, without the labels of exemplars.
    """

    alpha: float = Field(default=0.3, ge=0, le=1e6)
    beta: float = Field(default=0.5, ge=0, le=1e6)


class DERPlusPlus(Method[DERConfig]):
    """Replay of exemplars with their labels, and with the logits that the network had when their videos were new.

    In a batch of B clips x with labels y, where z are the logits of an exemplar's video when it entered the memory,
    L = 1/B (sum over new clips of CE(logits(x), y)
             + sum over exemplars of alpha MSE(logits(x), z) + beta CE(logits(x), y)).

    MSE is the mean over the columns of z, for the head has outputs for later classes than z knows. z are those of the
    network in evaluation mode at the end of the task, on the centre frames and the centre crop of the video: 16-bit
    floats, which count in a budget in bytes. The clip that is replayed is made of the exemplar's frames, augmented.

    The paper draws two independent batches of exemplars, one for each term, adds the means over these and over a batch
    of new clips, and stores the logits of an augmented view during training. Here each exemplar of a batch takes part
    in both terms, and where half of a batch are exemplars (`memory.share = 0.5`), the loss is half of the paper's sum,
    a factor that the learning rate takes up. Videos are drawn at random, class by class, rather than by a reservoir.
    """

    name = "der++"
    summary = "Replay of exemplars with their labels and their logits when they were new; needs a budget."
    Config = DERConfig
    replays = True
    keeps_logits = True

    _n_old = 0

    def begin_task(self, task: TaskInfo, model: ClipModel) -> None:
        self._n_old = task.n_old

    def loss(self, batch: StepBatch, outputs: StepOutputs) -> Terms:
        is_new = batch.labels >= self._n_old
        terms = {"new": self._cross_entropy(batch, outputs, is_new)}
        if self._n_old:
            terms["replay"] = self.config.beta * self._cross_entropy(batch, outputs, ~is_new)
        if batch.stored_logits is not None:
            terms["logits"] = self.config.alpha * logit_distance(outputs.logits, batch.stored_logits)
        return terms

    def state_dict(self) -> dict[str, Any]:
        return {"n_old": self._n_old}

    def load_state_dict(self, state: dict[str, Any], model: ClipModel) -> None:
        self._n_old = state["n_old"]

    def _cross_entropy(self, batch: StepBatch, outputs: StepOutputs, counted: Tensor) -> Tensor:
        loss = partial(cross_entropy_of, counted=counted, label_smoothing=self.label_smoothing)
        return self.classification(outputs, batch.labels, loss)


def logit_distance(logits: Tensor, stored: Tensor) -> Tensor:
    """Compute the mean over samples of the mean squared distance between logits (B, C) and stored ones (B, C).

    The result is a float32 scalar. The mean of a sample is over the columns in which its stored logits are not NaN; a
    sample without any counts as 0.
    """
    is_stored = ~stored.isnan()
    squares = torch.where(is_stored, logits.float() - stored, 0.0).square()
    return (squares.sum(1) / is_stored.sum(1).clamp(min=1)).sum() / max(len(logits), 1)
