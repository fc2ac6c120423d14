"""The network and how it takes a step: precision, processes, clipping, learning rate."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vclimb.methods.method import Method, StepBatch, StepOutputs
from vclimb.model.memory_format import joined, laid_out
from vclimb.model.tsn import TSN
from vclimb.training.config import ModelConfig, RunConfig, TrainingConfig
from vclimb.training.processes import Processes


def make_model(config: ModelConfig, n_classes: int, seed: int) -> TSN:
    """A network as it is before any training: a pure function of its arguments.

    Raises:
        SettingsError: no such backbone, or weights that don't fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TSN(n_classes, config.backbone, config.weights, config.dropout, config.shift)


class Learner:
    """A network in training.

    Args:
        config: of the run.
        processes: that share each batch.
        n_classes: outputs of the head.

    Attributes:
        model: the bare network, as methods and evaluation see it.
        bf16: whether it computes in bf16.
    """

    def __init__(self, config: RunConfig, processes: Processes, n_classes: int) -> None:
        self._config = config
        self._processes = processes
        self.device = processes.device
        self.bf16 = _is_bf16(config.compute.precision, self.device)
        self.model = make_model(config.model, n_classes, config.seed)
        self._place()
        self._optimizer: torch.optim.Optimizer | None = None
        self._network: nn.Module = self.model

    def _place(self) -> None:
        self.model.to(self.device)  # its weights take the layout of the clips, `laid_out`
        if self._config.compute.compile:
            self.model.backbone.compile()

    def restart(self, n_classes: int) -> None:
        """Take the network as it was initialised."""
        self.model = make_model(self._config.model, n_classes, self._config.seed)
        self._place()

    def grow(self, n_classes: int, seed: int) -> None:
        """Give the head outputs for all classes so far; new ones depend on the seed alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model.grow_head(n_classes)

    def begin_task(self) -> None:
        """A new optimiser, over the parameters that there are now."""
        self._optimizer = _make_optimizer(self._config.training, self.model)
        self._network = self.model
        if self._processes.world_size > 1:
            ids = [self.device.index] if self.device.type == "cuda" else None
            self._network = DistributedDataParallel(self.model, device_ids=ids, broadcast_buffers=True)
        self.model.train()

    def end_epoch(self) -> None:
        """Batch statistics that each process gathered from its own share become rank 0's, as DDP has them."""
        self._processes.copy_from_first(self.model.buffers())

    def end_task(self) -> None:
        """The optimiser's memory is given back."""
        self._optimizer = None
        self._network = self.model

    def step(
        self, method: Method, clips: Tensor, down_sampled: Tensor | None, labels: Tensor, n_global: int, progress: float
    ) -> dict[str, Tensor]:
        """One training step.

        Args:
            clips: (B, T, 3, H, W) uint8, this process' share of the batch; it may be empty where others' isn't.
            down_sampled: likewise, of temporal consistency.
            labels: (B,) int64.
            n_global: clips of the batch over all processes.
            progress: of the task's training, from 0 to 1, for the schedule.

        Returns:
            the loss' terms, detached: of this process' clips, means over them.
        """
        assert self._optimizer is not None
        # DDP averages gradients over processes: each counts by its clips, so that the sum is the whole batch's mean.
        share = len(labels) * self._processes.world_size / n_global
        if not len(labels):  # the others' gradients are waited for all the same
            newest = self.model.head.out_features - 1  # a label that every method knows: some train new classes alone
            clips, labels = clips.new_zeros(1, *clips.shape[1:]), labels.new_full((1,), newest)
            down_sampled = None if down_sampled is None else clips
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self._config.training, progress)
        whole = len(labels) * self._processes.world_size == self._config.training.batch_size
        clips = laid_out(clips, whole)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            both = clips if down_sampled is None else joined(clips, laid_out(down_sampled, whole))
            logits: Tensor = self._network(both)
            parts = logits.split(len(clips))  # type: ignore[no-untyped-call]
            outputs = StepOutputs(parts[0], None if down_sampled is None else parts[1])
            terms = method.loss(StepBatch(clips, labels), outputs)
            penalty = method.penalty(self.model)
            loss = share * torch.stack([*terms.values()]).sum()
            if penalty:
                loss = loss + torch.stack([*penalty.values()]).sum()
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self._config.training.clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self._config.training.clip_norm)
        self._optimizer.step()
        return {name: value.detach() for name, value in (terms | penalty).items()}

    def state_dict(self, with_optimizer: bool) -> dict[str, Any]:
        """The network, and the optimiser where it is asked for and there is one."""
        state: dict[str, Any] = {"model": self.model.state_dict(), "n_classes": self.model.head.out_features}
        if with_optimizer and self._optimizer is not None:
            state["optimizer"] = self._optimizer.state_dict()
        return state

    def load_model(self, state: dict[str, Any]) -> None:
        """Take up the network of a state."""
        if self.model.head.out_features != state["n_classes"]:
            self.model.head = nn.Linear(self.model.n_features, state["n_classes"], device=self.device)
        self.model.load_state_dict(state["model"])

    def load_optimizer(self, state: dict[str, Any]) -> None:
        """Take up the optimiser of a state, after `begin_task`."""
        assert self._optimizer is not None
        self._optimizer.load_state_dict(state["optimizer"])


def learning_rate(config: TrainingConfig, progress: float) -> float:
    """The learning rate at a place in a task's training, from 0 to 1."""
    if config.schedule == "cosine":
        return config.learning_rate * (1 + math.cos(math.pi * progress)) / 2
    return config.learning_rate


def _make_optimizer(config: TrainingConfig, model: nn.Module) -> torch.optim.Optimizer:
    parameters, rate, decay = model.parameters(), config.learning_rate, config.weight_decay
    if config.optimizer == "adagrad":
        return torch.optim.Adagrad(parameters, lr=rate, weight_decay=decay)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
    return torch.optim.SGD(parameters, lr=rate, momentum=config.momentum, weight_decay=decay)


def _is_bf16(precision: str, device: torch.device) -> bool:
    return precision == "bf16" or (precision == "auto" and device.type == "cuda")
