"""The interface of continual-learning methods: a loss, work around each task, and a classifier.

The trainer owns data, memory, optimiser, precision, processes and checkpoints. A method is one class:

    class Mine(Method[MineConfig]):
        name = "mine"
        summary = "Cross-entropy and a penalty of mine."
        Config = MineConfig

        def penalty(self, model: ClipModel) -> Terms: ...

In this folder, it is found by its file. In another package, it is found by an entry point of the group
`vclimb.methods`, or chosen as `--method package.module:Mine`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol

from torch import Tensor
from typing_extensions import TypeVar

from vclimb.methods.batch import FeatureSamples, StepBatch, StepOutputs
from vclimb.methods.consistency import Classification, cross_entropy, temporal_consistency
from vclimb.methods.kept import KeptArrays, KeptShapes, NetworkSize
from vclimb.model.clip_model import ClipModel
from vclimb.model.inference import Outputs
from vclimb.pipeline.arrays import Flags, Indices
from vclimb.protocol import PAPER, Differences
from vclimb.settings import Settings

if TYPE_CHECKING:
    from vclimb.scenario import TaskSequence

__all__ = ["LINEAR", "Method", "MethodConfig", "StepBatch", "StepOutputs", "TaskData", "TaskInfo", "Terms"]

Terms = dict[str, Tensor]
"""Name of a loss term -> float32 scalar. The sum of all terms is minimised."""

Classifiers = Mapping[str, Callable[[Outputs], Tensor]]
"""Name of a classifier -> function from a network's outputs for N clips to scores (N, C)."""

LINEAR = "linear"
"""Name of the classifier that is the network's head."""


class MethodConfig(Settings):
    """Base of the settings of a method."""


ConfigT_co = TypeVar("ConfigT_co", bound=MethodConfig, default=MethodConfig, covariant=True)


@dataclass(frozen=True)
class TaskInfo:
    """Position of a task in its scenario.

    Attributes:
        number: Number of the task, from 0.
        classes_per_task: Number of classes of each task of the scenario.
    """

    number: int
    classes_per_task: tuple[int, ...]

    @property
    def n_old(self) -> int:
        """Number of classes of the earlier tasks, whose label ids are below it."""
        return sum(self.classes_per_task[: self.number])

    @property
    def n_new(self) -> int:
        """Number of classes of this task."""
        return self.classes_per_task[self.number]

    @property
    def n_classes(self) -> int:
        """Number of classes of the earlier tasks and this one: outputs of the head."""
        return self.n_old + self.n_new

    @property
    def following(self) -> TaskInfo | None:
        """The next task; None after the last one."""
        is_last = self.number + 1 == len(self.classes_per_task)
        return None if is_last else TaskInfo(self.number + 1, self.classes_per_task)


class TaskData(Protocol):
    """The training items of a task, new instances and exemplars, for a method's work around the training.

    Attributes:
        labels: (n,) label ids of the items.
        names: Unique names of the items.
        is_exemplar: (n,) whether an item is an exemplar.
        seed: Seed of the run.
    """

    labels: Indices
    names: list[str]
    is_exemplar: Flags
    seed: int

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield this process' share of the new instances once: clips, not augmented, and labels on the device."""
        ...

    def training_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield this process' share of an epoch of training on the new instances: augmented clips and labels."""
        ...

    def training_epochs(self, items: Indices) -> Iterator[Iterable[tuple[StepOutputs, Tensor]]]:
        """Pass the training clips of some items through the model in evaluation mode, for as many epochs as training.

        Each epoch has new clips in a new order, down-sampled ones with temporal consistency, and ends as those of
        training do: with a smaller batch, or without the items that don't fill one. Batches of outputs and labels are
        whole, and the same on every process.
        """
        ...

    def selection_score(self, epoch: int | None = None) -> float | None:
        """Measure the accuracy by which an epoch is selected; None where this epoch, from 0, is not measured."""
        ...

    def next_model(self) -> ClipModel | None:
        """Copy the model, with the head that the next task will begin with; None in the last task."""
        ...

    def training_logits(self, model: ClipModel, items: Indices | None) -> tuple[Indices, Tensor]:
        """Pass one training clip of each item (None: of all) through a model: numbers of items (n,), and logits (n, C).

        Items are missing that training would leave out. The result is the same on every process, on the CPU.
        """
        ...

    def outputs(self, items: Indices) -> Outputs:
        """Compute the model's outputs, in evaluation mode, for those of some items that can be read; log the others."""
        ...

    def feature_samples(self) -> FeatureSamples:
        """Return the features of the task's clips that can be read, and those that the memory keeps of earlier ones."""
        ...

    def same_everywhere(self, model: ClipModel) -> None:
        """Give all processes the weights of the first, where each has trained a model alone: GPUs may round apart."""
        ...

    def sum_over_processes(self, tensor: Tensor) -> Tensor:
        """Add a tensor up over all processes, in place, and return it."""
        ...


