"""The clip stream that decodes on the cores: worker processes fill shared memory, which a GPU copies from directly.

The process that trains sends each worker its share of a batch and gets a word back; pixels pass through no pipe, no
pickle and no thread of its own, so that it is free to launch kernels.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice

import numpy as np
import torch

from vclimb.pipeline.arrays import Pixels
from vclimb.pipeline.clips.provider import ClipProvider
from vclimb.pipeline.stream.batch_decoder import BatchDecoder, Part, PartDecoder, Sound, batch_bytes, views_of
from vclimb.pipeline.stream.batch_memory import BatchMemory
from vclimb.pipeline.stream.clip_reader import ClipReader
from vclimb.pipeline.stream.shared_ring import PinningError, SharedRing
from vclimb.pipeline.stream.stream import BatchPlan, ClipBatch, ClipStream, StreamSettings
from vclimb.pipeline.stream.workers import TASKS_PER_WORKER, BatchWorkers, checked_workers
from vclimb.pipeline.system.cores import cores_of_rank

log = logging.getLogger(__name__)

# A batch is made in parts, so that it comes early; not in too many, for each costs the process that trains 0.2 ms.
_MOST_PARTS = 4
_PART_CLIPS = 16


class CpuClipStream(ClipStream):
    """Decodes on the cores of this machine; `host_bytes` of shared memory hold all that is decoded ahead.

    Args:
        provider: of encoded frames.
        settings: what to yield.
        device: where batches go.
        workers: processes; None takes one for each core that is this rank's, but two that feed a GPU; 0 decodes in
            this process.
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
        self._decoder = BatchDecoder(ClipReader(provider, settings))
        self._n_workers = (
            default_workers(self.device, settings.world_size) if workers is None else checked_workers(workers)
        )
        self._workers: BatchWorkers[Part, Sound | None] | None = None
        self._ring: SharedRing | None = None
        parts = max(1, min(_MOST_PARTS, settings.batch_size // _PART_CLIPS))
        self._part_clips = -(-settings.batch_size // parts)
        # What can be in flight, and the batch whose copy may not have ended; a short pass has fewer batches than that.
        in_flight = -(-TASKS_PER_WORKER * self._n_workers // parts) + 2
        self._n_slots = in_flight if settings.across_epochs else min(in_flight, len(self))
        self._memory = BatchMemory(batch_bytes(settings))
        self._upload = _Upload(self.device) if self.device.type == "cuda" else None

    @property
    def host_bytes(self) -> int:
        """Shared memory for decoded batches, of all workers together."""
        return self._n_slots * batch_bytes(self.settings) if self._n_workers else 0

    def close(self) -> None:
        super().close()
        if self._workers is not None:
            self._workers.close()
            self._workers = None
        if self._upload is not None:
            self._upload.finish()
        if self._ring is not None:
            self._ring.close()
            self._ring = None

    def _decode(self, plans: Iterator[BatchPlan]) -> Generator[ClipBatch, None, None]:
        decoded = self._in_workers(plans) if self._n_workers else self._in_process(plans)
        with closing(decoded):  # Python 3.12.3 forgets it when this generator is closed (gh-118272)
            if self._upload is None:
                yield from decoded
                return
            self._upload.forget()  # copies for an iterator that was left
            ahead: ClipBatch | None = None
            for batch in decoded:  # the copy of one batch goes on while the one before is in use
                if ahead is not None:
                    yield self._upload.hand_over(ahead)
                ahead = batch
            if ahead is not None:
                yield self._upload.hand_over(ahead)

    def _in_process(self, plans: Iterator[BatchPlan]) -> Generator[ClipBatch, None, None]:
        for plan in plans:
            views = views_of(self._memory.take(), self.settings, len(plan.items))
            yield self._batch(views, self._decoder.fill(plan, views), None)

    def _in_workers(self, plans: Iterator[BatchPlan]) -> Generator[ClipBatch, None, None]:
        workers, ring = self._start()
        asked: deque[tuple[int, BatchPlan, list[Part]]] = deque()
        answers = workers.run(self._parts(plans, asked))
        try:
            for first in answers:
                slot, plan, parts = asked.popleft()
                sound = _joined(plan, parts, [first, *islice(answers, len(parts) - 1)])
                yield self._batch(views_of(ring.slot(slot), self.settings, len(plan.items)), sound, slot)
        finally:
            answers.close()

    def _parts(
        self, plans: Iterator[BatchPlan], asked: deque[tuple[int, BatchPlan, list[Part]]]
    ) -> Generator[Part, None, None]:
        for number, plan in enumerate(plans):
            slot, n_clips = number % self._n_slots, len(plan.items)
            if self._upload is not None:
                self._upload.wait(slot)
            # A short batch has as many parts as the others, some of them empty: more batches would be in flight else.
            starts = range(0, self.settings.batch_size, self._part_clips)
            parts = [Part(plan.part(start, start + self._part_clips), slot, start, n_clips) for start in starts]
            asked.append((slot, plan, parts))
            yield from parts

    def _start(self) -> tuple[BatchWorkers[Part, Sound | None], SharedRing]:
        if self._workers is None or self._ring is None:
            self._ring = SharedRing(self._n_slots, batch_bytes(self.settings))
            if self._upload is not None:
                self._upload.pin(self._ring)
            self._workers = BatchWorkers(PartDecoder(self._decoder, self._ring), self._n_workers)
        return self._workers, self._ring

    def _batch(self, views: dict[str, Pixels], sound: Sound, slot: int | None) -> ClipBatch:
        """Decoded clips as tensors of the stream's device that share nothing with the slot."""
        self.count_skipped(sound.skipped)
        items, facts = sound.plan.items, self.provider.items
        tensors = {name: torch.from_numpy(frames) for name, frames in views.items()}
        labels = torch.from_numpy(facts.labels[items])
        if self._upload is not None:
            tensors, labels = self._upload.begin(tensors, labels, slot)
        elif slot is not None:
            copies = views_of(self._memory.take(), self.settings, len(items))
            tensors = {name: torch.from_numpy(copies[name]).copy_(frames) for name, frames in tensors.items()}
        channels_first = {name: frames.permute(0, 1, 4, 2, 3) for name, frames in tensors.items()}
        return ClipBatch(channels_first, labels, facts.keys[items].tolist(), sound.plan)


class _Upload:
    """Copies to a GPU on a stream of their own, beside the model's kernels."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._of_slot: dict[int | None, torch.cuda.Event] = {}
        self._under_way: deque[torch.cuda.Event] = deque()

    def pin(self, ring: SharedRing) -> None:
        """Let the GPU copy from a ring while the processor goes on, if the driver allows it."""
        try:
            ring.pin()
        except PinningError as error:
            log.warning("%s: copies will be slower", error)

    def begin(
        self, views: dict[str, torch.Tensor], labels: torch.Tensor, slot: int | None
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Start to copy a batch out of a slot."""
        with torch.cuda.stream(self._stream):
            copies = {name: frames.to(self._device, non_blocking=True) for name, frames in views.items()}
            labels = labels.to(self._device, non_blocking=True)
            copied = self._of_slot[slot] = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record(self._stream)
        self._under_way.append(copied)
        return copies, labels

    def wait(self, slot: int) -> None:
        """Until nothing is copied out of a slot any more."""
        if (event := self._of_slot.pop(slot, None)) is not None:
            event.synchronize()

    def forget(self) -> None:
        """Nobody will take the batches that were begun; slots are waited for as before."""
        self._under_way.clear()

    def finish(self) -> None:
        """Until nothing is copied any more."""
        self._stream.synchronize()
        self._of_slot.clear()
        self.forget()

    def hand_over(self, batch: ClipBatch) -> ClipBatch:
        """Let the current stream use the batch that was begun first, once its copy has ended."""
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(self._under_way.popleft())
        for tensor in (*batch.views.values(), batch.labels):
            tensor.record_stream(stream)
        return batch


def default_workers(device: torch.device, world_size: int = 1) -> int:
    """One for each core that this process has; two cores are left to a process that drives a GPU."""
    if device.type != "cuda":
        return cores_of_rank(world_size, 0)
    return max(1, cores_of_rank(world_size, torch.cuda.device_count()) - 2)


def _joined(plan: BatchPlan, parts: list[Part], answers: list[Sound | None]) -> Sound:
    """What was decoded, from what was of its parts."""
    if not any(answers):
        return Sound(plan, [])
    plans = [part.plan if answer is None else answer.plan for part, answer in zip(parts, answers, strict=True)]
    joined = replace(
        plan,
        items=np.concatenate([part.items for part in plans]),
        frames={name: np.concatenate([part.frames[name] for part in plans]) for name in plan.frames},
        boxes=np.concatenate([part.boxes for part in plans]),
        flips=np.concatenate([part.flips for part in plans]),
    )
    return Sound(joined, [reason for answer in answers if answer for reason in answer.skipped])
