"""What EWC and MAS share: parameters that mattered for earlier tasks are held where they were."""

from __future__ import annotations

import abc
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from vclimb.methods.consistency import cross_entropy
from vclimb.methods.importance import (
    Anchor,
    ImportanceSum,
    Parameters,
    anchored,
    joined_anchors,
    quadratic_penalty,
)
from vclimb.methods.method import Method, MethodConfig, StepBatch, StepOutputs, TaskData, TaskInfo, Terms
from vclimb.model.tsn import TSN


class AnchoredConfig(MethodConfig):
    """Settings of a method that holds parameters.

    Attributes:
        strength: lambda.
        chunk_size: samples whose gradients are held at a time, each as large as the model.
    """

    strength: float = Field(default=1.0, ge=0, le=1e12)
    chunk_size: int = Field(default=8, ge=1, le=100_000)


class AnchoredMethod(Method):
    """Cross-entropy, and a quadratic penalty on moving parameters by their importance.

    The released code numbers each task's training labels from 0, so that all tasks train the same few outputs.
    """

    def __init__(self, config: AnchoredConfig, released: bool = False, consistency: float = 0.0) -> None:
        super().__init__(config, released, consistency)
        self._anchor: Anchor | None = None
        self._n_old = 0

    @property
    @abc.abstractmethod
    def factor(self) -> float:
        """Of the penalty."""

    @abc.abstractmethod
    def importance(self, model: TSN, data: TaskData) -> Parameters:
        """Of each parameter, for the task that the model has just learned; the same on every process."""

    @abc.abstractmethod
    def anchor(self, model: TSN, importance: Parameters, before: Anchor | None) -> Anchor:
        """Of all tasks so far."""

    def begin_task(self, task: TaskInfo, model: TSN) -> None:
        self._n_old = task.n_old

    def loss(self, batch: StepBatch, outputs: StepOutputs) -> Terms:
        return {"classification": self.classified(outputs, batch.labels, self._classification)}

    def _classification(self, logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits, labels - self._n_old if self.released else labels)

    def penalty(self, model: TSN) -> Terms:
        if self._anchor is None:
            return {}
        return {"penalty": quadratic_penalty(model, [self._anchor], self.factor)}

    def end_task(self, task: TaskInfo, model: TSN, data: TaskData) -> None:
        self._anchor = self.anchor(model, self.importance(model, data), self._anchor)

    def state_dict(self) -> dict[str, Any]:
        return {"n_old": self._n_old, "anchor": None if self._anchor is None else self._anchor.state_dict()}

    def load_state_dict(self, state: dict[str, Any], model: TSN) -> None:
        self._n_old = state["n_old"]
        anchor = state["anchor"]
        device = next(model.parameters()).device
        moved = None if anchor is None else {name: value.to(device) for name, value in anchor.items()}
        self._anchor = None if moved is None else Anchor.from_state_dict(moved)


def separate_penalties(model: TSN, importance: Parameters, before: Anchor | None) -> Anchor:
    """A penalty for each task, as one that has the same gradient."""
    now = anchored(model, importance)
    return now if before is None else joined_anchors(before, now)


def one_penalty(model: TSN, importance: Parameters, before: Anchor | None) -> Anchor:
    """One penalty: the importances of all tasks, around where the parameters are now."""
    return anchored(model, importance, before)


def averaged(found: ImportanceSum, data: TaskData) -> Parameters:
    """The mean over the samples of all processes."""
    total = summed(found.total, data)
    device = next(iter(total.values())).device
    n_samples = data.sum_over_processes(torch.tensor(found.n_samples, device=device))
    return ImportanceSum(total, int(n_samples)).mean()


def summed(parameters: Parameters, data: TaskData) -> Parameters:
    """Added up over all processes."""
    return {name: data.sum_over_processes(value) for name, value in parameters.items()}


def of_whole_batches(gradients: Parameters, data: TaskData) -> Parameters:
    """Summed gradients of whole batches' means, from those of the means over each process' share of them."""
    device = next(iter(gradients.values())).device
    n_processes = data.sum_over_processes(torch.ones((), device=device))
    return {name: total / n_processes for name, total in summed(gradients, data).items()}
