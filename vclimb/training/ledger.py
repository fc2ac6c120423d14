"""What a method will keep between tasks besides exemplars, in bytes on disk: known before anything is trained."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from vclimb.memory.choice.budget import MemoryBudget
from vclimb.memory.sample import CLASS_BYTES, EXEMPLAR_BYTES, ROOT_BYTES
from vclimb.memory.store.index_nodes import INDEX
from vclimb.memory.store.new_array import array_bytes
from vclimb.methods.kept import NetworkSize
from vclimb.methods.method import Method, TaskInfo
from vclimb.model.registry import make_network
from vclimb.model.settings import parse_frozen
from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.sizes import size_text

if TYPE_CHECKING:
    from vclimb.model.clip_model import ClipModel
    from vclimb.model.settings import ModelConfig

KeptBytes = dict[str, int]
"""Part -> bytes on disk, with what the part adds to the `index` of the memory."""


def kept_bytes(method: Method[Any], task: TaskInfo, model: ModelConfig, frozen: str) -> KeptBytes:
    """Count the bytes of what a method will keep after a task besides exemplars; empty where it keeps nothing."""
    return array_bytes(dict(method.kept_shapes(task, network_size(model, frozen))))


def check_kept(
    method: Method[Any], budget: MemoryBudget, classes_per_task: tuple[int, ...], model: ModelConfig, frozen: str
) -> None:
    """Refuse a budget that what a method keeps doesn't fit in, by a SettingsError.

    Args:
        classes_per_task: Number of classes of each task.
        model: Settings of the network.
        frozen: Parts of its backbone that are not trained, as in `training.frozen`.
    """
    if budget.kind != "bytes":
        return
    for number in range(len(classes_per_task)):
        parts = kept_bytes(method, TaskInfo(number, classes_per_task), model, frozen)
        least = ROOT_BYTES + sum(parts.values()) + (CLASS_BYTES + EXEMPLAR_BYTES if method.replays else 0)
        if parts and least > budget.amount:
            named = ", ".join(f"{name} {n_bytes:,}" for name, n_bytes in parts.items() if name != INDEX)
            raise SettingsError(
                f"method {method.name} keeps {sum(parts.values()):,} bytes after task {number + 1} besides exemplars "
                f"({named}), and memory.budget {budget} is {budget.amount:,} bytes; allow more, such as "
                f"{size_text(-(-11 * least // 10**7) * 10**6)}, or take a smaller network"
            )


@cache
def network_size(config: ModelConfig, frozen: str) -> NetworkSize:
    """Get the sizes of a network, which is made when the first size is asked for."""
    return NetworkSize(lambda: _network(config, frozen))


def _network(config: ModelConfig, frozen: str) -> ClipModel:
    """Make a network to count its parameters, without loading weights; random draws are undone."""
    with torch.random.fork_rng(devices=[]):
        model = make_network(config.replaced(weights="none"), 1)
    model.freeze(parse_frozen(frozen))
    return model
