"""The clip stream on NVIDIA DALI: encoded frames go in as one flat list, square uint8 frames come out on the GPU.

A batch's frames are dealt to two pipelines by `cpu_share`, `gpu` (the JPEG engines, or CUDA kernels) and `cpu` (the
cores). Both crop, resize and mirror on the GPU. Where there are cores enough, decoding on them costs a model that
trains the least; the engines are for GPUs with few cores (`vclimb.pipeline.stream.choose`, docs/performance.md).
"""

from __future__ import annotations

import importlib
import math
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
import torch
import torch.utils.dlpack

from vclimb.pipeline.clips.provider import ClipProvider
from vclimb.pipeline.errors import FrameDamagedError, SettingsError, VclimbError
from vclimb.pipeline.stream.clip_reader import ClipReader
from vclimb.pipeline.stream.packing import BatchPacker, Bytes, PackedBatch
from vclimb.pipeline.stream.stream import BatchPlan, ClipBatch, ClipStream, StreamSettings
from vclimb.pipeline.stream.workers import BatchWorkers
from vclimb.pipeline.system.interrupts import interrupts_held

PREFETCHED_BATCHES = 3
IN_DALI = 2

_Part = tuple[Bytes | list[Bytes], npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32]]
"""Encoded frames, n or (n, longest); crop from (n, 2) and to (n, 2), as rows and columns; mirrored or not (n,)."""


