"""The network in training: steps, precision, gradients of several processes, clipping, learning rate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vclimb.methods.method import Method, StepBatch, StepOutputs
from vclimb.model.clip_model import ClipModel
from vclimb.model.memory_format import layout_for
from vclimb.model.registry import make_network
from vclimb.model.settings import parse_frozen
from vclimb.training.config import RunConfig
from vclimb.training.passes import Passes
from vclimb.training.processes import Processes
from vclimb.training.schedule import TrainingConfig

FACTOR = "rate_factor"
"""Key of a group of parameters: its learning rate, as a factor of that of the head."""


class Learner:
    """A network in training; `model` is the bare network, as methods and evaluation see it."""

    def __init__(self, config: RunConfig, processes: Processes, n_classes: int) -> None:
        self._config, self._training = config, config.training
        self._processes = processes
        self.device = processes.device
        self.autocast = autocast_type(config, self.device)
        self.restart(n_classes)
        self._optimizer: torch.optim.Optimizer | None = None
        self._network: nn.Module | None = None

    def restart(self, n_classes: int) -> None:
        """Return to the network as it was initialised."""
        self.model = self.initial_model(n_classes)
        if self._config.compute.compile:
            self.model.backbone.compile()

    def initial_model(self, n_classes: int) -> ClipModel:
        """Make a network as it is before any training, as a pure function of the settings and the number of classes."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._config.seed)
            model = make_network(self._config.model, n_classes)
        model.freeze(parse_frozen(self._training.frozen))
        return model.to(self.device)  # the weights take the memory layout of the clips, `layout_for`

    def grow(self, n_classes: int, seed: int) -> None:
        """Give the head outputs for all classes so far. The weights of new outputs depend on the seed alone."""
        grow(self.model, n_classes, seed)

    def begin_task(self, state: dict[str, Any] | None = None, n_epochs: int = 1) -> None:
        """Make a new optimiser over the current parameters, or restore that of a state.

        Args:
            n_epochs: Number of epochs of the task, which a warm-up is a part of.
        """
        self._n_epochs = n_epochs
        self._optimizer = _make_optimizer(self._training, self.model)
        if state is not None:
            self._optimizer.load_state_dict(state["optimizer"])
        self._network = Passes(self.model, self._config.resolved_differences, self._config.consistency.weight)
        if self._processes.world_size > 1:
            ids = [self.device.index] if self.device.type == "cuda" else None
            # Batch statistics are broadcast once, at the end of an epoch: no training step reads them.
            self._network = DistributedDataParallel(
                self._network, device_ids=ids, broadcast_buffers=False, gradient_as_bucket_view=True
            )
        self.model.train()

    def trained_parameters(self) -> list[nn.Parameter]:
        """List the parameters that are trained, in the order of the optimiser."""
        return [parameter for group in parameter_groups(self.model, self._training) for parameter in group["params"]]

    def end_task(self) -> None:
        self._optimizer = self._network = None

    def step(
        self, method: Method, batch: StepBatch, down_sampled: Tensor | None, n_global: int, progress: float
    ) -> dict[str, Tensor]:
        """Take a training step.

        Args:
            batch: This rank's share of the batch, (B, T, 3, H, W) uint8. It may be empty while other ranks' are not.
            down_sampled: (B, T, 3, H, W) uint8, down-sampled clips; None where the step has none.
            n_global: Number of clips of the batch, summed over ranks.
            progress: Progress of the task's training, from 0 to 1, for the schedule.

        Returns:
            The terms of the loss, detached, as means over this rank's clips.
        """
        assert self._optimizer is not None
        assert self._network is not None
        # DDP averages gradients over ranks. Weighting ranks by their clips gives the mean over the whole batch.
        share = len(batch.labels) * self._processes.world_size / n_global
        if not len(batch.labels):  # a blank clip of weight 0, since the other ranks wait for this rank's gradients
            newest = self.model.n_classes - 1  # every method knows this label: some train new classes alone
            clips, labels = batch.clips.new_zeros(1, *batch.clips.shape[1:]), batch.labels.new_full((1,), newest)
            batch = StepBatch(clips, labels, np.zeros(1, np.int64))
            down_sampled = None if down_sampled is None else clips
        for group in self._optimizer.param_groups:
            group["lr"] = group[FACTOR] * self._training.rate(progress, self._n_epochs)
        whole = len(batch.labels) * self._processes.world_size == self._training.batch_size
        batch = replace(batch, clips=layout_for(batch.clips, whole))
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            outputs = StepOutputs(
                *self._network(batch.clips, None if down_sampled is None else layout_for(down_sampled, whole))
            )
            terms = method.loss(batch, outputs)
            penalty = method.penalty(self.model)
            loss = share * torch.stack([*terms.values()]).sum()
            if penalty:
                loss = loss + torch.stack([*penalty.values()]).sum()
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self._training.clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self._training.clip_norm)
        self._optimizer.step()
        return {name: value.detach() for name, value in (terms | penalty).items()}

    def state_dict(self, with_optimizer: bool) -> dict[str, Any]:
        """Return the state of the network and, if requested, of the optimiser, if there is one."""
        state: dict[str, Any] = {"model": self.model.state_dict()}
        if with_optimizer and self._optimizer is not None:
            state["optimizer"] = self._optimizer.state_dict()
        return state


def grow(model: ClipModel, n_classes: int, seed: int) -> None:
    """Give a model's head outputs for more classes. The weights of new outputs depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.grow(n_classes)


def autocast_type(config: RunConfig, device: torch.device) -> torch.dtype | None:
    """Choose the type of training in mixed precision; None: fp32 throughout."""
    precision = config.compute.precision
    if precision == "auto" and device.type == "cuda":
        return torch.bfloat16 if config.resolved_differences.autocast == "bf16" else torch.float16
    return torch.bfloat16 if precision == "bf16" else None


def _make_optimizer(config: TrainingConfig, model: ClipModel) -> torch.optim.Optimizer:
    parameters, rate, decay = parameter_groups(model, config), config.learning_rate, config.weight_decay
    if config.optimizer == "adagrad":
        return torch.optim.Adagrad(parameters, lr=rate, weight_decay=decay)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
    return torch.optim.SGD(parameters, lr=rate, momentum=config.momentum, weight_decay=decay)


def parameter_groups(model: ClipModel, config: TrainingConfig) -> list[dict[str, Any]]:
    """Group the parameters that are trained by the factor of their learning rate: the backbone's, and all others."""
    backbone = set(model.backbone.parameters())
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups.setdefault(config.backbone_rate if parameter in backbone else 1.0, []).append(parameter)
    return [{"params": parameters, FACTOR: factor} for factor, parameters in groups.items()]
