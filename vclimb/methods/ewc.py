"""Elastic weight consolidation (Kirkpatrick et al., PNAS 2017)."""

from __future__ import annotations

from functools import partial
from typing import Literal

from pydantic import Field

from vclimb.methods.anchored import AnchoredConfig, AnchoredMethod, averaged, of_whole_batches, separate_penalties
from vclimb.methods.importance import Anchor, Parameters, fisher_diagonal, released_fisher
from vclimb.methods.method import TaskData
from vclimb.model.tsn import TSN


class EWCConfig(AnchoredConfig):
    """Settings of EWC.

    Attributes:
        strength: lambda; the benchmark's 3e3.
        labels: at which the Fisher is taken: the clips' own, or drawn from the model's prediction.
    """

    strength: float = Field(default=3e3, ge=0, le=1e12)
    labels: Literal["true", "sampled"] = "true"


class EWC(AnchoredMethod):
    """lambda / 2 * sum of F_i * (theta - theta_i)^2 over the tasks before (equation 3).

    The released code takes lambda for lambda / 2, and for F the square of the gradient summed over all batches.
    """

    name = "ewc"
    Config = EWCConfig

    @property
    def factor(self) -> float:
        return float(self.config.strength) / (1 if self.released else 2)

    def importance(self, model: TSN, data: TaskData) -> Parameters:
        if self.released:
            batches = ((clips, labels - self._n_old) for clips, labels in data.batches(training_clips=True))
            return released_fisher(model, batches, partial(of_whole_batches, data=data))
        found = fisher_diagonal(model, data.batches(), self.config.labels, self.config.chunk_size)
        return averaged(found, data)

    def anchor(self, model: TSN, importance: Parameters, before: Anchor | None) -> Anchor:
        return separate_penalties(model, importance, before)
