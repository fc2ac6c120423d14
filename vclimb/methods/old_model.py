"""The base of methods that distil from the model before a task."""

from __future__ import annotations

import abc
import copy
from typing import Any

import torch
from torch import Tensor

from vclimb.methods.method import ConfigT_co, Method, StepBatch, TaskData, TaskInfo
from vclimb.model.clip_model import ClipModel
from vclimb.pipeline.arrays import Indices


class DistillingMethod(Method[ConfigT_co], abc.ABC):
    """A method that distils from a frozen copy of the model before the task, from the second task on.

    The targets are the old model's outputs for the clips of each step. The released code of the methods that replay
    computes them before the task instead (`released_targets`), and needs the old model no more.
    """

    _old_model: ClipModel | None = None
    _targets: Tensor | None = None
    _n_old = 0

    @abc.abstractmethod
    def to_targets(self, old_logits: Tensor) -> Tensor:
        """Convert logits of the old model to targets, both (B, n_old)."""

    def begin_task(self, task: TaskInfo, model: ClipModel) -> None:
        self._n_old, self._targets = task.n_old, None
        if task.number:
            self._old_model = copy.deepcopy(model).eval().requires_grad_(False)

    def before_training(self, task: TaskInfo, data: TaskData, items: Indices | None) -> None:
        before_task = self.differences.distillation_targets == "before-task" and self.replays
        if before_task and self._old_model is not None:
            numbers, logits = data.training_logits(self._old_model, items)
            table = released_targets(len(data.labels), numbers, self.to_targets(logits))
            self._targets = table.to(next(self._old_model.parameters()).device)
            self._old_model = None

    @torch.no_grad()
    def targets(self, batch: StepBatch) -> Tensor | None:
        """Return the targets (B, n_old) of a batch; None in the first task."""
        if self._targets is not None:
            return self._targets[batch.items]
        return None if self._old_model is None else self.to_targets(self._old_model(batch.clips))

    def state_dict(self) -> dict[str, Any]:
        old = {} if self._old_model is None else {"old_model": self._old_model.state_dict()}
        targets = {} if self._targets is None else {"targets": self._targets}
        return {"n_old": self._n_old, **old, **targets}

    def load_state_dict(self, state: dict[str, Any], model: ClipModel) -> None:
        self._n_old = state["n_old"]
        targets = state.get("targets")
        self._targets = None if targets is None else targets.to(next(model.parameters()).device)
        self._old_model = None
        if "old_model" in state:
            self._old_model = copy.deepcopy(model)
            self._old_model.restore(state["old_model"])
            self._old_model.eval().requires_grad_(False)


def released_targets(n_items: int, numbers: Indices, targets: Tensor) -> Tensor:
    """Arrange targets (n, n_old) by the numbers (n,) of their items: (n_items, n_old), on the CPU.

    The released code passes over a task's items once before it, in batches of random clips. Items of its dropped last
    batch keep targets of 0: of iCaRL's sigmoids these say that no old class is there, and BiC's softmax isn't trained.
    """
    table = torch.zeros(n_items, targets.shape[1])
    table[torch.from_numpy(numbers)] = targets.cpu()
    return table
