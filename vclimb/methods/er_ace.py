"""ER-ACE (Caccia et al., "New insights on reducing abrupt representation change in online continual learning", ICLR
2022): new clips compete among new classes alone, exemplars among all classes.

vclimb train shards/ucf101 --out runs/er-ace --tasks 10 --method er-ace --budget 2020v --frames 8
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from vclimb.methods.consistency import cross_entropy_of, refuse_label_smoothing
from vclimb.methods.method import Method, MethodConfig, StepBatch, StepOutputs, TaskInfo, Terms
from vclimb.methods.one_class import refuse_one_class_tasks
from vclimb.model.clip_model import ClipModel

if TYPE_CHECKING:
    from vclimb.scenario import TaskSequence


class ERACEConfig(MethodConfig):
    """Settings of ER-ACE.

    Attributes:
        present: Classes that new clips compete among: those of the `task`, or those of the new clips in the `batch`, as
            in the paper, whose stream has no tasks. Each process sees its own part of a batch.
    """

    present: Literal["task", "batch"] = "task"


class ERACE(Method[ERACEConfig]):
    """Asymmetric cross-entropy, a softmax over the present classes for new clips and over all classes for exemplars.

    In a batch of B clips, L = 1/B (sum over new clips of CE(logits of the present classes, y)
                                    + sum over exemplars of CE(logits of all classes, y)).

    So new clips push no old class's output down: their gradient on its weights is exactly 0.

    The paper adds the means of a batch of new clips and of an equally large batch of exemplars. Where half of a batch
    are exemplars (`memory.share = 0.5`), the loss here is half of that sum, a factor that the learning rate takes up.
    The authors' code also sets the logits of classes that were never seen to -1e9; here the head has no outputs for
    these. Nothing is kept between tasks besides exemplars.
    """

    name = "er-ace"
    summary = "Replay in which new clips compete among new classes alone; needs a budget."
    Config = ERACEConfig
    replays = True

    _n_old = 0

    def check(self, scenario: TaskSequence) -> None:
        refuse_one_class_tasks(self.name, scenario, "or method naive")
        refuse_label_smoothing(self.name, self.label_smoothing, "new clips compete among some classes alone")

    def begin_task(self, task: TaskInfo, model: ClipModel) -> None:
        self._n_old = task.n_old

    def loss(self, batch: StepBatch, outputs: StepOutputs) -> Terms:
        terms = {"new": self.classification(outputs, batch.labels, self._new_loss)}
        if self._n_old:
            terms["replay"] = self.classification(outputs, batch.labels, self._replay_loss)
        return terms

    def state_dict(self) -> dict[str, Any]:
        return {"n_old": self._n_old}

    def load_state_dict(self, state: dict[str, Any], model: ClipModel) -> None:
        self._n_old = state["n_old"]

    def _new_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        is_new = labels >= self._n_old
        classes = torch.arange(logits.shape[1], device=labels.device)
        if self.config.present == "task":
            present = classes >= self._n_old
        else:
            present = ((labels[:, None] == classes) & is_new[:, None]).any(0)
        # An exemplar's row stays whole, so that its value is finite, and is weighted by 0.
        absent = is_new[:, None] & ~present
        return cross_entropy_of(logits.float().masked_fill(absent, -torch.inf), labels, is_new)

    def _replay_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy_of(logits, labels, labels < self._n_old)
