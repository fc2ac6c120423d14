"""iCaRL: herding, distillation, nearest mean of exemplars (Rebuffi et al., CVPR 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from vclimb.methods.consistency import cross_entropy
from vclimb.methods.distillation import icarl_classification, icarl_distillation
from vclimb.methods.method import Method, MethodConfig, StepBatch, StepOutputs, TaskInfo, Terms
from vclimb.methods.old_model import OldModel
from vclimb.tsn import TSN


@dataclass(frozen=True)
class ICaRLConfig(MethodConfig):
    """Settings of iCaRL.

    Attributes:
        over_classes: `sum` of the sigmoids' losses over classes, as in algorithm 3, or their `mean`, as in its
            authors' code.
    """

    over_classes: Literal["sum", "mean"] = "sum"


class ICaRL(Method):
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
        self._old = OldModel()
        self._n_old = 0

    def begin_task(self, task: TaskInfo, model: TSN) -> None:
        self._n_old = task.n_old
        if task.number:
            self._old.keep(model)

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

    def state_dict(self) -> dict[str, Any]:
        return {"n_old": self._n_old, **self._old.state_dict()}

    def load_state_dict(self, state: dict[str, Any], model: TSN) -> None:
        self._n_old = state["n_old"]
        self._old.load_state_dict(state, model)
