"""The network in training: steps, precision, gradients of several processes, clipping, learning rate."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vclimb.methods.method import Method, StepBatch, StepOutputs, Terms
from vclimb.model.clip_model import ClipModel
from vclimb.model.kernels.fuse import fuse, is_planned, missing_for_kernels
from vclimb.model.memory_format import layout_for
from vclimb.model.registry import make_network
from vclimb.model.settings import parse_frozen
from vclimb.pipeline.errors import SettingsError
from vclimb.training.config import RunConfig
from vclimb.training.optimizer import (
    make_optimizer,
    optimizer_state,
    parameter_groups,
    restore_optimizer,
    set_learning_rate,
)
from vclimb.training.passes import Passes
from vclimb.training.processes import Processes
from vclimb.training.step_graph import WARM_UP_STEPS, WARM_UP_STEPS_OF_SEVERAL, Report, StepGraph, StepInputs


class Learner:
    """A network in training; `model` is the bare network, as methods and evaluation see it.

    Attributes:
        kernels: Which kernels compute batch normalisations and depthwise convolutions, as a sentence for the log.
    """

    def __init__(self, config: RunConfig, processes: Processes, n_classes: int) -> None:
        self._config, self._training = config, config.training
        self._processes = processes
        self.device = processes.device
        self.autocast = autocast_type(config, self.device)
        self._uses_graphs = uses_graphs(config, self.device)
        self._torch_kernels = reason_for_torch_kernels(config, self.device)
        self.restart(n_classes)
        self._planned = is_planned(self.model)
        self._optimizer: torch.optim.Optimizer | None = None
        self._network: nn.Module | None = None
        self._graph: StepGraph | None = None

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
        self.kernels = f"kernels: torch's, since {self._torch_kernels}"
        if self._torch_kernels is None:
            self.kernels = f"kernels: {fuse(model.backbone)}"
        model.freeze(parse_frozen(self._training.frozen))
        return model.to(self.device)  # the weights take the memory layout of the clips, `layout_for`

    def grow(self, n_classes: int, seed: int) -> None:
        """Give the head outputs for all classes so far. The weights of new outputs depend on the seed alone."""
        grow(self.model, n_classes, seed)

    def begin_task(
        self,
        method: Method,
        state: dict[str, Any] | None = None,
        n_epochs: int = 1,
        report: Report = lambda replayed, reason: None,
    ) -> None:
        """Make a new optimiser over the current parameters, or restore that of a state.

        Args:
            n_epochs: Number of epochs of the task, which a warm-up is a part of.
            report: Told whether whole batches are replayed as a CUDA graph, where that is asked for.
        """
        self._n_epochs = n_epochs
        self._optimizer = make_optimizer(self._training, self.model, for_graph=self._uses_graphs)
        if state is not None:
            restore_optimizer(self._optimizer, state["optimizer"])
        several = self._processes.world_size > 1
        if self._uses_graphs:
            self._graph = StepGraph(
                self.device,
                lambda inputs: self._take(method, inputs, 1.0),
                report,
                obstacle=method.not_replayable,
                required=self._config.compute.graphs == "on",
                warm_up=WARM_UP_STEPS_OF_SEVERAL if several else WARM_UP_STEPS,
            )
        self._network = Passes(self.model, self._config.resolved_differences, self._config.consistency.weight)
        if several:
            ids = [self.device.index] if self.device.type == "cuda" else None
            # Batch statistics are broadcast once, at the end of an epoch: no training step reads them.
            with self._stream():
                self._network = DistributedDataParallel(
                    self._network, device_ids=ids, broadcast_buffers=False, gradient_as_bucket_view=True
                )
        self.model.train()

    def trained_parameters(self) -> list[nn.Parameter]:
        """List the parameters that are trained, in the order of the optimiser."""
        return [parameter for group in parameter_groups(self.model, self._training) for parameter in group["params"]]

    def end_task(self) -> None:
        self._optimizer = self._network = self._graph = None

    def step(
        self, method: Method, batch: StepBatch, down_sampled: Tensor | None, n_global: int, progress: float
    ) -> Terms:
        """Take a training step.

        Args:
            batch: This rank's share of the batch, (B, T, 3, H, W) uint8. It may be empty while other ranks' are not.
            down_sampled: (B, T, 3, H, W) uint8, down-sampled clips; None where the step has none.
            n_global: Number of clips of the batch, summed over ranks.
            progress: Progress of the task's training, from 0 to 1, for the schedule.

        Returns:
            The terms of the loss, detached, as means over this rank's clips. They are valid until the next step.
        """
        assert self._optimizer is not None
        # DDP averages gradients over ranks. Weighting ranks by their clips gives the mean over the whole batch.
        n_clips = len(batch.labels) * self._processes.world_size
        clips, labels, items, logits = batch.clips, batch.labels, batch.items, batch.stored_logits
        if not n_clips:  # a blank clip of weight 0, since the other ranks wait for this rank's gradients
            newest = self.model.n_classes - 1  # every method knows this label: some train new classes alone
            clips, labels = clips.new_zeros(1, *clips.shape[1:]), labels.new_full((1,), newest)
            items = items.new_zeros(1)
            logits = None if logits is None else logits.new_full((1, logits.shape[1]), torch.nan)
            down_sampled = None if down_sampled is None else clips
        whole = len(labels) * self._processes.world_size == self._training.batch_size
        down_sampled = None if down_sampled is None else layout_for(down_sampled, whole, self._planned)
        inputs = StepInputs(layout_for(clips, whole, self._planned), labels, items, down_sampled, logits)
        set_learning_rate(self._optimizer, self._training.rate(progress, self._n_epochs))
        with self._stream():
            alike = self._processes.world_size == 1 or n_clips == n_global == self._training.batch_size  # on all ranks
            if self._graph is not None and alike:
                return self._graph(inputs)
            return self._take(method, inputs, n_clips / n_global)

    def _take(self, method: Method, inputs: StepInputs, share: float) -> Terms:
        """Take a step whose loss is weighted by this rank's share of the batch. Waits for no result of the GPU."""
        assert self._optimizer is not None
        assert self._network is not None
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            outputs = StepOutputs(*self._network(inputs.clips, inputs.down_sampled))
            batch = StepBatch(inputs.clips, inputs.labels, inputs.items, inputs.stored_logits)
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

    def _stream(self) -> AbstractContextManager[None]:
        return nullcontext() if self._graph is None else self._graph.stream()

    def state_dict(self, with_optimizer: bool) -> dict[str, Any]:
        """Return the state of the network and, if requested, of the optimiser, if there is one."""
        state: dict[str, Any] = {"model": self.model.state_dict()}
        if with_optimizer and self._optimizer is not None:
            state["optimizer"] = optimizer_state(self._optimizer)
        return state


