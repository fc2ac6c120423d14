"""Reasons why a run may train badly with settings that are allowed."""

from __future__ import annotations

import numpy as np

from vclimb.methods.method import Method, TaskInfo
from vclimb.pipeline.codecs.exemplar import parse_codec
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.scenario import TaskSequence
from vclimb.training.config import RunConfig
from vclimb.training.memory_settings import memory_settings


def run_warnings(config: RunConfig, method: Method, dataset: StoredDataset, scenario: TaskSequence) -> tuple[str, ...]:
    """List the reasons why a run may train badly, each a sentence."""
    reasons = (_one_class_warning(method, scenario), _blur_warning(config, method, dataset))
    return tuple(reason for reason in reasons if reason is not None)


def _one_class_warning(method: Method, scenario: TaskSequence) -> str | None:
    """Explain what can't be learned from a task of one class. Methods refuse such tasks where they learn nothing."""
    classes_per_task = tuple(len(task.classes) for task in scenario)
    trained = [number for number in range(len(scenario)) if method.trains(TaskInfo(number, classes_per_task))]
    single = [number for number in trained if classes_per_task[number] == 1]
    if not single or len(classes_per_task) == 1:
        return None
    if not method.replays and not method.all_data:
        return (
            f"task {single[0] + 1} of scenario {scenario.name!r} has one class, and method {method.name} trains on the "
            "clips of a task alone: the network learns to answer with that class whatever it sees; take tasks of 2 or "
            "more classes, or a method that replays"
        )
    if single[0] == 0:
        return (
            f"the first task of scenario {scenario.name!r} has one class, and nothing to tell it from: method "
            f"{method.name} learns nothing from that task; take a first task of 2 or more classes"
        )
    return None


def _blur_warning(config: RunConfig, method: Method, dataset: StoredDataset) -> str | None:
    """Explain why exemplars are too small for the network; None where they are not, or there are none.

    Small exemplars are enlarged and look blurred, while new clips are sharp. In training, sharpness then tells old
    classes from new ones, but all test videos are sharp (docs/study-jhmdb21.md: old tasks fell to 0 to 7 %).
    """
    if not method.replays or method.replays_features:
        return None
    settings = memory_settings(config, method, dataset.settings.codec)
    side = parse_codec(settings.codec).short_side
    if side is None or side >= config.model.size:
        return None
    if (np.minimum(dataset.videos.numbers("width"), dataset.videos.numbers("height")) <= side).all():
        return None
    return (
        f"exemplars of {side} pixels (memory.codec {settings.codec}) are blurred where the network sees "
        f"{config.model.size}, and new clips are not: it may take sharp clips for new classes, and lose the old ones; "
        f"take @{config.model.size} or more, or leave the size out"
    )
