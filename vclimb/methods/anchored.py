"""The common part of EWC and MAS: parameters that mattered for earlier tasks are held near their earlier values."""

from __future__ import annotations

import abc
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import TypeVar

from vclimb.methods.anchor import Anchor, Parameters, quadratic_penalty
from vclimb.methods.consistency import cross_entropy
from vclimb.methods.importance import ImportanceSum
from vclimb.methods.kept import KeptArrays, KeptShape, KeptShapes, NetworkSize
from vclimb.methods.method import Method, MethodConfig, StepBatch, StepOutputs, TaskData, TaskInfo, Terms
from vclimb.model.clip_model import ClipModel


class AnchoredConfig(MethodConfig):
    """Settings of a method that anchors parameters.

    Attributes:
        strength: Weight of the penalty, lambda.
        chunk_size: Number of samples whose gradients are held at a time; each gradient is as large as the model.
    """

    strength: float = Field(default=1.0, ge=0, le=1e12)
    chunk_size: int = Field(default=8, ge=1, le=100_000)


AnchoredConfigT_co = TypeVar("AnchoredConfigT_co", bound=AnchoredConfig, default=AnchoredConfig, covariant=True)


class AnchoredMethod(Method[AnchoredConfigT_co], abc.ABC):
    """Cross-entropy, and a quadratic penalty on moving parameters, weighted by their importance.

    The released code numbers each task's training labels from 0, so that all tasks train the same few outputs. It grows
    the head before it computes importances, so that the new rows are anchored where they start, and the next task
    begins with the batch statistics of that pass.

    One anchor is kept between tasks, of all earlier tasks together: the importance of each parameter that is trained
    (`statistics/importance`) and its value (`parameters/anchor`), float32, in the order of `named_parameters()`. That
    takes twice the bytes of the network. The released code keeps both of each task; one anchor with the same penalty
    stands for them here. The batch statistics of the released pass take the place of the network's own, so that they
    cost nothing; nothing is released after the last task, whose anchor is the one before.
    """

    _anchor: Anchor | None = None
    _n_old = 0
    _buffers: Parameters | None = None  # of the released pass, until the next task begins

    @property
    @abc.abstractmethod
    def factor(self) -> float:
        """Factor of the weighted sum of squares."""

    @property
    def first_label(self) -> int:
        """Label id that the first output of the head learns."""
        return self._n_old if self.differences.anchored_labels == "from-0" else 0

    @abc.abstractmethod
    def importance(self, model: ClipModel, data: TaskData) -> Parameters:
        """Compute each parameter's importance for the task just learned; the same on every process."""

    @abc.abstractmethod
    def released_importance(self, model: ClipModel, data: TaskData) -> Parameters:
        """Compute importances as the released code does, with a model that trains and has the next task's outputs."""

    @abc.abstractmethod
    def anchor(self, model: ClipModel, importance: Parameters, previous: Anchor | None) -> Anchor:
        """Make the anchor of all tasks so far from the last task's importance and the previous anchor."""

    def begin_task(self, task: TaskInfo, model: ClipModel) -> None:
        self._n_old = task.n_old
        if self._buffers is not None:
            model.load_state_dict(self._buffers, strict=False)
            self._buffers = None

    def loss(self, batch: StepBatch, outputs: StepOutputs) -> Terms:
        return {"classification": self.classification(outputs, batch.labels, self._cross_entropy)}

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits, labels - self.first_label, self.label_smoothing)

    def penalty(self, model: ClipModel) -> Terms:
        if self._anchor is None:
            return {}
        return {"penalty": quadratic_penalty(model, self._anchor, self.factor)}

    def end_task(self, task: TaskInfo, model: ClipModel, data: TaskData) -> None:
        if self.differences.importance == "samples":
            self._anchor = self.anchor(model, self.importance(model, data), self._anchor)
        elif (following := data.next_model()) is not None:
            importance = self.released_importance(following.train(), data)
            self._anchor = self.anchor(following, importance, self._anchor)
            self._buffers = {name: value for name, value in following.state_dict().items() if name not in importance}

    def kept(self) -> KeptArrays:
        if self._anchor is None:
            return {}
        return {
            "statistics/importance": torch.cat([value.flatten() for value in self._anchor.importance.values()]),
            "parameters/anchor": torch.cat([value.flatten() for value in self._anchor.values.values()]),
        }

    def kept_shapes(self, task: TaskInfo, network: NetworkSize) -> KeptShapes:
        n_classes = task.n_classes
        if self.differences.importance != "samples":
            if len(task.classes_per_task) == 1:
                return {}
            n_classes = task.n_classes if task.following is None else task.following.n_classes
        shape = KeptShape("float32", (network.n_trained(n_classes),))
        return {"statistics/importance": shape, "parameters/anchor": shape}

    def state_dict(self) -> dict[str, Any]:
        anchor = None if self._anchor is None else vars(self._anchor)
        return {"n_old": self._n_old, "anchor": anchor, "buffers": self._buffers}

    def load_state_dict(self, state: dict[str, Any], model: ClipModel) -> None:
        self._n_old, self._buffers = state["n_old"], state["buffers"]
        self._anchor = None
        if state["anchor"] is not None:
            device = next(model.parameters()).device
            parts = state["anchor"].items()
            self._anchor = Anchor(
                **{part: {name: value.to(device) for name, value in values.items()} for part, values in parts}
            )


def mean_over_processes(importance: ImportanceSum, data: TaskData) -> Parameters:
    """Average an importance over the samples of all processes."""
    total = _sum_over_processes(importance.total, data)
    device = next(iter(total.values())).device
    n_samples = data.sum_over_processes(torch.tensor(importance.n_samples, device=device))
    return ImportanceSum(total, int(n_samples)).mean()


def whole_batch_gradients(gradients: Parameters, data: TaskData) -> Parameters:
    """Average gradients over processes: each has those of the mean loss over its share of each batch."""
    device = next(iter(gradients.values())).device
    n_processes = data.sum_over_processes(torch.ones((), device=device))
    return {name: total / n_processes for name, total in _sum_over_processes(gradients, data).items()}


def _sum_over_processes(parameters: Parameters, data: TaskData) -> Parameters:
    return {name: data.sum_over_processes(value) for name, value in parameters.items()}
