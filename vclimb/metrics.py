"""What a run is judged by: the accuracy on each task after each task, and the counts it comes from.

Sources: Villa et al., "vCLIMB", CVPR 2022 (Acc and BWF); Lopez-Paz and Ranzato, "Gradient episodic memory",
NIPS 2017, section 2 (the matrix R, forward transfer); Rebuffi et al., "iCaRL", CVPR 2017, section 4 (average
incremental accuracy). All accuracies are fractions from 0 to 1. The benchmark's code weights tasks by their number of
classes, its paper doesn't; both are here.
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
"""`tasks`: every task counts alike. `classes`: a task counts as often as it has classes."""


@dataclass(frozen=True, eq=False)
class AccuracyMatrix:
    """R[i, j] = accuracy on task j after learning task i. Never changes; `grown` gives one with a row more.

    Attributes:
        values: (n_learned, n_tasks) float64 in [0, 1], read-only; NaN where nothing was measured, as right of the
            diagonal unless tasks are evaluated before they are learned.
        n_classes: (n_tasks,) classes of each task of the scenario.

    Raises:
        ValueError: the shape doesn't fit the tasks, or an accuracy lies outside of [0, 1].
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
                f"accuracy {outside[0]} is out of range; allowed: fractions from 0 to 1, NaN: not measured"
            )
        values.setflags(write=False)
        object.__setattr__(self, "values", values)

    @classmethod
    def empty(cls, n_classes: Sequence[int]) -> AccuracyMatrix:
        """Before the first task, of a scenario whose tasks have so many classes."""
        return cls(np.empty((0, len(n_classes))), tuple(n_classes))

    @property
    def n_tasks(self) -> int:
        """Tasks of the scenario."""
        return len(self.n_classes)

    @property
    def n_learned(self) -> int:
        """Tasks learned so far: rows."""
        return len(self.values)

    def grown(self, accuracies: Sequence[float] | Doubles) -> AccuracyMatrix:
        """With the row of the next task.

        Args:
            accuracies: on tasks 0, 1, ... after learning it, at least up to itself; NaN: not measured.

        Raises:
            ValueError: there are too few or too many of them, or all tasks are learned already.
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
        """Acc_i = mean of R[i, j] over j <= i, after each task: (n_learned,)."""
        weights = self._weights(weighting)
        rows = [_mean(row[: i + 1], weights[: i + 1]) for i, row in enumerate(self.values)]
        return np.array(rows, np.float64)

    def bwf(self, weighting: Weighting = "tasks") -> Doubles:
        """Backward forgetting, BWF_i = mean of R[j, j] - R[i, j] over j < i, after each task: (n_learned,).

        0 after the first task, which has no earlier one to forget (the benchmark's code has it so too). Negative where
        earlier tasks got better.
        """
        weights, learned = self._weights(weighting), np.diagonal(self.values)
        rows = [_mean(learned[:i] - row[:i], weights[:i]) if i else 0.0 for i, row in enumerate(self.values)]
        return np.array(rows, np.float64)

    def average_incremental(self, weighting: Weighting = "tasks") -> float:
        """The mean of Acc_i over all tasks learned so far; NaN before the first."""
        return float(self.acc(weighting).mean()) if self.n_learned else math.nan

    def forward_transfer(self, baseline: Sequence[float] | Doubles) -> float:
        """FWT = mean of R[j - 1, j] - b_j over j = 1 ... n_learned - 1 (GEM, section 2).

        Two things are needed that a run doesn't measure by itself: each task's accuracy *before* it is learned, and
        that of the model as it was initialised. A class-incremental head has no output for classes to come, so
        R[j - 1, j] is 0 unless the head has all classes from the start; then it says how much better than chance the
        earlier tasks make a guess. (GEM's code divides by the number of tasks, not by that of the terms.)

        Args:
            baseline: (n_tasks,) b, the accuracy on each task of the initialised model.

        Raises:
            ValueError: fewer than two tasks are learned, or one of these accuracies was not measured.
        """
        if len(baseline) != self.n_tasks:
            raise ValueError(f"{len(baseline)} accuracies of the initialised model don't fit {self.n_tasks} tasks")
        if self.n_learned < 2:
            raise ValueError(f"forward transfer needs two tasks or more; {self.n_learned} are learned")
        before = np.diagonal(self.values, offset=1)[: self.n_learned - 1]
        without = np.asarray(baseline, np.float64)[1 : self.n_learned]
        for name, measured in (("before it was learned", before), ("of the initialised model", without)):
            if np.isnan(measured).any():
                task = int(np.isnan(measured).argmax()) + 1
                raise ValueError(f"forward transfer needs the accuracy on task {task} {name}; it was not measured")
        return float((before - without).mean())

    def to_json(self) -> dict[str, Any]:
        """`R`, a list of rows with null for what was not measured, and `classes_per_task`."""
        rows = [[_json_number(value) for value in row] for row in self.values.tolist()]
        return {"R": rows, "classes_per_task": list(self.n_classes)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> AccuracyMatrix:
        """What `to_json` gave; other entries are left.

        Raises:
            VclimbError: it isn't that.
        """
        try:
            n_classes = tuple(int(count) for count in stored["classes_per_task"])
            rows = [[math.nan if value is None else float(value) for value in row] for row in stored["R"]]
            return cls(np.array(rows, np.float64).reshape(len(rows), len(n_classes)), n_classes)
        except (KeyError, TypeError, ValueError) as error:
            raise VclimbError(f"the stored accuracies are damaged: {type(error).__name__}: {error}") from None

    def summary(self) -> dict[str, Any]:
        """`to_json` and all that follows from it: after each task as lists, and after the last as numbers.

        A name that ends in `_by_class` is weighted by classes, as the benchmark's code does.
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
    """Counts of (class, predicted class), and of right answers by task, over batches of predictions.

    Integers all, so the order of batches and their split over processes change nothing.

    Args:
        n_classes: label ids are 0 to n_classes - 1.
        n_tasks: numbers of tasks are 0 to n_tasks - 1.
        device: that predictions come on.

    Attributes:
        state: (n_classes ** 2 + 2 * n_tasks,) int64 on the device, all counts in one; those of several processes add
            up, so one `all_reduce` of it merges them.
    """

    def __init__(self, n_classes: int, n_tasks: int, device: torch.device | str = "cpu") -> None:
        if n_classes < 1 or n_tasks < 1:
            raise ValueError(f"{n_classes} classes and {n_tasks} tasks; needs 1 or more of each")
        self.n_classes, self.n_tasks = n_classes, n_tasks
        self.state = torch.zeros(n_classes**2 + 2 * n_tasks, dtype=torch.int64, device=device)

    def update(self, predictions: Tensor, labels: Tensor, tasks: Tensor | int) -> None:
        """Count a batch; it may be empty.

        Args:
            predictions: (B,) integer label ids, or (B, C) floating scores of classes 0 to C - 1, the highest of which
                is the prediction (the first of equal ones).
            labels: (B,) integer.
            tasks: (B,) integer, the task of each sample; or one for all.

        Raises:
            ValueError: shapes don't fit, or a class or task is out of range.
            VclimbError: a score is NaN: the model has diverged.
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
        named = (
            ("label", labels, self.n_classes),
            ("prediction", predictions, self.n_classes),
            ("task", tasks, self.n_tasks),
        )
        # Looked at together, so that the device is waited for once.
        flags = torch.stack([is_nan, *(((ids < 0) | (ids >= count)).any() for _, ids, count in named)]).tolist()
        if flags[0]:
            raise VclimbError("scores hold NaN: the model has diverged; train it with a lower learning rate")
        for (name, ids, count), is_bad in zip(named, flags[1:], strict=True):
            if is_bad:
                bad = int(ids[(ids < 0) | (ids >= count)][0])
                raise ValueError(f"{name} {bad} is out of range; allowed: 0 to {count - 1}")
        ones = torch.ones_like(labels)
        right = (predictions == labels).to(torch.int64)
        self.state.index_add_(0, labels * self.n_classes + predictions, ones)
        self.state.index_add_(0, self.n_classes**2 + tasks, right)
        self.state.index_add_(0, self.n_classes**2 + self.n_tasks + tasks, ones)

    def merge(self, other: PredictionCounts) -> None:
        """Add another's counts, as of another process or another part of the data."""
        if (self.n_classes, self.n_tasks) != (other.n_classes, other.n_tasks):
            raise ValueError(
                f"counts of {other.n_classes} classes and {other.n_tasks} tasks don't fit those of {self.n_classes} "
                f"and {self.n_tasks}"
            )
        self.state += other.state.to(self.state.device)

    @property
    def n_samples(self) -> int:
        """Samples counted so far."""
        return int(self.confusion().sum())

    def confusion(self) -> npt.NDArray[np.int64]:
        """(n_classes, n_classes) int64: samples of class [row] that were predicted as class [column]."""
        counts: npt.NDArray[np.int64] = self.state[: self.n_classes**2].cpu().numpy().copy()
        return counts.reshape(self.n_classes, self.n_classes)

    def accuracy_per_class(self) -> Doubles:
        """(n_classes,) float64; NaN for a class of no samples."""
        confusion = self.confusion()
        return _ratio(confusion.diagonal(), confusion.sum(axis=1))

    def accuracy_per_task(self) -> Doubles:
        """(n_tasks,) float64, a row of R; NaN for a task of no samples."""
        right, samples = self.state[self.n_classes**2 :].cpu().numpy().reshape(2, self.n_tasks)
        return _ratio(right, samples)

    def accuracy(self) -> float:
        """Over all samples; NaN where there are none."""
        confusion = self.confusion()
        return int(confusion.trace()) / n_samples if (n_samples := int(confusion.sum())) else math.nan


def _mean(values: Doubles, weights: Doubles) -> float:
    """The weighted mean; NaN where a value is."""
    return float((values * weights).sum() / weights.sum())


def _ratio(right: npt.NDArray[np.int64], samples: npt.NDArray[np.int64]) -> Doubles:
    return np.where(samples > 0, right / np.maximum(samples, 1), np.nan)


def _json_number(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else value