@dataclass(frozen=True)
class DaliSettings:
    """How DALI decodes.

    Attributes:
        cpu_share: share of the frames that the cores decode; the rest goes to the GPU. 1 without a GPU.
        hw_decoder_load: share of the GPU's frames that its JPEG engines take; CUDA kernels decode the rest.
        threads: of each pipeline.
        readers: processes that read and pack encoded frames, and decode those that DALI doesn't take; 0 reads in
            DALI's own thread.
    """

    cpu_share: float = 1.0
    hw_decoder_load: float = 1.0
    threads: int = 8
    readers: int = 2

    def __post_init__(self) -> None:
        for name in ("cpu_share", "hw_decoder_load"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingsError(f"{name} {getattr(self, name)} is out of range; allowed: 0 to 1")


class DaliClipStream(ClipStream):
    """Decodes with DALI; holds `PREFETCHED_BATCHES` decoded batches, and two more within DALI, at most.

    All of DALI is driven by one thread, so that the thread that trains only takes finished batches.

    Args:
        provider: of encoded frames. DALI decodes JPEG and PPM; `DaliSettings.readers` decode other codecs before it.
        settings: what to yield.
        device: `cuda[:n]`, or `cpu` for DALI's CPU pipeline.
        dali: where frames are decoded.

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
        _import_dali()
        self.dali = dali or DaliSettings()
        self._reader = ClipReader(provider, settings)
        self._workers = BatchWorkers(BatchPacker(self._reader), self.dali.readers)
        self._most_frames = settings.batch_size * sum(view.n_frames for view in settings.views)
        self._lanes: list[_Lane] | None = None
        self._stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._stop = threading.Event()

    def close(self) -> None:
        super().close()
        self._drop_lanes()
        self._workers.close()

    def _drop_lanes(self) -> None:
        for lane in self._lanes or ():
            lane.close()
        self._lanes = None

    def _decode(self, plans: Iterator[BatchPlan]) -> Generator[ClipBatch, None, None]:
        self._stop.clear()
        ready: queue.Queue[ClipBatch | BaseException | None] = queue.Queue(PREFETCHED_BATCHES)
        driver = threading.Thread(target=self._drive, args=(plans, ready), name="dali", daemon=True)
        try:
            with interrupts_held():  # else it may run without our knowing, and nobody would stop it
                driver.start()
            while (batch := ready.get()) is not None:
                if isinstance(batch, BaseException):
                    raise batch
                if self.device.type == "cuda":
                    _hand_over(batch, self.device)
                yield batch
        finally:
            self._stop.set()
            while driver.is_alive():
                _drain(ready)
                driver.join(0.01)

    def _drive(self, plans: Iterator[BatchPlan], ready: queue.Queue[ClipBatch | BaseException | None]) -> None:
        """Collect batches until the plans end or the stream is stopped."""
        packed = self._workers.run(plans)
        feed = _Feed(packed)
        try:
            with closing(packed):  # what an error still holds on to must not go on reading
                lanes = self._lanes = self._lanes or self._build()
                for number, lane in enumerate(lanes):
                    lane.start(partial(self._next_part, feed, lanes, number))
                while not self._stop.is_set() and (batch := self._collect(lanes, feed)) is not None:
                    ready.put(batch)
        except BaseException as error:
            self._drop_lanes()  # a pipeline that failed can't be run again
            ready.put(self._explained(error, feed))
            return
        if self._stop.is_set():
            self._drop_lanes()  # what is still in DALI belongs to nobody
        ready.put(None)

    def _build(self) -> list[_Lane]:
        share = self.dali.cpu_share if self.device.type == "cuda" else 1.0
        places = ([("mixed", 1 - share)] if share < 1 else []) + ([("cpu", share)] if share > 0 else [])
        size = self.settings.augmentation.size
        return [_Lane(where, part, self._most_frames, size, self.device, self.dali) for where, part in places]

    def _next_part(self, feed: _Feed, lanes: list[_Lane], number: int) -> _Part:
        """What a lane decodes next: its share of the batch that follows the one it got last."""
        batch = feed.next_for(number)
        if not len(batch.frames):
            return _nothing()
        start, stop = _deal(len(batch.frames), lanes)[number]
        if start == stop:  # a pipeline takes no empty batch: decode a frame for nothing
            start, stop = 0, 1
        boxes = np.repeat(batch.plan.boxes, batch.counts, axis=0)[start:stop].astype(np.int32)
        flips = np.repeat(batch.plan.flips, batch.counts)[start:stop].astype(np.int32)
        top_left, sides = np.ascontiguousarray(boxes[:, [1, 0]]), np.ascontiguousarray(boxes[:, [3, 2]])
        return batch.frames.part(start, stop), top_left, top_left + sides, flips

    def _collect(self, lanes: list[_Lane], feed: _Feed) -> ClipBatch | None:
        """The next batch that all lanes have decoded; None after the last."""
        size = self.settings.augmentation.size
        with _beside(self._stream):
            parts = [lane.outputs() for lane in lanes]
            if not feed.under_way:
                return None
            batch = feed.under_way.popleft()
            shares = _deal(len(batch.frames), lanes)
            flat = torch.cat(  # a copy, also of one part: what DALI shows is its own memory
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
        """DALI doesn't say which sample it failed on: decode the batches under way on the CPU to find it."""
        if isinstance(error, VclimbError):
            return error
        for batch in feed.under_way:
            try:
                for slot in range(len(batch.plan.items)):
                    self._reader.decode(self._reader.read(batch.plan, slot))
            except FrameDamagedError as found:
                return found
            except Exception:  # the file is gone, say: the first error tells more
                return error
        return error


class _Lane:
    """One DALI pipeline: encoded frames, boxes and flips in, square frames out."""

    def __init__(
        self, decode_on: str, part: float, most_frames: int, size: int, device: torch.device, settings: DaliSettings
    ) -> None:
        dali = _import_dali()
        fn, types = dali.fn, dali.types
        self.part = part
        self._on_gpu = device.type == "cuda"
        decoder: dict[str, Any] = {"device": decode_on, "output_type": types.RGB, "jpeg_fancy_upsampling": True}
        if decode_on == "mixed":
            decoder["hw_decoder_load"] = settings.hw_decoder_load

        @dali.pipeline_def(  # type: ignore[untyped-decorator]
            batch_size=max(1, math.ceil(most_frames * part) + 1),
            num_threads=settings.threads,
            device_id=(device.index or 0) if self._on_gpu else None,
            prefetch_queue_depth=IN_DALI,
        )
        def frames() -> Any:
            encoded, start, end, mirror = fn.external_source(self._source, num_outputs=4, batch=True)
            pictures = fn.decoders.image(encoded, **decoder)
            if self._on_gpu and decode_on == "cpu":
                pictures = fn.slice(pictures, start=start, end=end, axes=(0, 1)).gpu()
            else:
                pictures = fn.slice(pictures, start=start, end=end, axes=(0, 1))
            pictures = fn.resize(pictures, size=(size, size), interp_type=types.INTERP_LINEAR, antialias=True)
            return fn.flip(pictures, horizontal=mirror)

        self._pipeline = frames()
        self._pipeline.build()
        self._shown: Any = None
        self._next: Callable[[], _Part] | None = None

    def start(self, next_part: Callable[[], _Part]) -> None:
        """Begin an epoch: `next_part` gives what to decode, and raises StopIteration at the end."""
        self._next = next_part
        self._pipeline.reset()

    def _source(self) -> _Part:
        assert self._next is not None
        return self._next()

    def close(self) -> None:
        """Give back threads and buffers at once: the pipeline and this object hold each other."""
        self._shown = self._pipeline = None

    def outputs(self) -> torch.Tensor | None:
        """The next frames: (n, size, size, 3) uint8 in DALI's own memory, theirs until the next call. None at the end.

        DALI writes other frames there as soon as nobody holds its object, and doesn't wait for what torch has only
        been told to do with it: copies must have ended before the next call.
        """
        try:
            (self._shown,) = self._pipeline.run()
        except StopIteration:
            self._shown = None
            return None
        return torch.utils.dlpack.from_dlpack(self._shown.as_tensor())


class _Feed:
    """Packed batches, given to every lane in order.

    Attributes:
        under_way: batches that a lane has been given and that aren't collected yet.
    """

    def __init__(self, batches: Iterator[PackedBatch]) -> None:
        self._batches = batches
        self._given: dict[int, int] = {}
        self._n_taken = 0
        self.under_way: deque[PackedBatch] = deque()

    def next_for(self, lane: int) -> PackedBatch:
        """The batch after the one that a lane got last. Raises StopIteration after the last."""
        number = self._given.get(lane, 0)
        if number == self._n_taken:
            self.under_way.append(next(self._batches))
            self._n_taken += 1
        self._given[lane] = number + 1
        return self.under_way[number - self._n_taken]


def _nothing() -> _Part:
    """A frame to decode for nothing, for a batch without clips: a pipeline takes no empty one."""
    encoded = simplejpeg.encode_jpeg(np.zeros((8, 8, 3), np.uint8))
    corner, sides = np.zeros((1, 2), np.int32), np.full((1, 2), 8, np.int32)
    return np.frombuffer(encoded, np.uint8)[None], corner, sides, np.zeros(1, np.int32)


def _deal(n_frames: int, lanes: list[_Lane]) -> list[tuple[int, int]]:
    """Which frames [start, stop) of a batch each lane decodes."""
    bounds = np.rint(np.cumsum([0.0, *(lane.part for lane in lanes)]) * n_frames).astype(int).tolist()
    return list(pairwise(bounds))


@contextmanager
def _beside(stream: torch.cuda.Stream | None) -> Iterator[None]:
    """Work that doesn't queue behind the model's kernels; its end is waited for on the host, off the main thread."""
    if stream is None:
        yield
        return
    with torch.cuda.stream(stream):
        yield
    stream.synchronize()


def _hand_over(batch: ClipBatch, device: torch.device) -> None:
    """Tell the allocator that the stream in use here reads tensors that were made on another one."""
    stream = torch.cuda.current_stream(device)
    for tensor in (*batch.views.values(), batch.labels):
        tensor.record_stream(stream)


def _import_dali() -> Any:
    """DALI, untyped: its stubs lack the names that it makes when it is imported."""
    try:
        return importlib.import_module("nvidia.dali")
    except ImportError as error:
        raise SettingsError(
            f"the decoder dali needs NVIDIA DALI ({error}); install nvidia-dali-cuda130, or use the decoder cpu"
        ) from None


def _drain(ready: queue.Queue[Any]) -> None:
    with suppress(queue.Empty):
        while True:
            ready.get_nowait()
