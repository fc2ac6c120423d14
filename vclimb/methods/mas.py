"""Memory aware synapses (Aljundi et al., ECCV 2018): parameters to which the outputs are sensitive are held.

vclimb train shards/ucf101 --out runs/mas --tasks 10 --method mas --set method.strength=3e5
"""

from __future__ import annotations

from functools import partial

from pydantic import Field

from vclimb.methods.anchor import Anchor, Parameters, anchor_at, merge_anchors
from vclimb.methods.anchored import AnchoredConfig, AnchoredMethod, mean_over_processes, whole_batch_gradients
from vclimb.methods.importance import output_sensitivity, released_sensitivity
from vclimb.methods.method import TaskData
from vclimb.model.clip_model import ClipModel


class MASConfig(AnchoredConfig):
    """Settings of MAS.

    Attributes:
        strength: Weight of the penalty, lambda; the benchmark's is 3e5.
    """

    strength: float = Field(default=3e5, ge=0, le=1e12)


class MAS(AnchoredMethod[MASConfig]):
    """lambda * sum of Omega * (theta - theta*)^2: Omega summed over tasks, theta* after the last task (section 4).

    The authors' code sums likewise (MAS_to_be_published/MAS.py, `accumulate_MAS_weights`). The benchmark's released
    code keeps an Omega and a theta* of each task, and sums the penalties.
    """

    name = "mas"
    summary = "Quadratic penalty on moving parameters, weighted by the outputs' sensitivity."
    Config = MASConfig

    @property
    def factor(self) -> float:
        return self.config.strength

    def released_importance(self, model: ClipModel, data: TaskData) -> Parameters:
        return released_sensitivity(model, data.training_batches(), partial(whole_batch_gradients, data=data))

    def importance(self, model: ClipModel, data: TaskData) -> Parameters:
        return mean_over_processes(output_sensitivity(model, data.batches(), self.config.chunk_size), data)

    def anchor(self, model: ClipModel, importance: Parameters, previous: Anchor | None) -> Anchor:
        if self.differences.mas_anchors == "summed" or previous is None:
            return anchor_at(model, importance, previous)
        return merge_anchors(previous, anchor_at(model, importance))
