"""iCaRL: herding, distillation, nearest mean of exemplars (Rebuffi et al., CVPR 2017)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from vclimb.methods.consistency import cross_entropy
from vclimb.methods.distillation import icarl_classification, icarl_distillation
from vclimb.methods.method import MethodConfig, StepBatch, StepOutputs, Terms
from vclimb.methods.old_model import DistillingMethod


class ICaRLConfig(MethodConfig):
    """Settings of iCaRL.

    Attributes:
        over_classes: `sum` of the sigmoids' losses over classes, as in algorithm 3, or their `mean`, as in its
            authors' code.
    """

    over_classes: Literal["sum", "mean"] = "sum"


class ICaRL(DistillingMethod):
    """A sigmoid for each class: new classes learn their labels, old ones what the old model said.

    The released code has a softmax cross-entropy over all classes in place of the first, and chooses exemplars
    nearest to the mean under the name of herding.
    """

    name = "icarl"
    Config = ICaRLConfig
    replays = True
    classifier = "nearest_mean"

    def __init__(self, config: ICaRLConfig, released: bool = False, consistency: float = 0.0) -> None:
        super().__init__(config, released, consistency)
        self.video_choice = "nearest" if released else "herding"

    def loss(self, batch: StepBatch, outputs: StepOutputs) -> Terms:
        n_classes = outputs.logits.shape[1] if self.config.over_classes == "mean" else 1
        classified = self.classified(outputs, batch.labels, cross_entropy if self.released else self._of_new_classes)
        terms = {"classification": classified if self.released else classified / n_classes}
        old = self._old.logits(batch.clips)
        if old is not None:
            terms["distillation"] = icarl_distillation(outputs.logits, old) / n_classes
        return terms

    def _of_new_classes(self, logits: Tensor, labels: Tensor) -> Tensor:
        return icarl_classification(logits, labels, self._n_old)
