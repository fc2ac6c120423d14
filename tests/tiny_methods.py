"""Methods in a second task, on a head whose features are the clips themselves, and losses in float64 NumPy."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vclimb.methods.method import Method, StepBatch, StepOutputs, TaskInfo
from vclimb.methods.registry import parse_method
from vclimb.model.clip_model import ClipModel
from vclimb.model.inference import Outputs
from vclimb.protocol import PAPER, RELEASED, Differences

Doubles = npt.NDArray[np.float64]
TASKS = (2, 1, 2)
SECOND = TaskInfo(1, TASKS)
LABELS = np.array([2, 0, 2, 1])


class TinyNetwork(ClipModel):
    """A head on features that are the clips themselves."""

    def __init__(self, n_classes: int) -> None:
        torch.manual_seed(n_classes)
        super().__init__(nn.Identity(), 3, n_classes, dropout=0.0)
        nn.init.normal_(self.head.weight)
        nn.init.normal_(self.head.bias)

    def features(self, clips: Tensor) -> Tensor:
        return clips


class TinyData:
    """Items of a task whose clips are features."""

    def __init__(self, model: TinyNetwork, labels: npt.NDArray[np.int64]) -> None:
        self._model = model
        self.labels = labels
        self.names = [f"{label}/{number}" for number, label in enumerate(labels.tolist())]
        self.seed = 0
        self.clips = clips_of(len(labels))

    def batches(self) -> Any:
        yield self.clips[:3], torch.from_numpy(self.labels[:3])
        yield self.clips[3:], torch.from_numpy(self.labels[3:])

    def training_batches(self) -> Any:
        yield 2 * self.clips[1:4], torch.from_numpy(self.labels[1:4])
        yield 2 * self.clips[:1], torch.from_numpy(self.labels[:1])

    def next_model(self) -> TinyNetwork:
        """Grow the head by an output, as after the first task of `TASKS`."""
        model = copy.deepcopy(self._model)
        model.head = TinyNetwork(3).head
        with torch.no_grad():
            model.head.weight[:2], model.head.bias[:2] = self._model.head.weight, self._model.head.bias
        return model

    def training_epochs(self, items: npt.NDArray[np.int64]) -> Any:
        """Yield 3 epochs of batches of 4 items, in other clips each time, with down-sampled clips."""
        for epoch in range(3):
            yield [self.training_outputs(items[start : start + 4], epoch) for start in range(0, len(items), 4)]

    def training_outputs(self, items: npt.NDArray[np.int64], epoch: int) -> tuple[StepOutputs, Tensor]:
        clips = self.clips[torch.from_numpy(items)] + epoch
        logits, down = self._model(clips).detach(), self._model(clips / 2).detach()
        return StepOutputs(logits, down), torch.from_numpy(self.labels[items])

    def selection_score(self, epoch: int | None = None) -> float | None:
        return None

    def outputs(self, items: npt.NDArray[np.int64]) -> Outputs:
        clips = self.clips[torch.from_numpy(items)]
        return Outputs(items, self.labels[items], clips, self._model(clips).detach())

    def sum_over_processes(self, tensor: Tensor) -> Tensor:
        return tensor


def clips_of(n: int) -> Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(n))


def make(name: str, released: bool | Differences = False, consistency: float = 0.0, **settings: Any) -> Method:
    """Make a method, with the released code's or other differences from the papers."""
    kind, config = parse_method({"name": name, **settings})
    differences = released if isinstance(released, Differences) else RELEASED if released else PAPER
    return kind(config, differences, consistency)


def in_second_task(method: Method, learn_first: bool = False) -> tuple[TinyNetwork, TinyNetwork, StepBatch, Tensor]:
    """Begin a second task; return the old network, the new network, a batch, and the new network's logits."""
    old, new = TinyNetwork(2), TinyNetwork(3)
    method.begin_task(TaskInfo(0, TASKS), old)
    if learn_first:
        method.end_task(TaskInfo(0, TASKS), old, TinyData(old, np.array([0, 1, 0, 1])))
    method.begin_task(SECOND, old)
    batch = StepBatch(clips_of(4), torch.from_numpy(LABELS), torch.arange(4))
    return old, new, batch, new(batch.clips)


def numbers(tensor: Tensor) -> Doubles:
    return np.asarray(tensor.detach().double().numpy())


def log_softmax(logits: Doubles) -> Doubles:
    return np.asarray(logits - np.log(np.exp(logits).sum(1, keepdims=True)))


def cross_entropy(logits: Doubles, labels: npt.NDArray[np.int64]) -> float:
    return float(-log_softmax(logits)[np.arange(len(labels)), labels].mean())


def bce(logits: Doubles, targets: Doubles) -> float:
    s = 1 / (1 + np.exp(-logits))
    return float(-(targets * np.log(s) + (1 - targets) * np.log(1 - s)).sum(1).mean())


def total(method: Method, batch: StepBatch, outputs: StepOutputs) -> float:
    return sum(float(value.detach()) for value in method.loss(batch, outputs).values())
