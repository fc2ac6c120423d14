"""Memory aware synapses (Aljundi et al., ECCV 2018)."""

from __future__ import annotations

from functools import partial

from pydantic import Field

from vclimb.methods.anchored import AnchoredConfig, AnchoredMethod, averaged, of_whole_batches, one_penalty
from vclimb.methods.importance import Anchor, Parameters, output_sensitivity, released_sensitivity
from vclimb.methods.method import TaskData
from vclimb.model.tsn import TSN


class MASConfig(AnchoredConfig):
    """Settings of MAS.

    Attributes:
        strength: lambda; the benchmark's 3e5.
    """

    strength: float = Field(default=3e5, ge=0, le=1e12)


class MAS(AnchoredMethod):
    """lambda * sum of Omega * (theta - theta*)^2, Omega added up over tasks, theta* of the last one (section 4)."""

    name = "mas"
    Config = MASConfig

    @property
    def factor(self) -> float:
        return float(self.config.strength)

    def importance(self, model: TSN, data: TaskData) -> Parameters:
        if self.released:
            batches = data.batches(training_clips=True)
            return released_sensitivity(model, batches, partial(of_whole_batches, data=data))
        return averaged(output_sensitivity(model, data.batches(), self.config.chunk_size), data)

    def anchor(self, model: TSN, importance: Parameters, before: Anchor | None) -> Anchor:
        return one_penalty(model, importance, before)
