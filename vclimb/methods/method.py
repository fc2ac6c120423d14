"""What a continual-learning method is: a loss, what it does around a task, and how it classifies.

The trainer owns everything else (data, memory, optimiser, precision, processes, checkpoints). A new method is one
file with a class like those beside this one, and a line in `registry`.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor

from vclimb.methods.consistency import Classification, cross_entropy, temporal_consistency
from vclimb.model.inference import Outputs
from vclimb.model.tsn import TSN
from vclimb.pipeline.arrays import Indices
from vclimb.settings import Settings

Terms = dict[str, Tensor]
"""Name -> a number; their sum is minimised."""


class MethodConfig(Settings):
    """Settings of a method; a method with settings extends this."""


@dataclass(frozen=True)
class TaskInfo:
    """Where a run stands.

    Attributes:
        number: of the task, from 0.
        classes_per_task: of all tasks of the scenario.
    """

    number: int
    classes_per_task: tuple[int, ...]

    @property
    def n_old(self) -> int:
        """Classes of the tasks before; label ids below it are old."""
        return sum(self.classes_per_task[: self.number])

    @property
    def n_new(self) -> int:
        """Classes of this task."""
        return self.classes_per_task[self.number]

    @property
    def n_classes(self) -> int:
        """Classes seen so far, this task's included: outputs of the head."""
        return self.n_old + self.n_new


@dataclass(frozen=True)
class StepBatch:
    """A training batch on the model's device.

    Attributes:
        clips: (B, T, 3, H, W) uint8.
        labels: (B,) int64.
    """

    clips: Tensor
    labels: Tensor


@dataclass(frozen=True)
class StepOutputs:
    """What the model says of a training batch.

    Attributes:
        logits: (B, C), of the clips.
        down_sampled: (B, C), of the temporally down-sampled clips; None without temporal consistency.
    """

    logits: Tensor
    down_sampled: Tensor | None = None


class TaskData(Protocol):
    """The training items of a task, new instances and exemplars, as a method sees them around its training.

    Attributes:
        labels: (n,) label ids.
        names: of the items, each once.
        seed: of the run.
    """

    labels: Indices
    names: list[str]
    seed: int

    def batches(self, training_clips: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
        """This process' share of the new instances, once: clips and labels on the model's device.

        Args:
            training_clips: augmented, as in training; else segment centres and centre crops.
        """
        ...

    def outputs(self, items: Indices) -> Outputs:
        """What the model says of those items that can be read, in evaluation mode; the same on every process."""
        ...

    def sum_over_processes(self, tensor: Tensor) -> Tensor:
        """The tensor, added up over processes, in place."""
        ...


class Method(abc.ABC):
    """A continual-learning method.

    Args:
        config: its settings.
        released: compute what the benchmark's released code computes, rather than what the papers say.
        consistency: weight of temporal consistency; 0 without.

    Attributes:
        name: on the command line.
        Config: type of its settings.
        replays: trains on a replay memory too, and needs one.
        all_data: trains on the data of all tasks so far.
        restarts: begins each task with the model as it was initialised.
        video_choice: how the memory chooses videos unless a run says otherwise.
        classifier: whose accuracy is reported: `linear` or `nearest_mean`.
    """

    name: ClassVar[str]
    Config: ClassVar[type[MethodConfig]] = MethodConfig
    replays: ClassVar[bool] = False
    all_data: ClassVar[bool] = False
    restarts: bool = False
    video_choice: str = "random"
    classifier: ClassVar[str] = "linear"

    def __init__(self, config: Any, released: bool = False, consistency: float = 0.0) -> None:
        self.config = config
        self.released = released
        self.consistency = consistency

    def begin_task(self, task: TaskInfo, model: TSN) -> None:  # noqa: B027 # what a method needn't do
        """Before a task's training. The head still has the old classes only (in the first task: the first ones)."""

    def training_items(self, task: TaskInfo, data: TaskData) -> Indices | None:
        """Which of the task's items the network is trained on; None: all."""
        return None

    @abc.abstractmethod
    def loss(self, batch: StepBatch, outputs: StepOutputs) -> Terms:
        """The loss of a batch: terms that are means over its samples, float32."""

    def penalty(self, model: TSN) -> Terms:
        """Terms that depend on the parameters alone."""
        return {}

    def end_task(self, task: TaskInfo, model: TSN, data: TaskData) -> None:  # noqa: B027 # likewise
        """After a task's training, before the memory takes its classes in."""

    def scores(self, logits: Tensor) -> Tensor:
        """(N, C) scores of the linear classifier from the head's logits (N, C)."""
        return logits

    def state_dict(self) -> dict[str, Any]:
        """What it has to remember, as a tree that a checkpoint takes."""
        return {}

    def load_state_dict(self, state: dict[str, Any], model: TSN) -> None:  # noqa: B027 # likewise
        """Take up what `state_dict` gave.

        Args:
            model: of the run, for those that keep one like it.
        """

    def classified(
        self, outputs: StepOutputs, labels: Tensor, classification: Classification = cross_entropy
    ) -> Tensor:
        """The classification loss, with temporal consistency where it is on."""
        if outputs.down_sampled is None:
            return classification(outputs.logits, labels)
        return temporal_consistency(outputs.logits, outputs.down_sampled, labels, self.consistency, classification)
