"""The clip stream that needs no GPU: worker processes that read, decode, crop and resize whole batches."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional

from pipeline.clip_reader import ClipReader
from pipeline.clips import ClipProvider, Indices
from pipeline.decode import Pixels
from pipeline.stream import BatchPlan, ClipBatch, ClipStream, StreamSettings
from pipeline.workers import BatchWorkers


@dataclass(frozen=True)
class DecodedBatch:
    """What a worker makes of a plan.

    Attributes:
        views: view name -> (B, T, S, S, 3) uint8.
        plan: of the clips that are really there.
        skipped: why others were left out.
    """

    views: dict[str, Pixels]
    plan: BatchPlan
    skipped: list[str]


@dataclass(frozen=True)
class BatchDecoder:
    """Reads, decodes, crops and resizes the clips of a plan. Runs in a worker."""

    reader: ClipReader

    def __call__(self, plan: BatchPlan) -> DecodedBatch:
        size = self.reader.settings.augmentation.size
        views: dict[str, Pixels] = {n: np.empty((*f.shape, size, size, 3), np.uint8) for n, f in plan.frames.items()}
        skipped: list[str] = []
        for slot in range(len(plan.items)):
            (frames, places), plan = self.reader.sound(plan, slot, self._clip, skipped)
            for name, of_view in places.items():
                np.take(frames, of_view, axis=0, out=views[name][slot])
        return DecodedBatch(views, plan, skipped)

    def _clip(self, plan: BatchPlan, slot: int) -> tuple[Pixels, dict[str, Indices]]:
        """The distinct frames of a clip as (n, S, S, 3), and where each view's are among them."""
        clip = self.reader.read(plan, slot)
        left, top, width, height = plan.boxes[slot].tolist()
        pixels = self.reader.decode(clip)[:, top : top + height, left : left + width]
        size = self.reader.settings.augmentation.size
        frames = torch.nn.functional.interpolate(
            torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2),
            (size, size),
            mode="bilinear",
            antialias=True,
        )
        if plan.flips[slot]:
            frames = frames.flip(-1)
        return frames.permute(0, 2, 3, 1).numpy(), clip.places


class CpuClipStream(ClipStream):
    """Decodes on the cores of this machine. Holds at most 2 decoded batches for each worker.

    Args:
        provider: of encoded frames.
        settings: what to yield.
        device: where batches go.
        workers: processes; None takes one for each core, 0 decodes in this process.
    """

    name = "cpu"

    def __init__(
        self,
        provider: ClipProvider,
        settings: StreamSettings,
        device: torch.device | str = "cpu",
        workers: int | None = None,
    ) -> None:
        super().__init__(provider, settings, torch.device(device))
        decoder = BatchDecoder(ClipReader(provider, settings))
        workers = len(os.sched_getaffinity(0)) if workers is None else workers
        self._workers = BatchWorkers(decoder, workers)

    def close(self) -> None:
        super().close()
        self._workers.close()

    def _decode(self, plans: Iterator[BatchPlan]) -> Generator[ClipBatch, None, None]:
        for made in self._workers.run(plans):
            self.count_skipped(made.skipped)
            items, facts = made.plan.items, self.provider.items
            views = {
                name: torch.from_numpy(frames).to(self.device).permute(0, 1, 4, 2, 3)
                for name, frames in made.views.items()
            }
            labels = torch.from_numpy(facts.labels[items]).to(self.device)
            yield ClipBatch(views, labels, facts.keys[items].tolist(), made.plan)
