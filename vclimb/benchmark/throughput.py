"""Measuring clips a second of streams and of training."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

import torch
from torch import nn

from vclimb.pipeline.stream.batches import ClipBatch
from vclimb.pipeline.stream.clip_stream import ClipStream


def endless(stream: ClipStream) -> Iterator[ClipBatch]:
    """Iterate over the full batches of all epochs."""
    size = stream.settings.batch_size
    return (batch for epoch in itertools.repeat(stream) for batch in epoch if len(batch.keys) == size)


class BenchTrainer:
    """A model that trains as in the benchmark: SGD, and bf16 and channels last on a GPU.

    Any valid labels do, since only time is measured.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.device = device
        self.model = model.to(device).train()
        for weight in self.model.parameters():
            if weight.dim() == 4:  # 3-D networks have weights of five dimensions too, which have no such layout
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)

    def step(self, frames: torch.Tensor, labels: torch.Tensor) -> None:
        """Train one step on (B, T, 3, H, W) uint8 frames and (B,) labels."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            loss = nn.functional.cross_entropy(self.model(frames), labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 20.0)
        self.optimizer.step()


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
