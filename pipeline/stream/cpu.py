"""The clip stream that decodes on the cores: worker processes fill shared memory, from which a GPU copies directly.

The training process sends each worker its part of a batch and gets a short answer. Pixels pass through no pipe, no
pickle and no thread of the training process, which stays free to launch kernels.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from functools import partial
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch

from vclimb.pipeline.arrays import Pixels
from vclimb.pipeline.clips.provider import ClipProvider
from vclimb.pipeline.stream.batch_decoder import DecodedPart, Part, batch_bytes, decode_batch, decode_part, views_of
from vclimb.pipeline.stream.batches import BatchPlan, StreamSettings
from vclimb.pipeline.stream.clip_batch import ClipBatch
from vclimb.pipeline.stream.clip_reader import ClipReader
from vclimb.pipeline.stream.clip_stream import ClipStream
from vclimb.pipeline.stream.memory import BatchMemory, PinningError, SharedRing
from vclimb.pipeline.stream.workers import TASKS_PER_WORKER, BatchWorkers, checked_workers
from vclimb.pipeline.system.cores import cores_of_rank

log = logging.getLogger(__name__)

# A batch is decoded in parts, so that it arrives early; in few parts, because each costs the training process 0.2 ms.
_MOST_PARTS = 4
_PART_CLIPS = 16
# Slots of the batch that is used, and of the batch whose copy may not have ended.
_SPARE_SLOTS = 2


class CpuClipStream(ClipStream):
    """Decodes on the cores of this machine, ahead of use into `host_bytes` of shared memory.

    Where memory is short, fewer batches are decoded ahead, and a warning says so.

    Args:
        workers: Number of worker processes; 0 decodes in this process. None: one for each core of this rank, less two
            that feed a GPU.
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
        self._reader = ClipReader(provider, settings)
        self._n_workers = (
            default_workers(self.device, settings.world_size) if workers is None else checked_workers(workers)
        )
        self._workers: BatchWorkers[Part, DecodedPart | None] | None = None
        self._ring: SharedRing | None = None
        self._n_parts = max(1, min(_MOST_PARTS, settings.batch_size // _PART_CLIPS))
        self._part_clips = -(-settings.batch_size // self._n_parts)
        self._upload = _Upload(self.device) if self.device.type == "cuda" else None
        # All batches in flight, and those in use; a short pass has fewer batches than that.
        in_flight = self._batches_begun(TASKS_PER_WORKER * self._n_workers) + _SPARE_SLOTS
        self._n_slots = in_flight if settings.across_epochs else min(in_flight, len(self))
        self._free: deque[int] = deque()  # slots that no batch is in; a GPU takes the slots in turn
        self._ahead: int | None = None  # most parts that are decoded ahead, where memory is short
        self._memory = BatchMemory(batch_bytes(settings))

    @property
    def host_bytes(self) -> int:
        """Size of the memory for decoded batches, shared by all workers."""
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
        with closing(decoded):  # Python 3.12.3 doesn't close it with this generator (gh-118272)
            if self._upload is None:
                yield from decoded
                return
            self._upload.forget()  # copies for an abandoned iterator
            ahead: ClipBatch | None = None
            for batch in decoded:  # a batch is copied while the batch before is in use
                if ahead is not None:
                    yield self._upload.hand_over(ahead)
                ahead = batch
            if ahead is not None:
                yield self._upload.hand_over(ahead)

    def _in_process(self, plans: Iterator[BatchPlan]) -> Generator[ClipBatch, None, None]:
        for plan in plans:
            views = views_of(self._memory.take(), self.settings, len(plan.items))
            yield self._batch(views, decode_batch(self._reader, plan, views), None)

    def _in_workers(self, plans: Iterator[BatchPlan]) -> Generator[ClipBatch, None, None]:
        workers, ring = self._start()
        pending: deque[tuple[int, BatchPlan, list[Part]]] = deque()
        answers = workers.run(self._parts(plans, pending), self._ahead)
        try:
            for first in answers:
                slot, plan, parts = pending[0]
                decoded = _merge_parts(plan, parts, [first, *islice(answers, len(parts) - 1)])
                pending.popleft()
                memory = self._memory_of(ring, slot, len(pending))
                yield self._batch(views_of(memory, self.settings, len(plan.items)), decoded, slot)
        finally:
            answers.close()
            if self._upload is None:
                self._free.extend(slot for slot, _, _ in pending)

    def _memory_of(self, ring: SharedRing, slot: int, n_pending: int) -> npt.NDArray[np.uint8]:
        """Return a decoded batch: the slot itself where a GPU copies from it, or other slots suffice; else a copy.

        Args:
            n_pending: Number of other batches that were begun.
        """
        if self._upload is not None:
            return ring.slot(slot)
        most_tasks = TASKS_PER_WORKER * self._n_workers
        needed = self._batches_begun(most_tasks if self._ahead is None else min(most_tasks, self._ahead))
        if len(self._free) + n_pending >= needed:
            return ring.lend(slot, self._free.append)
        memory = self._memory.take()
        memory[:] = ring.slot(slot)[: len(memory)]
        self._free.append(slot)
        return memory

    def _batches_begun(self, most_tasks: int) -> int:
        """Most batches that are begun at a time: those with a part among the tasks of the workers.

        On the cores, the batch whose parts are being collected counts too.
        """
        return -(-(most_tasks + (self._n_parts - 1 if self._upload is None else 0)) // self._n_parts)

    def _parts(
        self, plans: Iterator[BatchPlan], pending: deque[tuple[int, BatchPlan, list[Part]]]
    ) -> Generator[Part, None, None]:
        for number, plan in enumerate(plans):
            n_clips = len(plan.items)
            if self._upload is None:
                slot = self._free.popleft()
            else:
                slot = number % self._n_slots
                self._upload.wait(slot)
            # A short batch has as many parts as the others, some of them empty: else more batches would be in flight.
            starts = range(0, self.settings.batch_size, self._part_clips)
            parts = [Part(plan.part(start, start + self._part_clips), slot, start, n_clips) for start in starts]
            pending.append((slot, plan, parts))
            yield from parts

    def _start(self) -> tuple[BatchWorkers[Part, DecodedPart | None], SharedRing]:
        if self._workers is None or self._ring is None:
            least = min(self._n_slots, _SPARE_SLOTS + 1)
            self._ring = SharedRing.that_fits(self._n_slots, least, batch_bytes(self.settings))
            if self._ring.n_slots < self._n_slots:
                self._n_slots = self._ring.n_slots
                self._ahead = (self._n_slots - _SPARE_SLOTS) * self._n_parts
            self._free = deque(range(self._n_slots))
            if self._upload is not None:
                self._upload.pin(self._ring)
            self._workers = BatchWorkers(partial(decode_part, self._reader, self._ring), self._n_workers)
        return self._workers, self._ring

    def _batch(self, views: dict[str, Pixels], decoded: DecodedPart, slot: int | None) -> ClipBatch:
        """Turn decoded clips into tensors on the stream's device."""
        self.count_skipped(decoded.skipped)
        items, facts = decoded.plan.items, self.provider.items
        tensors = {name: torch.from_numpy(frames) for name, frames in views.items()}
        labels = torch.from_numpy(facts.labels[items])
        if self._upload is not None:
            tensors, labels = self._upload.begin(tensors, labels, slot)
        channels_first = {name: frames.permute(0, 1, 4, 2, 3) for name, frames in tensors.items()}
        return ClipBatch(channels_first, labels, facts.keys[items].tolist(), decoded.plan)


class _Upload:
    """Copies of batches to a GPU, on a CUDA stream beside that of the model's kernels."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._copy_of_slot: dict[int | None, torch.cuda.Event] = {}
        self._in_flight: deque[torch.cuda.Event] = deque()

    def pin(self, ring: SharedRing) -> None:
        try:
            ring.pin()
        except PinningError as error:
            log.warning("%s: copies will be slower", error)

    def begin(
        self, views: dict[str, torch.Tensor], labels: torch.Tensor, slot: int | None
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        with torch.cuda.stream(self._stream):
            copies = {name: frames.to(self._device, non_blocking=True) for name, frames in views.items()}
            labels = labels.to(self._device, non_blocking=True)
            copied = self._copy_of_slot[slot] = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record(self._stream)
        self._in_flight.append(copied)
        return copies, labels

    def wait(self, slot: int) -> None:
        """Wait until nothing is copied from a slot any more."""
        if (event := self._copy_of_slot.pop(slot, None)) is not None:
            event.synchronize()

    def forget(self) -> None:
        """Drop the batches whose copy has begun; their slots are still waited for."""
        self._in_flight.clear()

    def finish(self) -> None:
        """Wait until nothing is copied any more."""
        self._stream.synchronize()
        self._copy_of_slot.clear()
        self.forget()

    def hand_over(self, batch: ClipBatch) -> ClipBatch:
        """Let the current CUDA stream use the batch whose copy began first, once the copy has ended."""
        torch.cuda.current_stream(self._device).wait_event(self._in_flight.popleft())
        batch.record_stream()
        return batch


def default_workers(device: torch.device, world_size: int = 1) -> int:
    """Choose a number of workers: one for each core of this process, less two for a process that drives a GPU."""
    if device.type != "cuda":
        return cores_of_rank(world_size, 0)
    return max(1, cores_of_rank(world_size, torch.cuda.device_count()) - 2)


def _merge_parts(plan: BatchPlan, parts: list[Part], answers: list[DecodedPart | None]) -> DecodedPart:
    """Merge the answers for the parts of a batch; None stands for a part that was decoded as planned."""
    if not any(answers):
        return DecodedPart(plan, [])
    plans = [part.plan if answer is None else answer.plan for part, answer in zip(parts, answers, strict=True)]
    return DecodedPart(BatchPlan.joined(plans), [reason for answer in answers if answer for reason in answer.skipped])
