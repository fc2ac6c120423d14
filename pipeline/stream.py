"""Clip streams: batches of decoded clips in an order that needs no state but {epoch, position}.

A `ClipStream` decides which items, frames, crops and flips make a batch (here, once for all decoders) and a decoder
turns the encoded bytes into pixels (`cpu_stream`, `dali_stream`).
"""

from __future__ import annotations

import abc
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self, TypedDict

import numpy as np
import numpy.typing as npt
import torch

from pipeline.augment import Augmentation, Boxes
from pipeline.clips import ClipProvider, EncodedClip, Indices
from pipeline.decode import decode_clip
from pipeline.dice import Purpose, below
from pipeline.errors import FrameDamagedError, SettingsError
from pipeline.sampling import View, epoch_order, rank_share

log = logging.getLogger(__name__)
MAX_REPLACEMENTS = 8


@dataclass(frozen=True)
class StreamSettings:
    """What a stream yields.

    Attributes:
        batch_size: clips of a batch, of each rank.
        views: of every clip; views of one clip share its crop and flip, and their common frames are read once.
        augmentation: from frames to the network's input.
        seed: fixes order, frames, crops and flips.
        shuffle: a new order each epoch; else the provider's order.
        drop_last: drop the items that don't fill a batch on every rank.
        rank: this process, from 0.
        world_size: processes that share an epoch.
        on_bad_frame: `raise`, or `skip`: another clip takes the place of one that doesn't decode.
    """

    batch_size: int = 32
    views: tuple[View, ...] = (View(),)
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0
    shuffle: bool = True
    drop_last: bool = False
    rank: int = 0
    world_size: int = 1
    on_bad_frame: str = "raise"

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise SettingsError(f"batch size {self.batch_size} is out of range; allowed: 1 or more")
        if not 0 <= self.rank < self.world_size:
            raise SettingsError(f"rank {self.rank} is out of range; allowed: 0 to {self.world_size - 1}")
        if self.on_bad_frame not in ("raise", "skip"):
            raise SettingsError(f"on_bad_frame {self.on_bad_frame!r} is not known; allowed: raise, skip")
        if not self.views or len({view.name for view in self.views}) != len(self.views):
            raise SettingsError("a stream needs at least one view, and their names must differ")


class StreamState(TypedDict):
    """All that a stream must remember: the epoch, and how many batches of it were yielded."""

    epoch: int
    position: int


@dataclass(frozen=True)
class BatchPlan:
    """Which pixels make a batch, before anything is read. B clips, V views.

    Attributes:
        epoch: that it belongs to.
        position: number of the batch in the epoch.
        items: (B,) of the provider.
        frames: view name -> (B, T) frame numbers within the item.
        boxes: (B, 4) left, top, width, height of the crop.
        flips: (B,) mirrored or not.
    """

    epoch: int
    position: int
    items: Indices
    frames: dict[str, Indices]
    boxes: Boxes
    flips: npt.NDArray[np.bool_]

    def distinct_frames(self, slot: int) -> Indices:
        """The frames that a clip's views need, in rising order, each once."""
        return np.unique(np.concatenate([frames[slot] for frames in self.frames.values()]))


@dataclass(frozen=True)
class ClipBatch:
    """Decoded clips.

    Attributes:
        views: view name -> (B, T, 3, H, W) uint8 RGB on the stream's device, channels last in memory.
        labels: (B,) int64 on the stream's device.
        keys: of the items.
        plan: what was decoded; after a replacement it names the clips that are really here.
    """

    views: dict[str, torch.Tensor]
    labels: torch.Tensor
    keys: list[str]
    plan: BatchPlan

    @property
    def frames(self) -> torch.Tensor:
        """The first view."""
        return next(iter(self.views.values()))


@dataclass(frozen=True)
class EncodedBatch:
    """A batch's bytes: of each clip the distinct frames that its views need, and where each view's frames are.

    Attributes:
        plan: of the batch.
        clips: B encoded clips, each of the distinct frames in rising order.
        gather: view name -> (B, T) index into the flat sequence of all clips' distinct frames.
        counts: (B,) distinct frames of each clip.
    """

    plan: BatchPlan
    clips: list[EncodedClip]
    gather: dict[str, Indices]
    counts: Indices


