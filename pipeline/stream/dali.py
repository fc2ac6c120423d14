"""The clip stream on NVIDIA DALI: encoded frames go in as one flat list, square uint8 frames come out on the GPU.

Two pipelines share a batch's frames by `cpu_share`: one decodes on the GPU (JPEG engines or CUDA kernels), one on the
cores. Both crop, resize and mirror on the GPU. Where there are enough cores, decoding on them slows training least; the
engines are for GPUs with few cores (`vclimb.pipeline.stream.choose`, docs/performance.md).
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from vclimb.pipeline.clips.provider import ClipProvider
from vclimb.pipeline.errors import FrameDamagedError, VclimbError
from vclimb.pipeline.stream.batches import BatchPlan, StreamSettings
from vclimb.pipeline.stream.clip_batch import ClipBatch
from vclimb.pipeline.stream.clip_reader import ClipReader
from vclimb.pipeline.stream.clip_stream import ClipStream
from vclimb.pipeline.stream.dali_pipeline import DaliPipeline, DaliSettings, EncodedShare, empty_share, import_dali
from vclimb.pipeline.stream.packing import PackedBatch, pack_batch
from vclimb.pipeline.stream.workers import BatchWorkers
from vclimb.pipeline.system.interrupts import interrupts_held

PREFETCHED_BATCHES = 3


class DaliClipStream(ClipStream):
    """Decodes with DALI. At most `PREFETCHED_BATCHES` decoded batches are ahead, and `IN_DALI` more within DALI.

    One thread drives DALI, so that the training thread only takes finished batches.

    Args:
        provider: Provider of the encoded frames. DALI decodes JPEG and PPM; `DaliSettings.readers` decode the rest.
        device: `cuda[:n]`, or `cpu` for DALI's CPU pipeline.

    Raises:
        SettingsError: DALI isn't installed.
    """

    name = "dali"

    def __init__(
        self,
        provider: ClipProvider,
        settings: StreamSettings,
        device: torch.device | str = "cuda",
        dali: DaliSettings | None = None,
    ) -> None:
        super().__init__(provider, settings, torch.device(device))
        import_dali()
        self.dali = dali or DaliSettings()
        self._reader = ClipReader(provider, settings)
        self._workers = BatchWorkers(partial(pack_batch, self._reader), self.dali.readers)
        self._most_frames = settings.batch_size * sum(view.n_frames for view in settings.views)
        self._pipelines: list[DaliPipeline] | None = None
        self._stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._stop = threading.Event()

    def close(self) -> None:
        super().close()
        self._drop_pipelines()
        self._workers.close()

    def _drop_pipelines(self) -> None:
        for pipeline in self._pipelines or ():
            pipeline.close()
        self._pipelines = None

    def _decode(self, plans: Iterator[BatchPlan]) -> Generator[ClipBatch, None, None]:
        self._stop.clear()
        ready: queue.Queue[ClipBatch | BaseException | None] = queue.Queue(PREFETCHED_BATCHES)
        driver = threading.Thread(target=self._drive, args=(plans, ready), name="dali", daemon=True)
        try:
            with interrupts_held():  # else it may run unnoticed, and nobody would stop it
                driver.start()
            while (batch := ready.get()) is not None:
                if isinstance(batch, BaseException):
                    raise batch
                if self.device.type == "cuda":
                    batch.record_stream()
                yield batch
        finally:
            self._stop.set()
            while driver.is_alive():
                _drain(ready)
                driver.join(0.01)

    def _drive(self, plans: Iterator[BatchPlan], ready: queue.Queue[ClipBatch | BaseException | None]) -> None:
        """Collect batches until the plans end or the stream is stopped. Runs in DALI's thread."""
        packed = self._workers.run(plans)
        feed = _Feed(packed)
        try:
            with closing(packed):  # an error may keep the generator alive, which must not go on reading
                pipelines = self._pipelines = self._pipelines or self._build()
                for number, pipeline in enumerate(pipelines):
                    pipeline.start(partial(self._next_share, feed, pipelines, number))
                while not self._stop.is_set() and (batch := self._collect(pipelines, feed)) is not None:
                    ready.put(batch)
        except BaseException as error:
            self._drop_pipelines()  # a pipeline that failed can't be run again
            ready.put(self._explained(error, feed))
            return
        if self._stop.is_set():
            self._drop_pipelines()  # drop the batches that are still in DALI
        ready.put(None)

    def _build(self) -> list[DaliPipeline]:
        share = self.dali.cpu_share if self.device.type == "cuda" else 1.0
        shares = ([("mixed", 1 - share)] if share < 1 else []) + ([("cpu", share)] if share > 0 else [])
        size = self.settings.augmentation.size
        return [DaliPipeline(where, part, self._most_frames, size, self.device, self.dali) for where, part in shares]

    def _next_share(self, feed: _Feed, pipelines: list[DaliPipeline], number: int) -> EncodedShare:
        """Take a pipeline's share of the batch that follows the last one it got."""
        batch = feed.next_for(number)
        if not len(batch.frames):
            return empty_share()
        start, stop = _share_frames(len(batch.frames), pipelines)[number]
        if start == stop:  # a pipeline takes no empty batch: decode a frame in vain
            start, stop = 0, 1
        counts = batch.counts.reshape(-1)
        boxes = np.repeat(batch.plan.boxes.reshape(-1, 4), counts, axis=0)[start:stop].astype(np.int32)
        flips = np.repeat(batch.plan.flips.reshape(-1), counts)[start:stop].astype(np.int32)
        top_left, sides = np.ascontiguousarray(boxes[:, [1, 0]]), np.ascontiguousarray(boxes[:, [3, 2]])
        return batch.frames.part(start, stop), top_left, top_left + sides, flips

    def _collect(self, pipelines: list[DaliPipeline], feed: _Feed) -> ClipBatch | None:
        """Assemble the next batch that all pipelines have decoded; None after the last."""
        size = self.settings.augmentation.size
        with _on_stream(self._stream):
            parts = [pipeline.outputs() for pipeline in pipelines]
            if not feed.in_flight:
                return None
            batch = feed.in_flight.popleft()
            shares = _share_frames(len(batch.frames), pipelines)
            flat = torch.cat(  # a copy also of a single share, because DALI reuses its memory
                [p[: stop - start] for p, (start, stop) in zip(parts, shares, strict=True) if p is not None]
            )
            views = {}
            for name, index in batch.gather.items():
                frames = flat if index is None else flat[torch.from_numpy(index.reshape(-1)).to(self.device)]
                shape = batch.plan.frames[name].shape
                views[name] = frames.view(*shape, size, size, 3).permute(0, 1, 4, 2, 3)
            items, facts = batch.plan.items, self.provider.items
            labels = torch.from_numpy(facts.labels[items]).to(self.device)
        self.count_skipped(batch.skipped)
        return ClipBatch(views, labels, facts.keys[items].tolist(), batch.plan)

    def _explained(self, error: BaseException, feed: _Feed) -> BaseException:
        """Find the frame on which DALI failed, which it doesn't name, by decoding the batches in flight on the CPU."""
        if isinstance(error, VclimbError):
            return error
        for batch in feed.in_flight:
            try:
                for slot in range(len(batch.plan.items)):
                    self._reader.decode(self._reader.read(batch.plan, slot))
            except FrameDamagedError as damaged:
                return damaged
            except Exception:  # for example, the file is gone: the first error says more
                return error
        return error


