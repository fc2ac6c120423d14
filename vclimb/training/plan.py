"""What a run would do, without training: tasks, clips, steps, and what its memory is expected to hold and cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vclimb.memory.choice.frames import parse_frame_choice
from vclimb.memory.sample import (
    ARRAY_BYTES,
    CLASS_BYTES,
    CLASS_INDEX_BYTES,
    EXEMPLAR_BYTES,
    ROOT_BYTES,
    bytes_per_frame,
    spread_sample,
)
from vclimb.memory.settings import MemorySettings
from vclimb.memory.store.index_nodes import EXEMPLARS, INDEX
from vclimb.memory.store.stored_class import LOGITS
from vclimb.methods.method import Method, TaskInfo
from vclimb.pipeline.codecs.exemplar import parse_codec
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.scenario import MatchedScenario, MatchedTask
from vclimb.settings import Table
from vclimb.training.checks import check_settings
from vclimb.training.config import RunConfig
from vclimb.training.ledger import KeptBytes, kept_bytes
from vclimb.training.run import make_method
from vclimb.training.scenarios import MatchedScenarios
from vclimb.training.warnings import run_warnings

_SAMPLE_VIDEOS = 12
_LOGIT_BYTES = 2  # 16-bit floats


@dataclass(frozen=True)
class PlannedMemory:
    """Expected memory after a task.

    Attributes:
        videos: Number of exemplars.
        frames: Number of frames of the exemplars.
        bytes: Estimate of the bytes on disk: the sum of `parts`.
        parts: Part -> bytes: exact for what the method keeps besides exemplars and their logits.
    """

    videos: int
    frames: int
    bytes: int
    parts: Mapping[str, int]


@dataclass(frozen=True)
class PlannedTask:
    """Plan of one task.

    Attributes:
        classes: Number of classes.
        replay_exemplars: Number of exemplars that are trained on.
        clips: Number of training clips, summed over epochs.
        memory: Expected memory after the task; None for a method that keeps nothing.
    """

    task: int
    classes: int
    class_names: tuple[str, ...]
    train_instances: int
    replay_exemplars: int
    steps: int
    clips: int
    memory: PlannedMemory | None
    evaluation_instances: int


@dataclass(frozen=True)
class PlannedScenario:
    """Scenario of a planned run."""

    name: str
    n_tasks: int
    n_classes: int


@dataclass(frozen=True)
class RunPlan:
    """Plan of a run.

    Attributes:
        dataset: Name of the data set.
        method: Name of the method.
        scenario: Scenario of the run.
        left_out: Problem -> number of instances that the data set can't give.
        tasks: Plan of each task.
        steps: Number of training steps of all tasks.
        training_clips: Number of training clips of all tasks.
        codec: Encoding of exemplars; None for a method without memory.
        bytes_per_frame: Bytes of an exemplar's frame, measured on a sample; None for a method without memory.
        bytes_from: Sentence that says how bytes were estimated; empty for a method without memory.
        warnings: Reasons why the settings may train badly.
        settings: All settings of the run.
    """

    dataset: str
    method: str
    scenario: PlannedScenario
    left_out: Mapping[str, int]
    tasks: tuple[PlannedTask, ...]
    steps: int
    training_clips: int
    codec: str | None
    bytes_per_frame: float | None
    bytes_from: str
    warnings: tuple[str, ...]
    settings: Table

    @property
    def forward_clips(self) -> int:
        """Number of clips that pass through the network without training: of evaluations, and of tasks not trained."""
        untrained = sum(task.train_instances for task in self.tasks if not task.clips)
        return untrained + sum(task.evaluation_instances for task in self.tasks)

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values."""
        return asdict(self)


def plan_run(config: RunConfig) -> RunPlan:
    """Plan a run; errors are what the run itself would refuse before it trains."""
    return RunPlanner(MatchedScenarios(StoredDataset.open(config.data))).plan(config)


class RunPlanner:
    """Plans many runs on one data set. What they have in common is read and measured once."""

    def __init__(self, scenarios: MatchedScenarios) -> None:
        self._scenarios = scenarios
        self._frame_bytes: dict[tuple[object, ...], float] = {}

    def plan(self, config: RunConfig) -> RunPlan:
        dataset, matched = self._scenarios.dataset, self._scenarios.get(config.scenario, config.least_frames)
        method = make_method(config)
        check_settings(config, method, matched.scenario, 1)
        memory = self._empty_memory(config, method, matched) if method.replays else None
        scenario = matched.scenario
        tasks = []
        classes_per_task = tuple(len(task.classes) for task in matched.tasks)
        for number, task in enumerate(matched.tasks):
            kept = kept_bytes(method, TaskInfo(number, classes_per_task), config.model, config.training.frozen)
            seen = matched.tasks[: number + 1]
            n_instances = sum(len(part.train) for part in (seen if method.all_data else [task]))
            n_before = 0 if memory is None else memory.n_exemplars
            after = memory.after(task, kept) if memory is not None else _without_exemplars(kept)
            n_replayed = memory.n_exemplars if memory is not None and method.memory_first else n_before
            trains = method.trains(TaskInfo(number, classes_per_task))
            n_items, n_epochs = (
                n_replayed + (0 if method.memory_first else n_instances),
                config.training.epochs_of(number) if trains else 0,
            )
            n_batches = steps_of_epoch(config, n_items)
            tasks.append(
                PlannedTask(
                    task=number,
                    classes=len(task.classes),
                    class_names=tuple(task.classes),
                    train_instances=n_instances,
                    replay_exemplars=n_replayed,
                    steps=n_epochs * n_batches,
                    clips=n_epochs * min(n_items, n_batches * config.training.batch_size),
                    memory=after,
                    evaluation_instances=sum(len(part.split(scenario.evaluation_split)) for part in seen),
                )
            )
        return RunPlan(
            dataset=dataset.name,
            method=method.name,
            scenario=PlannedScenario(scenario.name, len(scenario), len(scenario.classes)),
            left_out=matched.counts(),
            tasks=tuple(tasks),
            steps=sum(task.steps for task in tasks),
            training_clips=sum(task.clips for task in tasks),
            codec=None if memory is None else memory.codec,
            bytes_per_frame=None if memory is None else memory.bytes_per_frame,
            bytes_from="" if memory is None else memory.origin,
            warnings=run_warnings(config, method, dataset, scenario),
            settings=config.to_table(),
        )

    def _empty_memory(self, config: RunConfig, method: Method[Any], matched: MatchedScenario) -> _ExpectedMemory:
        settings = config.memory.settings(method.video_choice, config.seed, method.differences.memory_remainder)
        settings = settings.fitting(self._scenarios.dataset.settings.codec)
        sample = spread_sample(matched.tasks[0].train, _SAMPLE_VIDEOS)
        key = (config.scenario, settings.codec, settings.frame_choice, settings.frames, settings.seed)
        if key not in self._frame_bytes:
            choice = parse_frame_choice(settings.frame_choice, settings.frames, settings.seed)
            codec = parse_codec(settings.codec)
            self._frame_bytes[key] = bytes_per_frame(self._scenarios.dataset, sample, codec, choice)
        origin = f"expected bytes: from {len(sample)} videos of the first task, encoded as {settings.codec}"
        return _ExpectedMemory(settings, self._frame_bytes[key], method.keeps_logits, origin)


