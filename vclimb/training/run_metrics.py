"""The metrics of a run, as `metrics.json` in its folder holds them. Reading them loads no torch."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, TypeAdapter, ValidationError

from vclimb.pipeline.errors import DatasetError
from vclimb.pipeline.system.sealed_json import parse_object, unsealed
from vclimb.pipeline.system.small_files import read_small
from vclimb.pipeline.system.validation import first_problem
from vclimb.training.figures import Change, Count, Fraction, Parts, Phases, Ratio, Text
from vclimb.training.pilot_facts import PilotFacts

# A matrix of confusion of 5,000 classes is smaller.
_MAX_BYTES = 256 * 2**20
_MAX_SHOWN = 300  # characters of a message
# These fields open the file, so that a reader sees first which run it is.
_FIRST = ("complete", "vclimb_version", "dataset", "scenario", "method", "protocol", "seed", "device", "classifier")


class MetricsDamagedError(DatasetError):
    """A file does not hold a run's metrics as they were written."""


@dataclass(frozen=True)
class MemoryFacts:
    """Size of a memory: of the exemplars, and of what a method keeps besides.

    Attributes:
        videos: Number of exemplars.
        frames: Number of frames that exemplars keep.
        payload_bytes: Bytes of the encoded frames alone.
        bytes_on_disk: Lengths of all files, in bytes; a budget in bytes limits this figure.
        allocated_bytes: Disk blocks of all files, in bytes.
        bytes_per_frame: Bytes on disk of exemplars and index for each frame kept; 0 where no frame is kept.
        source_frames: Number of frames of the instances that exemplars were made from.
        parts: Part -> bytes on disk: `exemplars`; `features`, `statistics`, `parameters` and `logits` where any are
            kept; and `index`, which belongs to no part. Together they are `bytes_on_disk`.
    """

    videos: Count
    frames: Count
    payload_bytes: Count
    bytes_on_disk: Count
    allocated_bytes: Count
    bytes_per_frame: Ratio
    source_frames: Count
    parts: Parts

    def __post_init__(self) -> None:
        n_bytes = sum(self.parts.values())
        _require(n_bytes == self.bytes_on_disk, "parts", f"{n_bytes} bytes", f"{self.bytes_on_disk}, as bytes_on_disk")


@dataclass(frozen=True)
class ScenarioFacts:
    """Scenario of a run.

    Attributes:
        origin: Sentence that says where the scenario comes from.
        classes: Names of all classes, by label id.
        evaluation_split: Split that accuracies are measured on.
        left_out: Problem -> number of instances that the data set can't give.
    """

    name: Text
    origin: Text
    n_tasks: Count
    classes: tuple[Text, ...]
    evaluation_split: Text
    left_out: Mapping[Text, Count]


@dataclass(frozen=True)
class TaskRecord:
    """Record of one task.

    Attributes:
        train_instances: Number of new instances.
        replay_exemplars: Number of exemplars that were trained on.
        selected_epoch: Epoch whose network was kept, from 0; None: the last.
        skipped_clips: Number of clips that were replaced, since their bytes are damaged.
        memory: Size of the memory after the task; None for a method that keeps nothing.
        taken_from: Beginning that the task's training was taken from; None: this run trained the task.
        seconds: Phase -> wall time; of training, that of the run which trained the task.
        loader_wait_share: Share of the training time spent waiting for clips.
        gpu_idle_share: Share of the training time in which the GPU had no step to compute; None without a GPU.
    """

    task: Count
    classes: tuple[Text, ...]
    train_instances: Count
    replay_exemplars: Count
    epochs: Count
    selected_epoch: Count | None
    steps: Count
    skipped_clips: Count
    memory: MemoryFacts | None
    taken_from: Text | None
    seconds: Phases
    loader_wait_share: Ratio
    gpu_idle_share: Ratio


@dataclass(frozen=True, kw_only=True)
class Accuracies:
    """Accuracies of one classifier and the figures that follow from them.

    `vclimb.metrics.AccuracyMatrix` has the formulas. Names with `_by_class` weight tasks by their number of classes,
    as the benchmark's code does.

    Attributes:
        R: Accuracy on task j (column) after learning task i (row), 0 to 1; None above the diagonal.
        classes_per_task: Number of classes of each task.
        acc: Mean accuracy over the tasks learned.
        acc_after_each_task: `acc` after each task.
        bwf: Backward forgetting.
        bwf_after_each_task: `bwf` after each task.
        average_incremental_accuracy: Mean of `acc_after_each_task`.
    """

    R: tuple[tuple[Fraction, ...], ...]
    classes_per_task: tuple[Annotated[int, Field(ge=1, lt=2**31)], ...]
    acc: Fraction
    acc_after_each_task: tuple[Fraction, ...]
    bwf: Change
    bwf_after_each_task: tuple[Change, ...]
    average_incremental_accuracy: Fraction
    acc_by_class: Fraction
    acc_by_class_after_each_task: tuple[Fraction, ...]
    bwf_by_class: Change
    bwf_by_class_after_each_task: tuple[Change, ...]
    average_incremental_accuracy_by_class: Fraction

    def __post_init__(self) -> None:
        """Check that the fields fit each other."""
        n_learned, n_tasks = len(self.R), len(self.classes_per_task)
        _require(1 <= n_learned <= n_tasks, "R", f"{n_learned} rows", f"1 to {n_tasks}, the number of tasks")
        lengths = {len(row) for row in self.R}
        _require(
            lengths == {n_tasks}, "R", f"rows of {sorted(lengths)} values", f"{n_tasks} in each, one for each task"
        )
        for name in ("acc", "bwf", "acc_by_class", "bwf_by_class"):
            after_each: tuple[float | None, ...] = getattr(self, f"{name}_after_each_task")
            place = f"{name}_after_each_task"
            _require(len(after_each) == n_learned, place, f"{len(after_each)} values", f"{n_learned}, as many as R")
            _require(after_each[-1] == getattr(self, name), name, repr(getattr(self, name)), f"the last of {place}")

    @property
    def matrix(self) -> npt.NDArray[np.float64]:
        """R as an array: (tasks learned, tasks) float64, NaN where nothing was measured."""
        return np.array(self.R, dtype=np.float64).reshape(len(self.R), len(self.classes_per_task))


