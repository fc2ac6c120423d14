"""Optimisers of a task: how they are made and restored, and their learning rates, which a CUDA graph can read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vclimb.model.clip_model import ClipModel
from vclimb.training.schedule import TrainingConfig

FACTOR = "rate_factor"
"""Key of a group of parameters: its learning rate, as a factor of that of the head."""


def make_optimizer(config: TrainingConfig, model: ClipModel, for_graph: bool = False) -> torch.optim.Optimizer:
    """Make the optimiser of a task over the parameters of a network that are trained.

    Args:
        for_graph: Whether its steps can be recorded by a CUDA graph: learning rates are tensors on the GPU, and SGD and
            AdamW take a step by one kernel for many parameters.
    """
    groups, rate, decay = parameter_groups(model, config), config.learning_rate, config.weight_decay
    if for_graph:
        for group in groups:
            group["lr"] = torch.tensor(rate, device=group["params"][0].device)
    fused = True if for_graph else None
    if config.optimizer == "adagrad":
        return torch.optim.Adagrad(groups, lr=rate, weight_decay=decay)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate, weight_decay=decay, fused=fused, capturable=for_graph)
    return torch.optim.SGD(groups, lr=rate, momentum=config.momentum, weight_decay=decay, fused=fused)


def parameter_groups(model: ClipModel, config: TrainingConfig) -> list[dict[str, Any]]:
    """Group the parameters that are trained by the factor of their learning rate: the backbone's, and all others."""
    backbone = set(model.backbone.parameters())
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups.setdefault(config.backbone_rate if parameter in backbone else 1.0, []).append(parameter)
    return [{"params": parameters, FACTOR: factor} for factor, parameters in groups.items()]


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the head, and those of all groups by their factors, without waiting for a GPU."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(group[FACTOR] * rate)
        else:
            group["lr"] = group[FACTOR] * rate


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the state of an optimiser for a checkpoint, with learning rates as numbers."""
    state = optimizer.state_dict()
    return {**state, "param_groups": [{**group, "lr": float(group["lr"])} for group in state["param_groups"]]}


def restore_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Restore what `optimizer_state` returned, of an optimiser on any device. Settings stay those of this optimiser."""
    groups = zip(optimizer.state_dict()["param_groups"], state["param_groups"], strict=True)
    own = [{**mine, "params": saved["params"]} for mine, saved in groups]
    optimizer.load_state_dict({"state": state["state"], "param_groups": own})
