"""WA (Zhao et al., CVPR 2020): replay and distillation, then the head's new weights are aligned with the old ones.

vclimb train shards/ucf101 --out runs/wa --tasks 10 --method wa --budget 2020v --frames 8
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from vclimb.methods.alignment import align_weights
from vclimb.methods.distillation import TEMPERATURE, lwf_distillation, lwf_targets
from vclimb.methods.method import MethodConfig, StepBatch, StepOutputs, TaskData, TaskInfo, Terms
from vclimb.methods.old_model import DistillingMethod
from vclimb.model.clip_model import ClipModel


class WAConfig(MethodConfig):
    """Settings of WA.

    Attributes:
        distillation: Weight of the distillation, k, from 0 to below 1; None: the share of the old classes among all
            classes, as in the paper. `naive` with `align` is WA with weight 0.
        temperature: Temperature of the distillation.
    """

    distillation: float | None = Field(default=None, ge=0, lt=1)
    temperature: float = Field(default=TEMPERATURE, gt=0, le=1e6)


class WA(DistillingMethod[WAConfig]):
    """(1 - k) cross-entropy over all classes + k distillation of the old classes; `align_weights` after each task.

    The distillation has no factor temperature^2, as in PyCIL (models/wa.py). Exemplars are chosen by herding. Nothing
    is kept between tasks besides exemplars: the old model is a copy of the network that a task begins with.
    """

    name = "wa"
    summary = "Replay, distillation, and new weights as long as the old ones; needs a budget."
    Config = WAConfig
    replays = True
    video_choice = "herding"

    def to_targets(self, old_logits: Tensor) -> Tensor:
        return lwf_targets(old_logits, self.config.temperature)

    def loss(self, batch: StepBatch, outputs: StepOutputs) -> Terms:
        classification = self.classification(outputs, batch.labels)
        if (targets := self.targets(batch)) is None:
            return {"classification": classification}
        weight = self.config.distillation
        if weight is None:
            weight = self._n_old / outputs.logits.shape[1]
        distillation = lwf_distillation(outputs.logits, targets, self.config.temperature)
        return {"classification": (1 - weight) * classification, "distillation": weight * distillation}

    def end_task(self, task: TaskInfo, model: ClipModel, data: TaskData) -> None:
        align_weights(model.head, task.n_old)
