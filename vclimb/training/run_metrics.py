"""The metrics of a run, as `metrics.json` in its folder holds them. Reading them loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from vclimb.pipeline.errors import DatasetError

Number = float | None
"""A figure; None where it was not measured."""

# These fields open the file, so that a reader sees first which run it is.
_FIRST = ("complete", "vclimb_version", "dataset", "scenario", "method", "protocol", "seed", "device", "classifier")


@dataclass(frozen=True)
class MemoryFacts:
    """Size of a replay memory.

    Attributes:
        videos: Number of exemplars.
        frames: Number of frames that exemplars keep.
        payload_bytes: Bytes of the encoded frames alone.
        bytes_on_disk: Lengths of all files, in bytes; a budget in bytes limits this figure.
        allocated_bytes: Disk blocks of all files, in bytes.
        bytes_per_frame: `bytes_on_disk` for each frame kept; None in an empty memory.
        source_frames: Number of frames of the instances that exemplars were made from.
    """

    videos: int
    frames: int
    payload_bytes: int
    bytes_on_disk: int
    allocated_bytes: int
    bytes_per_frame: Number
    source_frames: int


@dataclass(frozen=True)
class ScenarioFacts:
    """Scenario of a run.

    Attributes:
        origin: Sentence that says where the scenario comes from.
        classes: Names of all classes, by label id.
        evaluation_split: Split that accuracies are measured on.
        left_out: Problem -> number of instances that the data set can't give.
    """

    name: str
    origin: str
    n_tasks: int
    classes: tuple[str, ...]
    evaluation_split: str
    left_out: Mapping[str, int]


@dataclass(frozen=True)
class TaskRecord:
    """Record of one task.

    Attributes:
        train_instances: Number of new instances.
        replay_exemplars: Number of exemplars that were trained on.
        selected_epoch: Epoch whose network was kept, from 0; None: the last.
        skipped_clips: Number of clips that were replaced, since their bytes are damaged.
        memory: Size of the memory after the task; None for a method without memory.
        seconds: Phase -> wall time.
        loader_wait_share: Share of the training time spent waiting for clips.
        gpu_idle_share: Share of the training time in which the GPU had no step to compute; None without a GPU.
    """

    task: int
    classes: tuple[str, ...]
    train_instances: int
    replay_exemplars: int
    epochs: int
    selected_epoch: int | None
    steps: int
    skipped_clips: int
    memory: MemoryFacts | None
    seconds: Mapping[str, float]
    loader_wait_share: Number
    gpu_idle_share: Number


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

    R: tuple[tuple[Number, ...], ...]
    classes_per_task: tuple[int, ...]
    acc: Number
    acc_after_each_task: tuple[Number, ...]
    bwf: Number
    bwf_after_each_task: tuple[Number, ...]
    average_incremental_accuracy: Number
    acc_by_class: Number
    acc_by_class_after_each_task: tuple[Number, ...]
    bwf_by_class: Number
    bwf_by_class_after_each_task: tuple[Number, ...]
    average_incremental_accuracy_by_class: Number

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
        classifier: Name of the method's own classifier, `linear` or `nearest_mean`.
        forward_transfer: Forward transfer, where it was measured.
        accuracy_per_class: Class -> accuracy after the last task that has ended.
        confusion: Number of test clips of each class (row) that were predicted as each class (column).
        memory: Size of the replay memory; None for a method without memory.
        codec: Encoding of exemplars, such as `copy` or `h264:24`; None for a method without memory.
        seconds: Phase -> wall time, summed over tasks.
        classifiers: Classifier -> accuracies.
        tasks: Record of each task that has ended.
    """

    complete: bool
    vclimb_version: str
    dataset: str
    scenario: ScenarioFacts
    method: str
    protocol: str
    seed: int
    device: str
    classifier: str
    forward_transfer: Number
    accuracy_per_class: Mapping[str, Number]
    confusion: tuple[tuple[int, ...], ...]
    memory: MemoryFacts | None
    codec: str | None
    seconds: Mapping[str, float]
    classifiers: Mapping[str, Accuracies]
    tasks: tuple[TaskRecord, ...]

    @classmethod
    def load(cls, path: Path | str) -> RunMetrics:
        """Read `metrics.json`.

        Raises:
            FileNotFoundError: there is no such file.
            DatasetError: the file can't be read, or does not hold a run's metrics.
        """
        try:
            text = Path(path).read_bytes()
            _HEADER.validate_json(text)
            return _ADAPTER.validate_json(text, strict=True)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise DatasetError(f"{path} can't be read: {error.strerror}") from None
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(map(str, first["loc"]))
            reason = f"{field}: {first['msg']}" if field else first["msg"]
            raise DatasetError(f"{path} holds no metrics of a run: {reason}") from None

    def to_json(self) -> dict[str, Any]:
        """Convert to the content of `metrics.json`."""
        table = _ADAPTER.dump_python(self, mode="json")
        first = {name: table[name] for name in _FIRST}
        return {**vars(_Header()), **first, **table}


@dataclass(frozen=True)
class _Header:
    format: Literal["vclimb-metrics"] = "vclimb-metrics"
    format_version: Literal[2] = 2


_HEADER = TypeAdapter(_Header)
_ADAPTER = TypeAdapter(RunMetrics)