class ClipStream(abc.ABC):
    """An endless supply of epochs: each `for batch in stream` runs through what is left of the current one.

    Two streams with the same provider and settings yield the same items, frame numbers, crops and flips, whatever
    decodes them and with however many workers.
    """

    name: str

    def __init__(self, provider: ClipProvider, settings: StreamSettings, device: torch.device) -> None:
        self.provider = provider
        self.settings = settings
        self.device = device
        self.skipped = 0
        self._epoch = 0
        self._position = 0
        self._batches = self._deal()
        if not self._batches:
            raise SettingsError(
                f"{len(provider.items)} clips don't fill one batch of {settings.batch_size} on each of "
                f"{settings.world_size} processes; take a smaller batch or more clips"
            )

    # What a decoder has to provide.

    @abc.abstractmethod
    def _decode(self, plans: Iterator[BatchPlan]) -> Iterator[ClipBatch]:
        """Decode batches in order, ahead of their use as far as the decoder likes."""

    def close(self) -> None:  # noqa: B027 - a stream without workers has nothing to close
        """End the workers. The stream can't be used afterwards."""

    # What all streams share.

    def __len__(self) -> int:
        """Batches of an epoch; the same on every rank."""
        return len(self._batches)

    def __iter__(self) -> Iterator[ClipBatch]:
        """The batches that are left of the current epoch; then the next one is current."""
        epoch, start = self._epoch, self._position
        plans = (self.plan(epoch, position) for position in range(start, len(self._batches)))
        for batch in self._decode(plans):
            self._position = batch.plan.position + 1
            if self._position == len(self._batches):
                self._set(epoch + 1, 0)
            yield batch

    def state_dict(self) -> StreamState:
        """Where the stream stands: after the last batch that was yielded."""
        return {"epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: StreamState) -> None:
        """Go on from a state; the remaining batches are those that the saved stream would have yielded."""
        if state["epoch"] < 0 or not 0 <= state["position"] <= len(self._batches):
            raise SettingsError(f"stream state {dict(state)} is out of range; an epoch has {len(self._batches)} batches")
        if state["position"] == len(self._batches):
            self._set(state["epoch"] + 1, 0)
        else:
            self._set(state["epoch"], state["position"])

    def _set(self, epoch: int, position: int) -> None:
        if epoch != self._epoch:
            self._epoch = epoch
            self._batches = self._deal()
        self._position = position

    def _deal(self) -> list[Indices]:
        settings = self.settings
        order = epoch_order(len(self.provider.items), settings.seed, self._epoch, settings.shuffle)
        return rank_share(order, settings.rank, settings.world_size, settings.batch_size, settings.drop_last)

    def plan(self, epoch: int, position: int) -> BatchPlan:
        """The plan of a batch of the current epoch."""
        return self._plan_items(epoch, position, self._batches[position])

    def _plan_items(self, epoch: int, position: int, items: Indices) -> BatchPlan:
        facts, settings = self.provider.items, self.settings
        return BatchPlan(
            epoch=epoch,
            position=position,
            items=items,
            frames={v.name: v.frames(settings.seed, epoch, items, facts.n_frames[items]) for v in settings.views},
            boxes=settings.augmentation.boxes(settings.seed, epoch, items, facts.widths[items], facts.heights[items]),
            flips=settings.augmentation.flips(settings.seed, epoch, items),
        )

    def replaced(self, plan: BatchPlan, slot: int, attempt: int, error: FrameDamagedError) -> BatchPlan:
        """The plan with another item in one slot, since the one that was there doesn't decode.

        Which one is again a pure function of (seed, epoch, item), so that every run replaces alike.

        Raises:
            FrameDamagedError: the stream is to raise, or too many items in a row are bad.
        """
        if self.settings.on_bad_frame == "raise" or attempt >= MAX_REPLACEMENTS:
            raise error
        bad = int(plan.items[slot])
        substitute = below(len(self.provider.items), self.settings.seed, plan.epoch, Purpose.REPLACEMENT, bad, attempt)
        self.skipped += 1
        log.warning("clip skipped (%d so far): %s", self.skipped, error)
        items = plan.items.copy()
        items[slot] = int(substitute)
        return self._plan_items(plan.epoch, plan.position, items)

    def read_clip(self, plan: BatchPlan, slot: int) -> tuple[EncodedClip, dict[str, Indices]]:
        """The encoded distinct frames of one clip of a batch, and each view's places among them (T,)."""
        distinct = plan.distinct_frames(slot)
        clip = self.provider.read(int(plan.items[slot]), distinct)
        return clip, {name: np.searchsorted(distinct, frames[slot]) for name, frames in plan.frames.items()}

    def read_batch(self, plan: BatchPlan) -> EncodedBatch:
        """The bytes of a batch; clips whose bytes are damaged are replaced, if so asked."""
        clips: list[EncodedClip] = []
        places: dict[str, list[Indices]] = {name: [] for name in plan.frames}
        counts: list[int] = []
        for slot in range(len(plan.items)):
            attempt = 0
            while True:
                try:
                    clip, of_view = self.read_clip(plan, slot)
                    break
                except FrameDamagedError as error:
                    plan = self.replaced(plan, slot, attempt, error)
                    attempt += 1
            clips.append(clip)
            for name, of_clip in of_view.items():
                places[name].append(of_clip + sum(counts))
            counts.append(len(clip.unit))
        gather = {name: np.array(rows, np.int64).reshape(len(clips), -1) for name, rows in places.items()}
        return EncodedBatch(plan, clips, gather, np.array(counts, np.int64))

    def check_batch(self, batch: EncodedBatch) -> None:
        """Decode a batch on the CPU, to find the frame that another decoder failed on.

        Raises:
            FrameDamagedError: names it.
        """
        facts = self.provider.items
        for slot, clip in enumerate(batch.clips):
            item = int(batch.plan.items[slot])
            distinct = batch.plan.distinct_frames(slot)

            def where(place: int, item: int = item, distinct: Indices = distinct) -> str:
                return self.provider.where(item, int(distinct[place]))

            decode_clip(clip, int(facts.widths[item]), int(facts.heights[item]), where)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
