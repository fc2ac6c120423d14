"""Measuring clips a second of streams and of training."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

import torch
from torch import nn

from vclimb.methods.method import Terms
from vclimb.model.kernels.fuse import fuse
from vclimb.pipeline.stream.clip_batch import ClipBatch
from vclimb.pipeline.stream.clip_stream import ClipStream
from vclimb.training.step_graph import WARM_UP_STEPS, StepGraph, StepInputs


def endless(stream: ClipStream) -> Iterator[ClipBatch]:
    """Iterate over the full batches of all epochs."""
    size = stream.settings.batch_size
    return (batch for epoch in itertools.repeat(stream) for batch in epoch if len(batch.keys) == size)


class BenchTrainer:
    """A model that trains as in the benchmark: SGD, and bf16 and channels last on a GPU.

    Any valid labels do, since only time is measured.

    Args:
        graphs: Whether steps are replayed as a CUDA graph, as `compute.graphs` does. Batches have to be of one shape.
        fused: Whether the network gets vclimb's kernels, as `compute.kernels` does.

    Raises:
        StepGraphError: The step can't be recorded. Raised by the first steps.
    """

    def __init__(self, model: nn.Module, device: torch.device, graphs: bool = False, fused: bool = False) -> None:
        self.device = device
        if fused:
            fuse(model)
        self.model = model.to(device).train()
        for weight in self.model.parameters():
            if weight.dim() == 4:  # 3-D networks have weights of five dimensions too, which have no such layout
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        parameters, one_kernel = self.model.parameters(), True if graphs else None
        self.optimizer = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, weight_decay=1e-4, fused=one_kernel)
        self._graph = None
        if graphs:
            self._graph = StepGraph(device, self._take, lambda *_: None, None, required=True, warm_up=WARM_UP_STEPS)

    def step(self, frames: torch.Tensor, labels: torch.Tensor) -> None:
        """Train one step on (B, T, 3, H, W) uint8 frames and (B,) labels."""
        inputs = StepInputs(frames, labels, labels, None)
        if self._graph is None:
            self._take(inputs)
            return
        with self._graph.stream():
            self._graph(inputs)

    def _take(self, inputs: StepInputs) -> Terms:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            loss = nn.functional.cross_entropy(self.model(inputs.clips), inputs.labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 20.0)
        self.optimizer.step()
        return {"classification": loss.detach()}


def synchronise(device: torch.device) -> None:
    """Wait for all work that was given to a device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(work: Callable[[], int], device: torch.device) -> float:
    """Measure clips a second of a piece of work that returns its number of clips."""
    synchronise(device)
    start_seconds = time.perf_counter()
    clips = work()
    synchronise(device)
    return clips / (time.perf_counter() - start_seconds)


def train_on(trainer: BenchTrainer, batches: Iterator[ClipBatch], steps: int) -> int:
    """Train on the next batches, and return the number of clips."""
    clips = 0
    for batch in itertools.islice(batches, steps):
        trainer.step(batch.frames, batch.labels)
        clips += len(batch.keys)
    return clips


def take(batches: Iterator[ClipBatch], steps: int) -> int:
    """Take and drop the next batches, and return the number of clips."""
    return sum(len(batch.keys) for batch in itertools.islice(batches, steps))