@dataclass(frozen=True, kw_only=True)
class RunMetrics(Accuracies):
    """Everything that a run has measured so far. The accuracies are those of the method's own classifier.

    Attributes:
        complete: Whether the last task has ended.
        vclimb_version: Version of vclimb that wrote the metrics.
        dataset: Name of the data set.
        scenario: Scenario of the run.
        method: Name of the method.
        protocol: `paper` or `released`.
        seed: Seed of the run.
        device: Name of the GPU, or `cpu`.
        classifier: Name of the method's own classifier, such as `linear` or `nearest_mean`.
        forward_transfer: Forward transfer, where it was measured.
        accuracy_per_class: Class -> accuracy after the last task that has ended.
        confusion: Number of test clips of each class (row) that were predicted as each class (column).
        memory: Size of the memory; None for a method that keeps nothing between tasks.
        codec: Encoding of exemplars, such as `copy` or `h264:24`; None for a method that keeps none.
        pilot: Result of the pilot that chose the encoding; None: the settings gave it.
        seconds: Phase -> wall time, summed over tasks.
        classifiers: Classifier -> accuracies.
        tasks: Record of each task that has ended.
    """

    complete: bool
    vclimb_version: Text
    dataset: Text
    scenario: ScenarioFacts
    method: Text
    protocol: Text
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)]
    device: Text
    classifier: Text
    forward_transfer: Change
    accuracy_per_class: Mapping[Text, Fraction]
    confusion: tuple[tuple[Count, ...], ...]
    memory: MemoryFacts | None
    codec: Text | None
    pilot: PilotFacts | None
    seconds: Phases
    classifiers: Annotated[Mapping[Text, Accuracies], Field(max_length=20)]
    tasks: tuple[TaskRecord, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        n_learned, n_tasks, classes = len(self.R), len(self.classes_per_task), self.scenario.classes
        n_classes = len(classes)
        _require(self.scenario.n_tasks == n_tasks, "scenario.n_tasks", str(self.scenario.n_tasks), f"{n_tasks}")
        _require(self.complete == (n_learned == n_tasks), "complete", f"{self.complete}", f"{n_learned == n_tasks}")
        _require(
            sum(self.classes_per_task) == n_classes, "scenario.classes", f"{n_classes} names", "those of all tasks"
        )
        _require(len(set(classes)) == n_classes, "scenario.classes", "a name twice", "each class once")
        _require(
            tuple(self.accuracy_per_class) == classes, "accuracy_per_class", "other classes", "those of the scenario"
        )
        is_square = len(self.confusion) == n_classes and all(len(row) == n_classes for row in self.confusion)
        _require(is_square, "confusion", "another shape", f"{n_classes} rows of {n_classes} counts")
        numbers = [record.task for record in self.tasks]
        learned = f"those of tasks 0 to {n_learned - 1}"
        _require(numbers == list(range(n_learned)), "tasks", f"{len(numbers)} records", learned)
        _require(self.classifier in self.classifiers, "classifier", "an unknown name", "one of classifiers")
        alike = all(other.classes_per_task == self.classes_per_task for other in self.classifiers.values())
        _require(alike, "classifiers", "other tasks", "those of classes_per_task")

    @classmethod
    def load(cls, path: Path | str) -> RunMetrics:
        """Read `metrics.json`.

        Raises:
            FileNotFoundError: there is no such file.
            MetricsDamagedError: it does not hold a run's metrics as they were written; the message says what to do.
            DatasetError: it can't be read.
        """
        try:
            text = read_small(path, _MAX_BYTES)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise DatasetError(f"{path} can't be read: {error.strerror}") from None
        try:
            document = parse_object(text)
            _HEADER.validate_python(document)
            unsealed(document)
            return _ADAPTER.validate_json(text, strict=True)
        except ValidationError as error:
            problem = f"holds no metrics of a run: {first_problem(error)[:_MAX_SHOWN]}"
        except ValueError as error:
            problem = f"is damaged: {str(error)[:_MAX_SHOWN]}"
        run = shlex.quote(str(Path(path).parent))
        raise MetricsDamagedError(
            f"{path} {problem}; `vclimb train --resume --out {run}` writes it anew where the run has a checkpoint; "
            f"where there is none, remove {run} and train the run again"
        )

    def to_json(self) -> dict[str, Any]:
        """Convert to the content of `metrics.json`, without its SHA-256. A figure that is NaN is None."""
        table = json.loads(_ADAPTER.dump_json(self))
        first = {name: table[name] for name in _FIRST}
        return {**vars(_Header()), **first, **table}


def _require(is_so: bool, field: str, found: str, needed: str) -> None:
    """Refuse a field that does not fit the others, where it isn't so."""
    if not is_so:
        raise ValueError(f"field {field} has {found}; it needs {needed}")


@dataclass(frozen=True)
class _Header:
    format: Literal["vclimb-metrics"] = "vclimb-metrics"
    format_version: Literal[5] = 5


_HEADER = TypeAdapter(_Header)
_ADAPTER = TypeAdapter(RunMetrics)
