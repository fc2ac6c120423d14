"""The model as it was before a task, for methods that keep what it answered."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from vclimb.methods.method import Method, TaskInfo
from vclimb.model.tsn import TSN


class OldModel:
    """A frozen copy of a model. Its logits are computed on each batch's own clips, whatever crop they have."""

    def __init__(self) -> None:
        self._model: TSN | None = None

    def keep(self, model: TSN) -> None:
        """Take a copy of a model as it is now."""
        self._model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def logits(self, clips: Tensor) -> Tensor | None:
        """(B, n_old) from clips (B, T, 3, H, W); None before the second task."""
        return None if self._model is None else self._model(clips)

    def state_dict(self) -> dict[str, Any]:
        return {} if self._model is None else {"old_model": self._model.state_dict()}

    def load_state_dict(self, state: dict[str, Any], model: TSN) -> None:
        """Take up a state, in a copy of a model of the same backbone."""
        self._model = None
        if "old_model" not in state:
            return
        old = copy.deepcopy(model)
        rows, columns = state["old_model"]["head.weight"].shape
        old.head = nn.Linear(columns, rows, device=model.head.weight.device)
        old.load_state_dict(state["old_model"])
        self._model = old.eval().requires_grad_(False)


class DistillingMethod(Method):
    """A method that keeps what the model answered before the task, from the second task on."""

    def __init__(self, config: Any, released: bool = False, consistency: float = 0.0) -> None:
        super().__init__(config, released, consistency)
        self._old = OldModel()
        self._n_old = 0

    def begin_task(self, task: TaskInfo, model: TSN) -> None:
        self._n_old = task.n_old
        if task.number:
            self._old.keep(model)

    def state_dict(self) -> dict[str, Any]:
        return {"n_old": self._n_old, **self._old.state_dict()}

    def load_state_dict(self, state: dict[str, Any], model: TSN) -> None:
        self._n_old = state["n_old"]
        self._old.load_state_dict(state, model)
