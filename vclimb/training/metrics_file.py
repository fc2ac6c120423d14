"""What is known of a run: accuracies of every classifier, and a record of each task, as `metrics.json` has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vclimb import __version__
from vclimb.memory.store.accounting import MemoryUsage
from vclimb.metrics import AccuracyMatrix, PredictionCounts
from vclimb.scenario import MatchedScenario
from vclimb.training.config import RunConfig
from vclimb.training.run_folder import METRICS_FORMAT, METRICS_VERSION


@dataclass
class Records:
    """What is known after the tasks so far.

    Attributes:
        n_classes: classes of each task of the scenario.
        matrices: classifier -> R.
        counts: classifier -> accuracy per class and confusion after the last task.
        tasks: a record of each task.
        forward: of each task, the accuracy before it is learned, and that of the initialised network, where measured.
    """

    n_classes: tuple[int, ...]
    matrices: dict[str, AccuracyMatrix] = field(default_factory=dict)
    counts: dict[str, dict[str, Any]] = field(default_factory=dict)
    tasks: list[dict[str, Any]] = field(default_factory=list)
    forward: list[list[float]] = field(default_factory=list)

    def add(self, counted: Mapping[str, PredictionCounts], record: dict[str, Any]) -> None:
        """Take in what the evaluation after a task counted, and the task's record.

        A classifier that wasn't there after a task, such as the nearest mean of a memory that is empty, has no
        accuracies for it.
        """
        task, unknown = len(self.tasks), [np.nan] * len(self.n_classes)
        for name in {**self.matrices, **counted}:
            matrix = self.matrices.get(name, AccuracyMatrix.empty(self.n_classes))
            while matrix.n_learned < task:
                matrix = matrix.grown(unknown)
            self.matrices[name] = matrix.grown(counted[name].accuracy_per_task() if name in counted else unknown)
        self.counts = {
            name: {
                "accuracy_per_class": [None if np.isnan(v) else float(v) for v in counts.accuracy_per_class()],
                "confusion": counts.confusion().tolist(),
            }
            for name, counts in counted.items()
        }
        self.tasks.append(record)

    @property
    def forward_transfer(self) -> float | None:
        """How much better than as it was initialised the network knows tasks it has not learned; see `trainer`."""
        later = self.forward[1:]
        return float(np.mean([before - initial for before, initial in later])) if later else None

    def to_metrics(
        self, config: RunConfig, matched: MatchedScenario, dataset: str, classifier: str, device: str
    ) -> dict[str, Any]:
        """The content of `metrics.json`."""
        scenario = matched.scenario
        reported = classifier if classifier in self.counts else next(iter(self.counts))
        counts = self.counts[reported]
        return {
            "format": METRICS_FORMAT,
            "format_version": METRICS_VERSION,
            "complete": len(self.tasks) == len(self.n_classes),
            "vclimb_version": __version__,
            "dataset": dataset,
            "scenario": {
                "name": scenario.name,
                "origin": scenario.origin,
                "n_tasks": len(scenario),
                "classes": list(scenario.classes),
                "evaluation_split": scenario.evaluation_split,
                "left_out": matched.counts(),
            },
            "method": config.method["name"],
            "protocol": config.protocol,
            "seed": config.seed,
            "device": device,
            "classifier": reported,
            **self.matrices[reported].summary(),
            "forward_transfer": self.forward_transfer,
            "accuracy_per_class": dict(zip(scenario.classes, counts["accuracy_per_class"], strict=True)),
            "confusion": counts["confusion"],
            "memory": self.tasks[-1]["memory"],
            "seconds": _total([record["seconds"] for record in self.tasks]),
            "classifiers": {name: matrix.summary() for name, matrix in self.matrices.items()},
            "tasks": self.tasks,
        }

    def state_dict(self) -> dict[str, Any]:
        """As a checkpoint takes it."""
        return {
            "matrices": {name: matrix.to_json() for name, matrix in self.matrices.items()},
            "counts": self.counts,
            "tasks": self.tasks,
            "forward": self.forward,
        }

    @classmethod
    def from_state(cls, n_classes: Sequence[int], state: dict[str, Any]) -> Records:
        """What `state_dict` gave."""
        matrices = {name: AccuracyMatrix.from_json(stored) for name, stored in state["matrices"].items()}
        return cls(tuple(n_classes), matrices, state["counts"], state["tasks"], state["forward"])


def memory_facts(usage: MemoryUsage | None) -> dict[str, Any] | None:
    """A memory's size as plain values; `bytes_on_disk` is what a budget in bytes counts."""
    if usage is None:
        return None
    return {
        "videos": usage.videos,
        "frames": usage.frames,
        "payload_bytes": usage.payload_bytes,
        "bytes_on_disk": usage.files.apparent,
        "allocated_bytes": usage.files.allocated,
        "bytes_per_frame": usage.bytes_per_frame,
        "source_frames": usage.source_frames,
    }


def _total(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for part in parts:
        for name, seconds in part.items():
            total[name] = total.get(name, 0.0) + seconds
    return total
