"""The base of methods that distil from the model before a task."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from vclimb.methods.method import ConfigT_co, Method, TaskInfo
from vclimb.model.clip_model import ClipModel


class DistillingMethod(Method[ConfigT_co]):
    """A method that distils from a frozen copy of the model before the task, from the second task on."""

    _old_model: ClipModel | None = None
    _n_old = 0

    def begin_task(self, task: TaskInfo, model: ClipModel) -> None:
        self._n_old = task.n_old
        if task.number:
            self._old_model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def old_logits(self, clips: Tensor) -> Tensor | None:
        """Compute logits (B, n_old) of augmented training clips (B, T, 3, H, W); None in the first task."""
        return None if self._old_model is None else self._old_model(clips)

    def state_dict(self) -> dict[str, Any]:
        old = {} if self._old_model is None else {"old_model": self._old_model.state_dict()}
        return {"n_old": self._n_old, **old}

    def load_state_dict(self, state: dict[str, Any], model: ClipModel) -> None:
        self._n_old = state["n_old"]
        self._old_model = None
        if "old_model" in state:
            self._old_model = copy.deepcopy(model)
            self._old_model.restore(state["old_model"])
            self._old_model.eval().requires_grad_(False)
