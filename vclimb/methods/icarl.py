"""iCaRL (Rebuffi et al., CVPR 2017): herding, distillation, and the nearest mean of exemplars as classifier.

vclimb train shards/ucf101 --out runs/icarl --tasks 10 --method icarl --budget 2020v --frames 8
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch import Tensor

from vclimb.methods.consistency import refuse_label_smoothing
from vclimb.methods.distillation import icarl_classification, icarl_distillation, icarl_targets
from vclimb.methods.method import MethodConfig, StepBatch, StepOutputs, Terms
from vclimb.methods.old_model import DistillingMethod

if TYPE_CHECKING:
    from vclimb.scenario import TaskSequence


class ICaRLConfig(MethodConfig):
    """Settings of iCaRL.

    Attributes:
        over_classes: Reduction of the sigmoids' losses over classes: `sum`, as in algorithm 3, or `mean`, as in the
            authors' code, whose learning rate of 2 goes with it.
    """

    over_classes: Literal["sum", "mean"] = "sum"


class ICaRL(DistillingMethod[ICaRLConfig]):
    """A sigmoid for each class: new classes learn their labels, old classes learn the old model's outputs.

    The released code replaces the first part by a softmax cross-entropy over all classes. Nothing is kept between tasks
    besides exemplars: the old model is a copy of the network that a task begins with, and class means are computed from
    the exemplars.
    """

    name = "icarl"
    summary = "Replay of herded exemplars, distillation, nearest-mean classifier; needs a budget."
    Config = ICaRLConfig
    replays = True
    video_choice = "herding"
    classifier = "nearest_mean"

    def check(self, scenario: TaskSequence) -> None:
        if self.differences.icarl_classification != "softmax":
            refuse_label_smoothing(self.name, self.label_smoothing, "its loss has a sigmoid for each class")

    def to_targets(self, old_logits: Tensor) -> Tensor:
        return icarl_targets(old_logits)

    def loss(self, batch: StepBatch, outputs: StepOutputs) -> Terms:
        divisor = outputs.logits.shape[1] if self.config.over_classes == "mean" else 1
        if self.differences.icarl_classification == "softmax":
            terms = {"classification": self.classification(outputs, batch.labels)}
        else:
            terms = {"classification": self.classification(outputs, batch.labels, self._new_class_loss) / divisor}
        if (targets := self.targets(batch)) is not None:
            terms["distillation"] = icarl_distillation(outputs.logits, targets) / divisor
        return terms

    def _new_class_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return icarl_classification(logits, labels, self._n_old)
