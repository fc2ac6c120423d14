"""Checks of settings that are each allowed, but not together."""

from __future__ import annotations

from vclimb.methods.method import Method
from vclimb.model.registry import NETWORKS
from vclimb.pipeline.codecs.exemplar import parse_codec
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.errors import SettingsError
from vclimb.scenario import TaskSequence
from vclimb.training.config import RunConfig


def check_settings(config: RunConfig, method: Method, scenario: TaskSequence, world_size: int) -> None:
    """Refuse settings that don't fit together, where `world_size` processes share a batch, by a SettingsError."""
    if config.training.batch_size % world_size:
        raise SettingsError(
            f"training.batch_size {config.training.batch_size} can't be shared by {world_size} processes; allowed: "
            f"multiples of {world_size}"
        )
    if method.replays and config.memory.budget == "none":
        raise SettingsError(
            f"method {method.name} replays, and memory.budget is none; give it a memory, such as --budget 2020v or 64MB"
        )
    if not method.replays and config.memory.budget != "none":
        raise SettingsError(
            f"method {method.name} keeps no memory, and memory.budget is {config.memory.budget!r}; leave it out, or "
            "take a method that replays (`vclimb train --help` describes them)"
        )
    NETWORKS.find(config.model.network).check(config.model)
    method.check(scenario)
    has_validation = scenario.evaluation_split == "test" and scenario.count("val")
    if config.training.select == "best" and not has_validation:
        raise SettingsError(
            "training.select best needs a validation split beside the one that is reported, and scenario "
            f"{scenario.name!r} has none; take last, or best-reported to do as the released code does"
        )


def blur_warning(config: RunConfig, method: Method, dataset: StoredDataset) -> str | None:
    """Explain why exemplars are too small for the network; None where they are not, or there are none.

    Small exemplars are enlarged and look blurred, while new clips are sharp. In training, sharpness then tells old
    classes from new ones, but all test videos are sharp (docs/study-jhmdb21.md: old tasks fell to 0 to 7 %).
    """
    codec = parse_codec(config.memory.codec)
    side = codec.short_side if method.replays else None
    if side is None or side >= config.model.size:
        return None
    if all(min(video.width, video.height) <= side for video in dataset.videos):
        return None
    return (
        f"exemplars of {side} pixels (memory.codec {config.memory.codec}) are blurred where the network sees "
        f"{config.model.size}, and new clips are not: it may take sharp clips for new classes, and lose the old ones; "
        f"take @{config.model.size} or more, or leave the size out"
    )
