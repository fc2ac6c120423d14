"""What a run would do, without training: tasks, clips, steps, and what its memory is expected to hold and cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vclimb.memory.choice.frames import parse_frame_choice
from vclimb.memory.feature_codec import parse_feature_codec
from vclimb.memory.sample import bytes_per_frame, spread_sample
from vclimb.memory.store.stored_class import FEATURES, LOGITS
from vclimb.methods.method import Method, TaskInfo
from vclimb.pipeline.clips.mixing import Mixing, replayed_of
from vclimb.pipeline.codecs.exemplar import parse_codec
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.scenario import MatchedScenario
from vclimb.settings import Table
from vclimb.training.checks import check_settings
from vclimb.training.config import RunConfig
from vclimb.training.expected_memory import LOGIT_BYTES, ExemplarRows, ExpectedMemory, PlannedMemory, planned_memory
from vclimb.training.ledger import KeptBytes, kept_bytes
from vclimb.training.memory_settings import feature_bytes, memory_settings
from vclimb.training.run import make_method
from vclimb.training.scenarios import MatchedScenarios
from vclimb.training.warnings import run_warnings

_SAMPLE_VIDEOS = 12


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
        bytes_per_frame: Bytes of an exemplar's frame, measured on a sample; None for a method that keeps no frames.
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
            n_items = clips_of_epoch(config, 0 if method.memory_first else n_instances, n_replayed)
            n_epochs = config.training.epochs_of(number) if trains else 0
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

    def _empty_memory(self, config: RunConfig, method: Method[Any], matched: MatchedScenario) -> ExpectedMemory:
        settings = memory_settings(config, method, self._scenarios.dataset.settings.codec)
        if settings.keeps_features:
            codec = parse_feature_codec(settings.codec)
            n_bytes, scales = feature_bytes(config, codec), int(codec.has_scale)
            kept = "features of a video's frames" if codec.of_frames else "feature of a video"
            origin = f"expected bytes: {n_bytes:,} for the {kept}, as {settings.encoding}"
            return ExpectedMemory(settings, None, ExemplarRows(FEATURES, fixed=n_bytes, beside=scales), origin)
        sample = spread_sample(matched.tasks[0].train, _SAMPLE_VIDEOS)
        key = (config.scenario, settings.codec, settings.frame_choice, settings.frames, settings.seed)
        if key not in self._frame_bytes:
            choice = parse_frame_choice(settings.frame_choice, settings.frames, settings.seed)
            self._frame_bytes[key] = bytes_per_frame(
                self._scenarios.dataset, sample, parse_codec(settings.codec), choice
            )
        origin = f"expected bytes: from {len(sample)} videos of the first task, encoded as {settings.codec}"
        if config.memory.is_piloted:
            origin += f" with {settings.frames} frames; a pilot after the first task chooses, so that they may differ"
        rows = ExemplarRows(LOGITS, per_class=LOGIT_BYTES) if method.keeps_logits else None
        return ExpectedMemory(settings, self._frame_bytes[key], rows, origin)


def clips_of_epoch(config: RunConfig, n_new: int, n_replayed: int) -> int:
    """Number of clips of an epoch over new items and replayed ones."""
    share, batch_size = config.memory.share, config.training.batch_size
    if share is None or not n_new or not n_replayed:
        return n_new + n_replayed
    return Mixing(n_new, batch_size, replayed_of(share, batch_size)).n_clips


def steps_of_epoch(config: RunConfig, n_items: int) -> int:
    """Number of batches of an epoch over some items."""
    drops = config.resolved_differences.last_batch == "dropped"
    return n_items // config.training.batch_size if drops else -(-n_items // config.training.batch_size)


def _without_exemplars(kept: KeptBytes) -> PlannedMemory | None:
    return planned_memory(0, 0, 0, kept) if kept else None
