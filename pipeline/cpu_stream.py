"""The clip stream that needs no GPU: threads that read, decode, crop and resize, a clip at a time.

libjpeg-turbo, FFmpeg and torch's resize release the interpreter's lock, so that threads fill the cores and nothing
is copied between processes.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
import torch.nn.functional

from pipeline.clips import ClipProvider, Indices
from pipeline.decode import decode_clip
from pipeline.errors import FrameDamagedError, SettingsError
from pipeline.stream import BatchPlan, ClipBatch, ClipStream, StreamSettings

PREFETCHED_BATCHES = 3


@dataclass
class _Pending:
    """A batch being decoded: its clips' tasks, and the tensors that they fill."""

    plan: BatchPlan
    views: dict[str, torch.Tensor]
    clips: list[Future[BatchPlan]]


class CpuClipStream(ClipStream):
    """Decodes on the cores of this machine; holds `PREFETCHED_BATCHES` decoded batches at most.

    Args:
        provider: of encoded frames.
        settings: what to yield.
        device: where batches go; a GPU gets them from pinned memory.
        workers: threads; None takes one for each core.
    """

    name = "cpu"

    def __init__(
        self,
        provider: ClipProvider,
        settings: StreamSettings,
        device: torch.device | str = "cpu",
        workers: int | None = None,
    ) -> None:
        if workers is not None and workers < 1:
            raise SettingsError(f"workers {workers} is out of range; allowed: 1 or more")
        super().__init__(provider, settings, torch.device(device))
        self._pool = ThreadPoolExecutor(workers or len(os.sched_getaffinity(0)), thread_name_prefix="clips")

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _decode(self, plans: Iterator[BatchPlan]) -> Iterator[ClipBatch]:
        pending: deque[_Pending] = deque()
        try:
            while True:
                while len(pending) < PREFETCHED_BATCHES and (plan := next(plans, None)) is not None:
                    pending.append(self._start(plan))
                if not pending:
                    return
                yield self._finish(pending.popleft())
        finally:
            for batch in pending:
                for clip in batch.clips:
                    clip.cancel()

    def _start(self, plan: BatchPlan) -> _Pending:
        size = self.settings.augmentation.size
        pinned = self.device.type == "cuda"
        views = {
            name: torch.empty((*frames.shape, size, size, 3), dtype=torch.uint8, pin_memory=pinned)
            for name, frames in plan.frames.items()
        }
        clips = [self._pool.submit(self._decode_clip, plan, slot, views) for slot in range(len(plan.items))]
        return _Pending(plan, views, clips)

    def _finish(self, batch: _Pending) -> ClipBatch:
        plan = batch.plan
        for slot, clip in enumerate(batch.clips):
            if (decoded := clip.result()) is not batch.plan:
                plan = _with_slot(plan, slot, decoded)
        labels = torch.from_numpy(self.provider.items.labels[plan.items])
        views = {name: frames.permute(0, 1, 4, 2, 3) for name, frames in batch.views.items()}
        if self.device.type != "cpu":
            labels = labels.to(self.device)
            views = {name: frames.to(self.device, non_blocking=True) for name, frames in views.items()}
        return ClipBatch(views, labels, self.provider.items.keys[plan.items].tolist(), plan)

    def _decode_clip(self, plan: BatchPlan, slot: int, views: dict[str, torch.Tensor]) -> BatchPlan:
        """Decode one clip into its slot of the batch's views; gives the plan, changed if the clip was replaced."""
        attempt = 0
        while True:
            try:
                frames, places = self._pixels(plan, slot)
                break
            except FrameDamagedError as error:
                plan = self.replaced(plan, slot, attempt, error)
                attempt += 1
        for name, of_view in places.items():
            torch.index_select(frames, 0, torch.from_numpy(of_view), out=views[name][slot])
        return plan

    def _pixels(self, plan: BatchPlan, slot: int) -> tuple[torch.Tensor, dict[str, Indices]]:
        item = int(plan.items[slot])
        facts = self.provider.items
        clip, places = self.read_clip(plan, slot)
        distinct = plan.distinct_frames(slot)
        decoded = decode_clip(
            clip, int(facts.widths[item]), int(facts.heights[item]), lambda p: self.provider.where(item, int(distinct[p]))
        )
        left, top, width, height = plan.boxes[slot].tolist()
        crop = torch.from_numpy(decoded).permute(0, 3, 1, 2)[:, :, top : top + height, left : left + width]
        size = self.settings.augmentation.size
        frames = torch.nn.functional.interpolate(crop, (size, size), mode="bilinear", antialias=True)
        if plan.flips[slot]:
            frames = frames.flip(-1)
        return frames.permute(0, 2, 3, 1).contiguous(), places


def _with_slot(plan: BatchPlan, slot: int, other: BatchPlan) -> BatchPlan:
    """A plan with one slot taken from another."""
    items, boxes, flips = plan.items.copy(), plan.boxes.copy(), plan.flips.copy()
    frames = {name: numbers.copy() for name, numbers in plan.frames.items()}
    items[slot], boxes[slot], flips[slot] = other.items[slot], other.boxes[slot], other.flips[slot]
    for name, numbers in frames.items():
        numbers[slot] = other.frames[name][slot]
    return replace(plan, items=items, boxes=boxes, flips=flips, frames=frames)
