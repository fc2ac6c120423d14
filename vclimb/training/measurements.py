"""What a run has measured so far: the accuracies of every classifier, and a record of each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from vclimb import __version__
from vclimb.memory.store.accounting import MemoryUsage
from vclimb.metrics import AccuracyMatrix, PredictionCounts
from vclimb.training.pilot_facts import PilotFacts
from vclimb.training.run_context import RunContext
from vclimb.training.run_metrics import Accuracies, MemoryFacts, RunMetrics, ScenarioFacts, TaskRecord

_ACCURACIES = TypeAdapter(Accuracies)


class Counts(TypedDict):
    """Counts of a classifier after the last task that has ended."""

    accuracy_per_class: list[float | None]
    confusion: list[list[int]]


_RECORDS = TypeAdapter(list[TaskRecord])
_COUNTS = TypeAdapter(dict[str, Counts])
_PILOT = TypeAdapter(PilotFacts | None)
_FORWARD = TypeAdapter(list[tuple[float, float]])


@dataclass
class Measurements:
    """Measurements after the tasks that have ended.

    Attributes:
        matrices: Classifier -> R.
        counts: Classifier -> `accuracy_per_class` and `confusion` after the last task that has ended.
        pilot: Result of the pilot that chose the encoding of exemplars; None: there was none so far.
        forward: For each task, the accuracy before it is learned and that of the initialised network, where measured.
    """

    n_classes: tuple[int, ...]
    matrices: dict[str, AccuracyMatrix] = field(default_factory=dict)
    counts: dict[str, Counts] = field(default_factory=dict)
    tasks: list[TaskRecord] = field(default_factory=list)
    forward: list[tuple[float, float]] = field(default_factory=list)
    pilot: PilotFacts | None = None

    def add(self, counted: Mapping[str, PredictionCounts], record: TaskRecord) -> None:
        """Add the evaluation after a task, and the task's record.

        A classifier that does not exist after some task, such as the nearest mean of an empty memory, gets NaN there.
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
        """Mean accuracy on tasks before they are learned, minus that of the initialised network.

        `evaluation.forward_accuracies` says how both are measured. None where they were not.
        """
        later = self.forward[1:]
        gained = float(np.mean([before - initial for before, initial in later])) if later else np.nan
        return None if np.isnan(gained) else gained

    def to_metrics(self, run: RunContext) -> RunMetrics:
        """Make the metrics of a run from all measurements.

        Where the method's own classifier does not exist, another one is reported.
        """
        device, scenario = run.processes.device, run.data.scenario
        reported = run.method.classifier if run.method.classifier in self.counts else next(iter(self.counts))
        counts = self.counts[reported]
        phases = dict.fromkeys(phase for record in self.tasks for phase in record.seconds)
        classifiers = {name: _ACCURACIES.validate_python(matrix.summary()) for name, matrix in self.matrices.items()}
        return RunMetrics(
            complete=len(self.tasks) == len(self.n_classes),
            vclimb_version=__version__,
            dataset=run.data.dataset.name,
            scenario=ScenarioFacts(
                name=scenario.name,
                origin=scenario.origin,
                n_tasks=len(scenario),
                classes=tuple(scenario.classes),
                evaluation_split=scenario.evaluation_split,
                left_out=run.data.matched.counts(),
            ),
            method=run.method.name,
            protocol=run.config.protocol,
            seed=run.config.seed,
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            classifier=reported,
            **vars(classifiers[reported]),
            forward_transfer=self.forward_transfer,
            accuracy_per_class=dict(zip(scenario.classes, counts["accuracy_per_class"], strict=True)),
            confusion=tuple(map(tuple, counts["confusion"])),
            memory=self.tasks[-1].memory,
            codec=run.memory.settings.codec if run.method.replays else None,
            pilot=self.pilot,
            seconds={phase: sum(record.seconds.get(phase, 0.0) for record in self.tasks) for phase in phases},
            classifiers=classifiers,
            tasks=tuple(self.tasks),
        )

    def state_dict(self) -> dict[str, Any]:
        return {
            "matrices": {name: matrix.to_json() for name, matrix in self.matrices.items()},
            "counts": self.counts,
            "tasks": [asdict(record) for record in self.tasks],
            "forward": self.forward,
            "pilot": None if self.pilot is None else asdict(self.pilot),
        }

    @classmethod
    def from_state(cls, n_classes: Sequence[int], state: dict[str, Any]) -> Measurements:
        """Restore what `state_dict` returned; a ValueError or KeyError where it is another scenario's."""
        matrices = {name: AccuracyMatrix.from_json(stored) for name, stored in state["matrices"].items()}
        tasks = _RECORDS.validate_python(state["tasks"])
        counts, forward = _COUNTS.validate_python(state["counts"]), _FORWARD.validate_python(state["forward"])
        pilot = _PILOT.validate_python(state["pilot"])
        for name, matrix in matrices.items():
            if matrix.n_classes != tuple(n_classes) or matrix.n_learned != len(tasks):
                raise ValueError(f"the accuracies of classifier {name} are those of other tasks")
        if bool(counts) != bool(tasks) or not counts.keys() <= matrices.keys():
            raise ValueError("the counts of predictions are not those of the classifiers")
        return cls(tuple(n_classes), matrices, counts, tasks, forward, pilot)


def memory_facts(usage: MemoryUsage) -> MemoryFacts:
    return MemoryFacts(
        videos=usage.videos,
        frames=usage.frames,
        payload_bytes=usage.payload_bytes,
        bytes_on_disk=usage.files.apparent,
        allocated_bytes=usage.files.allocated,
        bytes_per_frame=usage.bytes_per_frame,
        source_frames=usage.source_frames,
        parts=usage.part_bytes,
    )
