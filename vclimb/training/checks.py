"""Checks of settings that are each allowed, but not together. Importing this module loads no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vclimb.memory.choice.budget import MemoryBudget
from vclimb.memory.choice.frames import parse_frame_choice
from vclimb.memory.sample import least_memory_bytes
from vclimb.memory.settings import AUTO, PILOT, MemorySettings
from vclimb.model.registry import NETWORKS
from vclimb.model.settings import ModelConfig
from vclimb.model.weights_file import check_weights
from vclimb.pipeline.clips.mixing import replayed_of
from vclimb.pipeline.codecs.exemplar import parse_codec
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.sizes import size_text
from vclimb.scenario import TaskSequence
from vclimb.settings import Table, from_table
from vclimb.training.config import MemoryConfig, RunConfig, make_config

if TYPE_CHECKING:
    from vclimb.methods.method import Method


def check_first(table: Table) -> None:
    """Refuse what needs neither the method nor the network to be known as wrong, before torch is loaded.

    Args:
        table: All settings of a run; what it lacks keeps its default.

    Raises:
        SettingsError: a setting is not allowed, or does not fit the data set.
        DatasetError: there is no such data set, or it is damaged.
    """
    check_weights(from_table(ModelConfig, table.get("model", {}), "model").weights)
    memory = from_table(MemoryConfig, table.get("memory", {}), "memory")
    if "data" in table and memory.budget != "none":
        dataset, settings = StoredDataset.open(table["data"]), memory.settings("random", 0)
        if settings.keeps_features:  # their bytes depend on the network
            return
        try:
            check_memory(settings.fitting(dataset.settings.codec), dataset)
        except SettingsError:
            if settings.codec != AUTO or not _replays_features(table):
                raise


def _replays_features(table: Table) -> bool:
    """Tell whether a run's method replays features, for which `auto` stands for another codec. Loads torch for it."""
    from vclimb.methods.registry import parse_method

    return "method" in table and parse_method(make_config(table).method)[0].replays_features  # the default doesn't


def check_memory(settings: MemorySettings, dataset: StoredDataset) -> None:
    """Refuse a budget that holds not one exemplar of a data set, by a SettingsError."""
    budget = settings.budget
    if budget.kind == "frames" and budget.amount < settings.share_multiple and not settings.rebalances:
        raise SettingsError(
            f"budget {budget} holds no video of {settings.frames} frames; allow {settings.frames}f or more, or keep "
            "fewer frames of each"
        )
    if budget.kind == "bytes":
        choice = parse_frame_choice(settings.frame_choice, settings.frames, settings.seed)
        least = least_memory_bytes(dataset, parse_codec(settings.codec), choice, budget.amount)
        if least > budget.amount:
            raise SettingsError(
                f"budget {budget} is {budget.amount:,} bytes, and a memory of one video takes about {least:,} (encoded "
                f"as {settings.codec}); allow more, such as {size_text(-(-100 * least // 10**6) * 10**6)}"
            )


