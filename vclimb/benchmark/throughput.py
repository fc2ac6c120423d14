"""Clips a second: how fast they come, how fast a model trains, and how fast it trains on clips that come."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

import torch
from torch import nn

from vclimb.pipeline.stream.stream import ClipBatch, ClipStream


def endless(stream: ClipStream) -> Iterator[ClipBatch]:
    """Batches of one epoch after another; batches that aren't full are left out."""
    size = stream.settings.batch_size
    return (batch for epoch in itertools.repeat(stream) for batch in epoch if len(batch.keys) == size)


class Trainer:
    """One model that trains on whatever batches it is given: the benchmark's SGD, bf16 on a GPU, channels last.

    Labels only have to be valid: what is measured is time.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.device = device
        self.model = model.to(device).to(memory_format=torch.channels_last).train()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)

    def step(self, frames: torch.Tensor, labels: torch.Tensor) -> None:
        """One training step on (B, T, 3, H, W) uint8 frames and (B,) labels."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            loss = nn.functional.cross_entropy(self.model(frames), labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 20.0)
        self.optimizer.step()


def synchronise(device: torch.device) -> None:
    """Wait for everything that was given to a device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(work: Callable[[], int], device: torch.device) -> float:
    """Clips a second of a piece of work that returns how many clips it did."""
    synchronise(device)
    start_seconds = time.perf_counter()
    clips = work()
    synchronise(device)
    return clips / (time.perf_counter() - start_seconds)


def train_on(trainer: Trainer, batches: Iterator[ClipBatch], steps: int) -> int:
    """Train on the next batches; the clips that were seen."""
    clips = 0
    for batch in itertools.islice(batches, steps):
        trainer.step(batch.frames, batch.labels)
        clips += len(batch.keys)
    return clips


def take(batches: Iterator[ClipBatch], steps: int) -> int:
    """Take the next batches and do nothing with them; the clips that came."""
    return sum(len(batch.keys) for batch in itertools.islice(batches, steps))


def repeated(batch: ClipBatch) -> Iterator[ClipBatch]:
    """The same batch, which already lies on the device, for ever: what a model trains at when data costs nothing."""
    return itertools.repeat(batch)
