"""Decoded batches of clips as tensors, in the process that uses them; processes that decode import no torch."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vclimb.pipeline.stream.batches import BatchPlan


@dataclass(frozen=True)
class ClipBatch:
    """A batch of B decoded clips.

    Attributes:
        views: View name -> (B, T, 3, H, W) uint8 RGB on the stream's device, channels last in memory.
        labels: (B,) int64 label ids on the stream's device.
        plan: Plan of the decoded clips, after damaged clips were replaced.
    """

    views: dict[str, torch.Tensor]
    labels: torch.Tensor
    keys: list[str]
    plan: BatchPlan

    @property
    def frames(self) -> torch.Tensor:
        """Frames of the first view, (B, T, 3, H, W) uint8."""
        return next(iter(self.views.values()))

    def record_stream(self) -> None:
        """Tell the allocator that the current CUDA stream reads tensors that were made on another one."""
        stream = torch.cuda.current_stream(self.labels.device)
        for tensor in (*self.views.values(), self.labels):
            tensor.record_stream(stream)