def grow(model: ClipModel, n_classes: int, seed: int) -> None:
    """Give a model's head outputs for more classes. The weights of new outputs depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.grow(n_classes)


def uses_graphs(config: RunConfig, device: torch.device) -> bool:
    """Tell whether steps of whole batches are to be replayed as CUDA graphs. Raises SettingsError where none can be."""
    graphs = config.compute.graphs
    if graphs == "on" and device.type != "cuda":
        raise SettingsError(f"compute.graphs on needs a GPU, and training is on {device.type}; take auto or off")
    return graphs != "off" and device.type == "cuda"


def reason_for_torch_kernels(config: RunConfig, device: torch.device) -> str | None:
    """Say why a network keeps torch's kernels; None: it gets vclimb's. Raises SettingsError where it can't get them."""
    kernels, reason = config.compute.kernels, None
    if device.type != "cuda":
        reason = f"training is on {device.type}, and the others are for GPUs"
    elif config.compute.compile:
        reason = "compute.compile lets torch make its own"
    else:
        reason = missing_for_kernels(device)
    if kernels == "fused" and reason is not None:
        raise SettingsError(f"compute.kernels fused is not possible: {reason}; take auto or torch")
    return "compute.kernels asks for them" if kernels == "torch" else reason


def autocast_type(config: RunConfig, device: torch.device) -> torch.dtype | None:
    """Choose the type of training in mixed precision; None: fp32 throughout."""
    precision = config.compute.precision
    if precision == "auto" and device.type == "cuda":
        return torch.bfloat16 if config.resolved_differences.autocast == "bf16" else torch.float16
    return torch.bfloat16 if precision == "bf16" else None
