"""What a run would do, without training: tasks, clips, steps, and what its memory is expected to hold and cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vclimb.memory.choice.frames import parse_frame_choice
from vclimb.memory.sample import CLASS_BYTES, EXEMPLAR_BYTES, ROOT_BYTES, bytes_per_frame
from vclimb.memory.settings import MemorySettings
from vclimb.methods.registry import make_method
from vclimb.pipeline.codecs.exemplar import parse_codec
from vclimb.pipeline.dataset.dataset import StoredDataset, StoredInstance
from vclimb.scenario import match
from vclimb.training.checks import blur_warning, check_settings
from vclimb.training.config import RunConfig
from vclimb.training.run import find_scenario

_SAMPLE = 12


@dataclass(frozen=True)
class _Sample:
    """What exemplars cost, measured on some."""

    bytes_per_frame: float
    videos: int


def plan_of(config: RunConfig) -> dict[str, Any]:
    """The plan of a run, as plain values.

    Raises:
        VclimbError: what the run itself would refuse before it trains.
    """
    dataset = StoredDataset.open(config.data)
    scenario = find_scenario(config.scenario, dataset)
    matched = match(scenario, dataset, config.scenario.allow_missing)
    method = make_method(config)
    check_settings(config, method, scenario, 1)
    settings = config.memory.settings(method.video_choice, config.seed)
    sample = _measured(dataset, matched.tasks[0].train, settings) if method.replays else None
    tasks: list[dict[str, Any]] = []
    kept: list[list[int]] = []  # of each class seen: frames of each exemplar, as far as is known
    for number, task in enumerate(matched.tasks):
        replayed = sum(map(len, kept)) if method.replays else 0
        instances = (
            [one for part in matched.tasks[: number + 1] for one in part.train] if method.all_data else task.train
        )
        n_items = len(instances) + replayed
        epochs = config.training.epochs_of(number)
        batches = -(-n_items // config.training.batch_size)
        memory = None
        if sample is not None:
            for name in task.classes:
                kept.append([_n_kept(settings, one) for one in task.train if one.label == name])
            counts = _kept_counts(settings, kept, sample)
            kept = [frames[:count] for frames, count in zip(kept, counts, strict=True)]
            n_frames = sum(map(sum, kept))
            memory = {
                "videos": sum(counts),
                "frames": n_frames,
                "bytes": ROOT_BYTES
                + sum(count > 0 for count in counts) * CLASS_BYTES
                + sum(counts) * EXEMPLAR_BYTES
                + int(n_frames * sample.bytes_per_frame),
            }
        tasks.append(
            {
                "task": number,
                "classes": len(task.classes),
                "class_names": list(task.classes),
                "train_instances": len(instances),
                "replay_exemplars": replayed,
                "steps": epochs * batches,
                "clips": epochs * n_items,
                "memory": memory,
                "evaluation_instances": sum(
                    len(part.split(scenario.evaluation_split)) for part in matched.tasks[: number + 1]
                ),
            }
        )
    return {
        "dataset": dataset.name,
        "method": method.name,
        "scenario": {"name": scenario.name, "n_tasks": len(scenario), "n_classes": len(scenario.classes)},
        "left_out": matched.counts(),
        "tasks": tasks,
        "steps": sum(task["steps"] for task in tasks),
        "training_clips": sum(task["clips"] for task in tasks),
        "bytes_per_frame": None if sample is None else sample.bytes_per_frame,
        "bytes_from": ""
        if sample is None
        else f"expected bytes: from {sample.videos} videos of the first task, encoded as {settings.codec}",
        "warning": blur_warning(config, method, dataset),
        "settings": config.to_table(),
    }


def _measured(dataset: StoredDataset, instances: Sequence[StoredInstance], settings: MemorySettings) -> _Sample:
    """Bytes a frame of some instances, spread over the list."""
    places = np.unique(np.linspace(0, len(instances) - 1, _SAMPLE).astype(int)).tolist()
    sampled = [instances[place] for place in places]
    choice = parse_frame_choice(settings.frame_choice, settings.frames, settings.seed)
    return _Sample(bytes_per_frame(dataset, sampled, parse_codec(settings.codec), choice), len(sampled))


def _n_kept(settings: MemorySettings, instance: StoredInstance) -> int:
    choice = parse_frame_choice(settings.frame_choice, settings.frames, settings.seed)
    return choice.n_chosen(instance.end_frame - instance.start_frame)


def _kept_counts(settings: MemorySettings, kept: list[list[int]], sample: _Sample) -> list[int]:
    """How many exemplars of each class the budget is expected to hold."""
    budget = settings.budget
    if budget.kind in ("none", "all"):
        return [0 if budget.kind == "none" else len(frames) for frames in kept]
    if budget.kind == "bytes":
        costs = [[int(n * sample.bytes_per_frame) + EXEMPLAR_BYTES for n in frames] for frames in kept]
        return budget.kept(
            costs, root_bytes=ROOT_BYTES, class_bytes=[CLASS_BYTES] * len(kept), rebalance=settings.rebalance
        )
    costs = [[budget.cost(n, 1) for n in frames] for frames in kept]
    return budget.kept(costs, granule=settings.granule, rebalance=settings.rebalance)