class Method(Generic[ConfigT_co]):
    """A continual-learning method. Without overrides it fine-tunes: cross-entropy over all classes so far.

    Args:
        config: Settings of the method.
        differences: What to compute where the papers and the benchmark's released code differ.
        consistency: Weight of temporal consistency; 0 turns it off.

    Attributes:
        name: Name of the method in settings.
        summary: Description of the method in one line, for the command line's help.
        Config: Class of the method's settings.
        replays: Whether the method trains on a replay memory, and so needs one.
        replays_features: Whether the method replays features, which the memory keeps in place of frames.
        memory_first: Whether the memory takes a task's clips before the task's training.
        keeps_logits: Whether the memory keeps the network's logits with an exemplar: `StepBatch.stored_logits`.
        all_data: Whether the method trains on the data of all tasks so far.
        restarts: Whether each task begins with the model as it was initialised.
        video_choice: Rule by which the memory chooses videos, unless the run's settings name another.
        label_smoothing: Share of a label that the softmax cross-entropy over all classes spreads over them.
        memory_settings: Settings of the memory that the first task's training depends on; runs share it across others.
        classifier: Classifier whose accuracy is reported: one of `classifiers`, or with a memory `nearest_mean`.
        not_replayable: Reason why a CUDA graph, which runs no Python, can't replay a step; None: it can.
        budget_bytes: Budget in bytes, for methods with `budget` in `memory_settings`; None: another budget, or none.
    """

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    Config: ClassVar[type[MethodConfig]] = MethodConfig
    replays: ClassVar[bool] = False
    replays_features: ClassVar[bool] = False
    memory_first: ClassVar[bool] = False
    keeps_logits: ClassVar[bool] = False
    all_data: ClassVar[bool] = False
    memory_settings: ClassVar[frozenset[str]] = frozenset()
    restarts: bool = False
    not_replayable: str | None = None
    budget_bytes: int | None = None
    video_choice: str = "random"
    label_smoothing: float = 0.0
    classifier: str = LINEAR

    def __init__(self, config: ConfigT_co, differences: Differences = PAPER, consistency: float = 0.0) -> None:
        self.config = config
        self.differences = differences
        if self.video_choice == "herding" and differences.herding == "whole-matrix":
            self.video_choice = "released-herding"
        self.consistency = consistency

    @classmethod
    def fills_budget(cls, config: MethodConfig) -> bool:
        """Whether the size of what the method keeps besides exemplars follows from a budget in bytes."""
        return False

    def check(self, scenario: TaskSequence) -> None:
        """Refuse a scenario that the method can't learn from, by a SettingsError, before anything is trained."""

    def trains(self, task: TaskInfo) -> bool:
        """Whether the network is trained on a task. Where it is not, it keeps its weights, and `end_task` follows."""
        return True

    def begin_task(self, task: TaskInfo, model: ClipModel) -> None:
        """Prepare a task's training. The head has no outputs for the task's classes yet, except in the first task."""

    def training_items(self, task: TaskInfo, data: TaskData) -> Indices | None:
        """Choose the items that the network is trained on; None: all items of the task."""
        return None

    def before_training(self, task: TaskInfo, data: TaskData, items: Indices | None) -> None:
        """Prepare what needs the items that are trained on, of `training_items`. A resumed task isn't prepared again.

        The head has outputs for the task's classes.
        """

    def loss(self, batch: StepBatch, outputs: StepOutputs) -> Terms:
        """Compute the loss of a batch: terms that are means over the batch's samples."""
        return {"classification": self.classification(outputs, batch.labels)}

    def penalty(self, model: ClipModel) -> Terms:
        """Compute the terms that depend on nothing but the model's parameters."""
        return {}

    def end_task(self, task: TaskInfo, model: ClipModel, data: TaskData) -> None:
        """Finish a task after its training, before the memory takes exemplars of the task's classes."""

    def scores(self, logits: Tensor) -> Tensor:
        """Convert the head's logits (N, C) to the scores (N, C) of the linear classifier."""
        return logits

    def classifiers(self) -> Classifiers:
        """Return the classifiers that the method is judged by after a task."""
        return {LINEAR: lambda outputs: self.scores(outputs.logits)}

    def kept(self) -> KeptArrays:
        """Return what the method keeps for later tasks besides exemplars, after `end_task`: it counts in the budget.

        It is what exists only because of earlier tasks. A teacher that is copied from the network when a task begins
        costs nothing, and neither do targets that are computed before the task.
        """
        return {}

    def kept_shapes(self, task: TaskInfo, network: NetworkSize) -> KeptShapes:
        """Declare what `kept` will return after a task, before anything is trained."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return the method's state, as a tree of tensors and plain values for a checkpoint.

        Checkpoints are for going on after a stop, and don't count in the budget.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any], model: ClipModel) -> None:
        """Restore the state that `state_dict` returned; a method can copy the structure of the run's model."""

    def classification(self, outputs: StepOutputs, labels: Tensor, loss: Classification | None = None) -> Tensor:
        """Compute a classification loss with labels (B,), with temporal consistency where it is on.

        Args:
            loss: Loss of one view of the clips; None: softmax cross-entropy over all classes.
        """
        loss = loss or partial(cross_entropy, label_smoothing=self.label_smoothing)
        if outputs.down_sampled is None:
            return loss(outputs.logits, labels)
        return temporal_consistency(outputs.logits, outputs.down_sampled, labels, self.consistency, loss)
