"""A frozen copy of the model before a task, and the methods that distil from it."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from vclimb.methods.method import ConfigT_co, Method, TaskInfo
from vclimb.model.clip_model import ClipModel


class OldModel:
    """A frozen copy of a model. It computes logits on each training batch's own clips, augmented as they are."""

    def __init__(self) -> None:
        self._model: ClipModel | None = None

    def keep(self, model: ClipModel) -> None:
        """Copy a model in its present state."""
        self._model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def logits(self, clips: Tensor) -> Tensor | None:
        """Compute logits (B, n_old) of clips (B, T, 3, H, W); None where no model was kept yet."""
        return None if self._model is None else self._model(clips)

    def state_dict(self) -> dict[str, Any]:
        return {} if self._model is None else {"old_model": self._model.state_dict()}

    def load_state_dict(self, state: dict[str, Any], model: ClipModel) -> None:
        """Restore a state, in a copy of a model of the same structure."""
        self._model = None
        if "old_model" not in state:
            return
        old = copy.deepcopy(model)
        old.restore(state["old_model"])
        self._model = old.eval().requires_grad_(False)


class DistillingMethod(Method[ConfigT_co]):
    """A method that distils from the model before the task, from the second task on."""

    def __init__(self, config: ConfigT_co, released: bool = False, consistency: float = 0.0) -> None:
        super().__init__(config, released, consistency)
        self._old_model = OldModel()
        self._n_old = 0

    def begin_task(self, task: TaskInfo, model: ClipModel) -> None:
        self._n_old = task.n_old
        if task.number:
            self._old_model.keep(model)

    def state_dict(self) -> dict[str, Any]:
        return {"n_old": self._n_old, **self._old_model.state_dict()}

    def load_state_dict(self, state: dict[str, Any], model: ClipModel) -> None:
        self._n_old = state["n_old"]
        self._old_model.load_state_dict(state, model)
