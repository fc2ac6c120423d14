"""Learning without forgetting: what the old model says of the new clips is kept (Li and Hoiem, ECCV 2016)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from vclimb.methods.consistency import cross_entropy
from vclimb.methods.distillation import TEMPERATURE, lwf_distillation
from vclimb.methods.method import MethodConfig, StepBatch, StepOutputs, Terms
from vclimb.methods.old_model import DistillingMethod


class LwFConfig(MethodConfig):
    """Settings of LwF.

    Attributes:
        weight: lambda_o of the distillation (section 3: 1).
        temperature: of the distillation (section 3: 2).
    """

    weight: float = Field(default=1.0, ge=0, le=1e6)
    temperature: float = Field(default=TEMPERATURE, gt=0, le=1e6)


class LwF(DistillingMethod):
    """Cross-entropy over the new classes' outputs, and distillation of the old classes' from the old model.

    The paper has an output layer for each task, so its classification is a softmax over the new classes alone.
    The released code has one over all classes, and its distillation changes nothing (`lwf_distillation`).
    """

    name = "lwf"
    Config = LwFConfig

    def loss(self, batch: StepBatch, outputs: StepOutputs) -> Terms:
        terms = {
            "classification": self.classified(
                outputs, batch.labels, cross_entropy if self.released else self._of_new_classes
            )
        }
        old = self._old.logits(batch.clips)
        if old is not None:
            distillation = self.config.weight * lwf_distillation(outputs.logits, old, self.config.temperature)
            terms["distillation"] = distillation.detach() if self.released else distillation
        return terms

    def _of_new_classes(self, logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits[:, self._n_old :], labels - self._n_old)