class _Feed:
    """Packed batches, which every pipeline gets in the same order.

    Attributes:
        in_flight: Batches that a pipeline has got and that aren't collected yet.
    """

    def __init__(self, batches: Iterator[PackedBatch]) -> None:
        self._batches = batches
        self._given: dict[int, int] = {}
        self._n_taken = 0
        self.in_flight: deque[PackedBatch] = deque()

    def next_for(self, pipeline: int) -> PackedBatch:
        """Return the batch after the last one that a pipeline got. Raises StopIteration after the last batch."""
        number = self._given.get(pipeline, 0)
        if number == self._n_taken:
            self.in_flight.append(next(self._batches))
            self._n_taken += 1
        self._given[pipeline] = number + 1
        return self.in_flight[number - self._n_taken]


def _share_frames(n_frames: int, pipelines: list[DaliPipeline]) -> list[tuple[int, int]]:
    """Share the frames of a batch among pipelines: [start, stop) for each."""
    bounds = np.rint(np.cumsum([0.0, *(pipeline.share for pipeline in pipelines)]) * n_frames).astype(int).tolist()
    return list(pairwise(bounds))


@contextmanager
def _on_stream(stream: torch.cuda.Stream | None) -> Iterator[None]:
    """Run the block on a CUDA stream beside the model's kernels, and wait for its end. Runs off the main thread."""
    if stream is None:
        yield
        return
    with torch.cuda.stream(stream):
        yield
    stream.synchronize()


def _drain(ready: queue.Queue[Any]) -> None:
    with suppress(queue.Empty):
        while True:
            ready.get_nowait()
