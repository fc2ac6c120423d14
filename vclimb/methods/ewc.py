"""Elastic weight consolidation (Kirkpatrick et al., PNAS 2017): parameters with a large Fisher information are held.

vclimb train shards/ucf101 --out runs/ewc --tasks 10 --method ewc --set method.strength=3e3
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from pydantic import Field

from vclimb.methods.anchor import Anchor, Parameters, anchor_at, merge_anchors
from vclimb.methods.anchored import AnchoredConfig, AnchoredMethod, mean_over_processes, whole_batch_gradients
from vclimb.methods.importance import fisher_diagonal, released_fisher
from vclimb.methods.method import TaskData
from vclimb.model.clip_model import ClipModel


class EWCConfig(AnchoredConfig):
    """Settings of EWC.

    Attributes:
        strength: Weight of the penalty, lambda; the benchmark's is 3e3.
        labels: Labels at which the Fisher information is taken: the clips' own (`true`), or labels drawn from the
            model's predictions (`sampled`).
    """

    strength: float = Field(default=3e3, ge=0, le=1e12)
    labels: Literal["true", "sampled"] = "true"


class EWC(AnchoredMethod[EWCConfig]):
    """lambda / 2 * sum of F_i * (theta - theta_i)^2 over the earlier tasks i (equation 3).

    The released code uses lambda in place of lambda / 2, and for F the square of the gradient summed over all batches.
    """

    name = "ewc"
    summary = "Quadratic penalty on moving parameters, weighted by the Fisher information."
    Config = EWCConfig

    @property
    def factor(self) -> float:
        return self.config.strength / (1 if self.differences.importance == "batches" else 2)

    def released_importance(self, model: ClipModel, data: TaskData) -> Parameters:
        batches = ((clips, labels - self.first_label) for clips, labels in data.training_batches())
        return released_fisher(model, batches, partial(whole_batch_gradients, data=data))

    def importance(self, model: ClipModel, data: TaskData) -> Parameters:
        fisher = fisher_diagonal(model, data.batches(), self.config.labels, self.config.chunk_size)
        return mean_over_processes(fisher, data)

    def anchor(self, model: ClipModel, importance: Parameters, previous: Anchor | None) -> Anchor:
        newest = anchor_at(model, importance)
        return newest if previous is None else merge_anchors(previous, newest)
