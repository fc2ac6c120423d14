"""The measures of a run: the accuracy on each task after each task, and the counts behind it.

Sources: Villa et al., "vCLIMB", CVPR 2022 (Acc and BWF); Lopez-Paz and Ranzato, "Gradient episodic memory",
NIPS 2017, section 2 (the matrix R); Rebuffi et al., "iCaRL", CVPR 2017, section 4 (average incremental accuracy). All
accuracies are fractions from 0 to 1. The benchmark's code weights tasks by their number of classes and its paper does
not; both weightings are available.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vclimb.pipeline.errors import VclimbError

Doubles = npt.NDArray[np.float64]
Weighting = Literal["tasks", "classes"]
"""Weight of a task in a mean. `tasks`: equal weights. `classes`: the number of classes of the task."""


@dataclass(frozen=True, eq=False)
class AccuracyMatrix:
    """Accuracy R[i, j] on task j after learning task i. Immutable; `grown` returns a larger matrix.

    Attributes:
        values: Accuracies, (n_learned, n_tasks) float64 in [0, 1], read-only; NaN where nothing was measured, such as
            on tasks that are not learned yet.
        n_classes: Number of classes of each task of the scenario, (n_tasks,).
    """

    values: Doubles
    n_classes: tuple[int, ...]

    def __post_init__(self) -> None:
        values = np.array(self.values, np.float64)
        n_tasks = len(self.n_classes)
        if n_tasks == 0 or min(self.n_classes) < 1:
            raise ValueError(
                f"tasks of {list(self.n_classes)} classes; needs one task or more, each of 1 class or more"
            )
        if values.ndim != 2 or values.shape[1] != n_tasks or len(values) > n_tasks:
            raise ValueError(
                f"R of shape {values.shape} doesn't fit {n_tasks} tasks; needs (0 to {n_tasks}, {n_tasks})"
            )
        if (outside := values[(values < 0) | (values > 1)]).size:
            raise ValueError(
                f"accuracy {outside[0]} is out of range; allowed: fractions from 0 to 1, or NaN for not measured"
            )
        values.setflags(write=False)
        object.__setattr__(self, "values", values)

    @classmethod
    def empty(cls, n_classes: Sequence[int]) -> AccuracyMatrix:
        """Return the matrix before the first task, for tasks with these numbers of classes."""
        return cls(np.empty((0, len(n_classes))), tuple(n_classes))

    @property
    def n_tasks(self) -> int:
        return len(self.n_classes)

    @property
    def n_learned(self) -> int:
        return len(self.values)

    def grown(self, accuracies: Sequence[float] | Doubles) -> AccuracyMatrix:
        """Return this matrix with one more row, for the task that was learned next.

        Args:
            accuracies: Accuracies on tasks 0, 1, ... after learning that task, at least up to that task; NaN for not
                measured.
        """
        if self.n_learned == self.n_tasks:
            raise ValueError(f"all {self.n_tasks} tasks are learned; R has no further row")
        if not self.n_learned < len(accuracies) <= self.n_tasks:
            raise ValueError(
                f"{len(accuracies)} accuracies after task {self.n_learned}; needs {self.n_learned + 1} (tasks 0 to "
                f"{self.n_learned}) to {self.n_tasks}"
            )
        row = np.full(self.n_tasks, np.nan)
        row[: len(accuracies)] = accuracies
        return AccuracyMatrix(np.vstack([self.values, row]), self.n_classes)

    def acc(self, weighting: Weighting = "tasks") -> Doubles:
        """Return Acc_i = mean of R[i, j] over j <= i, for each learned task i: (n_learned,) float64."""
        weights = self._weights(weighting)
        rows = [np.average(row[: i + 1], weights=weights[: i + 1]) for i, row in enumerate(self.values)]
        return np.array(rows, np.float64)

    def bwf(self, weighting: Weighting = "tasks") -> Doubles:
        """Return the backward forgetting BWF_i = mean of R[j, j] - R[i, j] over j < i: (n_learned,) float64.

        BWF is 0 after the first task, as in the benchmark's code: there is no earlier task to forget. It is negative
        where accuracy on earlier tasks rose.
        """
        weights, learned = self._weights(weighting), np.diagonal(self.values)
        rows = [
            np.average(learned[:i] - row[:i], weights=weights[:i]) if i else 0.0 for i, row in enumerate(self.values)
        ]
        return np.array(rows, np.float64)

    def average_incremental(self, weighting: Weighting = "tasks") -> float:
        """Return the mean of Acc_i over all tasks learned so far; NaN before the first task."""
        return float(self.acc(weighting).mean()) if self.n_learned else math.nan

    def to_json(self) -> dict[str, Any]:
        """Return `R`, a list of rows with null for not measured, and `classes_per_task`."""
        rows = [[_json_number(value) for value in row] for row in self.values.tolist()]
        return {"R": rows, "classes_per_task": list(self.n_classes)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> AccuracyMatrix:
        """Return the matrix that `to_json` wrote; other entries are ignored. Damaged ones are VclimbErrors."""
        try:
            n_classes = tuple(int(count) for count in stored["classes_per_task"])
            rows = [[math.nan if value is None else float(value) for value in row] for row in stored["R"]]
            return cls(np.array(rows, np.float64).reshape(len(rows), len(n_classes)), n_classes)
        except (KeyError, TypeError, ValueError) as error:
            raise VclimbError(f"the stored accuracies are damaged: {type(error).__name__}: {error}") from None

    def summary(self) -> dict[str, Any]:
        """Return `to_json` and all measures: lists with a value after each task, and the last value as a number.

        Measures whose names end in `_by_class` are weighted by classes, as in the benchmark's code.
        """
        summary = self.to_json()
        weightings: tuple[tuple[str, Weighting], ...] = (("", "tasks"), ("_by_class", "classes"))
        for suffix, weighting in weightings:
            for name, values in (("acc", self.acc(weighting)), ("bwf", self.bwf(weighting))):
                numbers = [_json_number(value) for value in values.tolist()]
                summary[name + suffix] = numbers[-1] if numbers else None
                summary[f"{name}{suffix}_after_each_task"] = numbers
            summary["average_incremental_accuracy" + suffix] = _json_number(self.average_incremental(weighting))
        return summary

    def _weights(self, weighting: Weighting) -> Doubles:
        if weighting not in ("tasks", "classes"):
            raise ValueError(f"weighting {weighting!r} is not known; allowed: tasks, classes")
        return np.array(self.n_classes, np.float64) if weighting == "classes" else np.ones(self.n_tasks)


class PredictionCounts:
    """Counts of (class, predicted class) and of correct answers per task, over batches of predictions.

    All counts are integers, so the order of batches and their split over processes change nothing.

    Attributes:
        state: All counts, (n_classes ** 2 + 2 * n_tasks,) int64 on the device. One `all_reduce` (sum) merges the counts
            of several processes.
    """

    def __init__(self, n_classes: int, n_tasks: int, device: torch.device | str = "cpu") -> None:
        if n_classes < 1 or n_tasks < 1:
            raise ValueError(f"{n_classes} classes and {n_tasks} tasks; needs 1 or more of each")
        self.n_classes, self.n_tasks = n_classes, n_tasks
        self.state = torch.zeros(n_classes**2 + 2 * n_tasks, dtype=torch.int64, device=device)

    def update(self, predictions: Tensor, labels: Tensor, tasks: Tensor | int) -> None:
        """Count a batch, which may be empty.

        Args:
            predictions: Label ids, (B,) integer; or scores of classes 0 to C - 1, (B, C) floating, of which the highest
                is the prediction (the first of equal scores).
            labels: Label ids, (B,) integer.
            tasks: Task of each sample, (B,) integer; or the task of all samples.

        Raises:
            VclimbError: A score is NaN, because the model has diverged.
        """
        device = self.state.device
        is_nan = torch.zeros((), dtype=torch.bool, device=device)
        if predictions.is_floating_point():
            if predictions.ndim != 2 or not 1 <= predictions.shape[1] <= self.n_classes:
                raise ValueError(f"scores {tuple(predictions.shape)} don't fit; needs (B, 1 to {self.n_classes})")
            is_nan = predictions.isnan().any().to(device)
            predictions = predictions.argmax(1)
        tasks = torch.as_tensor(tasks, device=device)
        if labels.ndim != 1 or predictions.shape != labels.shape or tasks.shape not in (labels.shape, ()):
            raise ValueError(
                f"predictions of {tuple(predictions.shape)} and tasks {tuple(tasks.shape)} don't fit labels "
                f"{tuple(labels.shape)}"
            )
        predictions, labels = predictions.to(device, torch.int64), labels.to(device, torch.int64)
        tasks = tasks.to(torch.int64).expand(labels.shape)
        checked = (
            ("label", labels, self.n_classes),
            ("prediction", predictions, self.n_classes),
            ("task", tasks, self.n_tasks),
        )
        # One transfer for all flags: each transfer waits for the device.
        flags = torch.stack([is_nan, *(((ids < 0) | (ids >= count)).any() for _, ids, count in checked)]).tolist()
        if flags[0]:
            raise VclimbError("scores hold NaN: the model has diverged; train it with a lower learning rate")
        for (name, ids, count), is_bad in zip(checked, flags[1:], strict=True):
            if is_bad:
                bad = int(ids[(ids < 0) | (ids >= count)][0])
                raise ValueError(f"{name} {bad} is out of range; allowed: 0 to {count - 1}")
        ones = torch.ones_like(labels)
        correct = (predictions == labels).to(torch.int64)
        self.state.index_add_(0, labels * self.n_classes + predictions, ones)
        self.state.index_add_(0, self.n_classes**2 + tasks, correct)
        self.state.index_add_(0, self.n_classes**2 + self.n_tasks + tasks, ones)

    def confusion(self) -> npt.NDArray[np.int64]:
        """Return the number of samples of class [row] predicted as class [column]: (n_classes, n_classes) int64."""
        counts: npt.NDArray[np.int64] = self.state[: self.n_classes**2].cpu().numpy().copy()
        return counts.reshape(self.n_classes, self.n_classes)

    def accuracy_per_class(self) -> Doubles:
        """Return the accuracy on each class, (n_classes,) float64; NaN for a class without samples."""
        confusion = self.confusion()
        return _ratio(confusion.diagonal(), confusion.sum(axis=1))

    def accuracy_per_task(self) -> Doubles:
        """Return the accuracy on each task, a row of R, (n_tasks,) float64; NaN for a task without samples."""
        correct, samples = self.state[self.n_classes**2 :].cpu().numpy().reshape(2, self.n_tasks)
        return _ratio(correct, samples)

    def accuracy(self) -> float:
        """Return the accuracy over all samples; NaN without samples."""
        confusion = self.confusion()
        return int(confusion.trace()) / n_samples if (n_samples := int(confusion.sum())) else math.nan


def _ratio(correct: npt.NDArray[np.int64], samples: npt.NDArray[np.int64]) -> Doubles:
    return np.where(samples > 0, correct / np.maximum(samples, 1), np.nan)


def _json_number(value: float) -> float | None:
    """Return null for NaN, which JSON does not have."""
    return None if math.isnan(value) else value
