"""Parts of a network that keep their values in training: no gradients, and evaluation mode.

Frozen batch normalisation of TSN: Wang et al., "Temporal Segment Networks", ECCV 2016, section 3.2 (all layers but the
first), and `partialbn` in yjxiong/tsn-pytorch, models.py.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from vclimb.model.settings import FrozenParts
from vclimb.pipeline.errors import SettingsError

Stages = list[list[nn.Module]]
"""Modules of each stage of a backbone, from the input on: the stem is stage 0."""


def frozen_modules(
    backbone: nn.Module, parts: FrozenParts, network: str, list_stages: Callable[[], Stages]
) -> list[nn.Module]:
    """Find the modules of a backbone that are frozen.

    Args:
        network: Name of the network, for errors.
        list_stages: Function that lists the backbone's stages.

    Raises:
        SettingsError: the network has no such parts.
    """
    if parts.everything:
        return [backbone]
    modules: list[nn.Module] = []
    if parts.stages is not None:
        stages = list_stages()
        if parts.stages >= len(stages):
            raise SettingsError(
                f"training.frozen stages:{parts.stages} is more than network {network} has with this backbone; "
                f"allowed: stages:0 to stages:{len(stages) - 1}, or all"
            )
        modules += [module for stage in stages[: parts.stages + 1] for module in stage]
    if parts.batch_norm_after is not None:
        layers = [module for module in backbone.modules() if isinstance(module, _BatchNorm)]
        if not layers:
            raise SettingsError(
                f"training.frozen batch-norm: network {network} has no batch normalisation in this backbone; leave "
                "it out"
            )
        modules += layers[parts.batch_norm_after :]
    return modules


def timm_stages(backbone: nn.Module) -> Stages:
    """List the modules of each stage of a timm model, the stem first; empty where the model names no stages."""
    from timm.models import group_modules

    matcher = getattr(backbone, "group_matcher", None)
    if matcher is None:
        return []
    names = group_modules(backbone, matcher(coarse=True), reverse=True)
    stages: dict[int, list[nn.Module]] = {}
    for name, stage in names.items():
        if name:
            stages.setdefault(int(stage), []).append(backbone.get_submodule(name))
    return [stages[number] for number in sorted(stages)]