def check_settings(config: RunConfig, method: Method, scenario: TaskSequence, world_size: int) -> None:
    """Refuse settings that don't fit together, where `world_size` processes share a batch, by a SettingsError."""
    from vclimb.methods.method import TaskInfo  # loads torch, which the method has loaded
    from vclimb.training.ledger import check_kept, kept_bytes
    from vclimb.training.memory_settings import check_features

    if config.training.batch_size % world_size:
        raise SettingsError(
            f"training.batch_size {config.training.batch_size} can't be shared by {world_size} processes; allowed: "
            f"multiples of {world_size}"
        )
    if method.replays and config.memory.budget == "none":
        raise SettingsError(
            f"method {method.name} replays, and memory.budget is none; give it a memory, such as --budget 2020v or 64MB"
        )
    if method.memory_first and config.memory.settings(method.video_choice, config.seed).needs_features:
        raise SettingsError(
            f"method {method.name} chooses exemplars before the network is trained, and memory.video_choice "
            f"{config.memory.video_choice} needs its features; take random"
        )
    _check_share(config, method)
    classes_per_task = tuple(len(task.classes) for task in scenario)
    budget = MemoryBudget.parse(config.memory.budget)
    if not method.replays and config.memory.budget != "none":
        keeps = budget.kind == "bytes" and kept_bytes(
            method, TaskInfo(0, classes_per_task), config.model, config.training.frozen
        )
        if not keeps:
            raise SettingsError(
                f"method {method.name} keeps no exemplars, and memory.budget is {config.memory.budget!r}; leave it "
                "out, or take a method that replays (`vclimb train --help` describes them)"
            )
    _check_pilot(config, method, scenario)
    check_features(config, method)
    check_kept(method, budget, classes_per_task, config.model, config.training.frozen)
    tasks = [TaskInfo(number, classes_per_task) for number in range(len(classes_per_task))]
    trained = [task.number for task in tasks if method.trains(task)]
    trains = bool(trained)
    if without := [number + 1 for number in trained if not config.training.epochs_of(number)]:
        raise SettingsError(
            f"training.epochs is 0, and method {method.name} trains the network on task {without[0]}; allowed: "
            "1 or more"
        )
    if config.consistency.weight and not trains:
        raise SettingsError(
            f"method {method.name} trains no network as it is set, and consistency.weight is "
            f"{config.consistency.weight:g}, a weight of a loss; leave out --tc"
        )
    NETWORKS.find(config.model.network).check(config.model)
    method.check(scenario)
    has_validation = scenario.evaluation_split == "test" and scenario.count("val")
    if config.training.select == "best" and not has_validation:
        raise SettingsError(
            "training.select best needs a validation split beside the one that is reported, and scenario "
            f"{scenario.name!r} has none; take last, or best-reported to do as the released code does"
        )


def _check_pilot(config: RunConfig, method: Method, scenario: TaskSequence) -> None:
    """Refuse a pilot of encodings where there is nothing to compare, or nothing to compare by, by a SettingsError."""
    if not config.memory.is_piloted or not method.replays:
        return
    name = "memory.codec" if config.memory.codec == PILOT else "memory.frames"
    kind, n_classes = MemoryBudget.parse(config.memory.budget).kind, len(scenario.tasks[0].classes)
    reasons = {
        f"method {method.name} replays features in place of frames": method.replays_features,
        f"method {method.name} fills the memory before the network has learned a task": method.memory_first,
        f"memory.budget {config.memory.budget} counts no bytes, in which encodings compare (64MB)": kind != "bytes",
        "its network tells the classes of the first task apart, and that task has one class": n_classes == 1,
        "down-sampled clips have the memory's number of frames from the first task on; give consistency.frames": (
            config.memory.frames == PILOT and config.has_down_sampled_clips and config.consistency.frames is None
        ),
    }
    for reason, holds in reasons.items():
        if holds:
            raise SettingsError(f"{name} is pilot, and a pilot can't choose: {reason}; or give {name} a value")


def _check_share(config: RunConfig, method: Method) -> None:
    """Refuse a share of exemplars in a batch where there is nothing to share, by a SettingsError."""
    share, size = config.memory.share, config.training.batch_size
    if share is None:
        return
    if not method.replays or method.replays_features or method.memory_first:
        trains_on = "exemplars alone" if method.memory_first else "no clips of exemplars"
        raise SettingsError(f"memory.share is {share:g}, and method {method.name} trains on {trains_on}; leave it out")
    if not 0 < replayed_of(share, size) < size:
        raise SettingsError(
            f"memory.share {share:g} of training.batch_size {size} is {replayed_of(share, size)} clips, and a batch "
            f"needs both exemplars and new clips; allowed here: {1 / size:.2g} to {1 - 1 / size:.2g}"
        )
