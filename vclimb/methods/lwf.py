"""Learning without forgetting (Li and Hoiem, ECCV 2016): distillation from the model before the task.

vclimb train shards/ucf101 --out runs/lwf --tasks 10 --method lwf --set method.temperature=2
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field
from torch import Tensor

from vclimb.methods.consistency import cross_entropy
from vclimb.methods.distillation import TEMPERATURE, lwf_distillation, lwf_targets
from vclimb.methods.method import MethodConfig, StepBatch, StepOutputs, Terms
from vclimb.methods.old_model import DistillingMethod
from vclimb.methods.one_class import refuse_one_class_tasks

if TYPE_CHECKING:
    from vclimb.scenario import TaskSequence


class LwFConfig(MethodConfig):
    """Settings of LwF.

    Attributes:
        weight: Weight of the distillation, lambda_o (section 3: 1).
        temperature: Temperature of the distillation (section 3: 2).
    """

    weight: float = Field(default=1.0, ge=0, le=1e6)
    temperature: float = Field(default=TEMPERATURE, gt=0, le=1e6)


class LwF(DistillingMethod[LwFConfig]):
    """Cross-entropy over the new classes' outputs, and distillation of the old classes' outputs.

    The paper has one output layer for each task, so its classification loss is a softmax over the new classes alone.
    The released code has a softmax over all classes, and its distillation has no gradient (`lwf_distillation`).
    Nothing is kept between tasks: the old model is a copy of the network that a task begins with.
    """

    name = "lwf"
    summary = "Distillation from the previous model on the new clips, without a memory."
    Config = LwFConfig

    def check(self, scenario: TaskSequence) -> None:
        if self.differences.lwf_classification == "new-classes":
            refuse_one_class_tasks(self.name, scenario, "differences.lwf_classification all-classes, or another method")

    def to_targets(self, old_logits: Tensor) -> Tensor:
        return lwf_targets(old_logits, self.config.temperature)

    def loss(self, batch: StepBatch, outputs: StepOutputs) -> Terms:
        all_classes = self.differences.lwf_classification == "all-classes"
        classification = None if all_classes else self._new_class_cross_entropy
        terms = {"classification": self.classification(outputs, batch.labels, classification)}
        if (targets := self.targets(batch)) is not None:
            distillation = self.config.weight * lwf_distillation(outputs.logits, targets, self.config.temperature)
            is_logged = self.differences.lwf_distillation == "logged"
            terms["distillation"] = distillation.detach() if is_logged else distillation
        return terms

    def _new_class_cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits[:, self._n_old :], labels - self._n_old, self.label_smoothing)