def steps_of_epoch(config: RunConfig, n_items: int) -> int:
    """Number of batches of an epoch over some items."""
    drops = config.resolved_differences.last_batch == "dropped"
    return n_items // config.training.batch_size if drops else -(-n_items // config.training.batch_size)


def _without_exemplars(kept: KeptBytes) -> PlannedMemory | None:
    return _planned(0, 0, 0, kept) if kept else None


def _planned(videos: int, frames: int, exemplar_bytes: int, kept: KeptBytes) -> PlannedMemory:
    parts = {EXEMPLARS: exemplar_bytes, **kept, INDEX: ROOT_BYTES + kept.get(INDEX, 0)}
    return PlannedMemory(videos, frames, sum(parts.values()), parts)


class _ExpectedMemory:
    """What a replay memory is expected to hold after each task. `origin` describes how frames were measured."""

    def __init__(self, settings: MemorySettings, bytes_per_frame: float, keeps_logits: bool, origin: str) -> None:
        self._settings = settings
        self._choice = parse_frame_choice(settings.frame_choice, settings.frames, settings.seed)
        self._kept: list[list[int]] = []  # for each class, the number of frames of each exemplar
        self._logits: list[int] = []  # for each class, the bytes of an exemplar's logits
        self._keeps_logits = keeps_logits
        self._class_bytes = CLASS_BYTES + ARRAY_BYTES * keeps_logits
        self.codec = settings.codec
        self.bytes_per_frame = bytes_per_frame
        self.origin = origin

    @property
    def n_exemplars(self) -> int:
        return sum(map(len, self._kept))

    def after(self, task: MatchedTask, kept: KeptBytes) -> PlannedMemory:
        """Add the classes of a task, and shrink all classes to what the budget leaves beside what the method keeps."""
        chosen: dict[str, list[int]] = {name: [] for name in task.classes}
        for instance in task.train:
            chosen[instance.label].append(self._choice.n_chosen(instance.end_frame - instance.start_frame))
        self._kept += chosen.values()
        row_bytes = _LOGIT_BYTES * len(self._kept) * self._keeps_logits
        self._logits += [row_bytes] * len(chosen)
        counts = self._counts(ROOT_BYTES + sum(kept.values()))
        self._kept = [frames[:count] for frames, count in zip(self._kept, counts, strict=True)]
        n_frames = sum(map(sum, self._kept))
        n_classes = sum(count > 0 for count in counts)
        n_bytes = n_classes * (CLASS_BYTES - CLASS_INDEX_BYTES)
        n_bytes += sum(counts) * EXEMPLAR_BYTES + int(n_frames * self.bytes_per_frame)
        index = kept.get(INDEX, 0) + n_classes * CLASS_INDEX_BYTES
        logits = {}
        if self._keeps_logits:  # half of an array's metadata lies in the index, the other half beside the array
            index += n_classes * (ARRAY_BYTES // 2)
            rows = sum(count * size for count, size in zip(counts, self._logits, strict=True))
            logits = {LOGITS: rows + n_classes * (ARRAY_BYTES // 2)}
        return _planned(sum(counts), n_frames, n_bytes, {**kept, **logits, INDEX: index})

    def _counts(self, other_bytes: int) -> list[int]:
        """Compute the number of exemplars of each class that the budget is expected to hold beside other bytes."""
        budget, rebalance, remainder = self._settings.budget, self._settings.rebalances, self._settings.remainder
        if budget.kind in ("none", "all"):
            return [0 if budget.kind == "none" else len(frames) for frames in self._kept]
        if budget.kind == "bytes":
            costs = [
                [int(n * self.bytes_per_frame) + EXEMPLAR_BYTES + size for n in frames]
                for frames, size in zip(self._kept, self._logits, strict=True)
            ]
            class_bytes = [self._class_bytes] * len(costs)
            return budget.kept(
                costs, root_bytes=other_bytes, class_bytes=class_bytes, rebalance=rebalance, remainder=remainder
            )
        costs = [[budget.cost(n, 1) for n in frames] for frames in self._kept]
        return budget.kept(costs, multiple=self._settings.share_multiple, rebalance=rebalance, remainder=remainder)
