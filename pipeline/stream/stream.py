"""Clip streams: batches of decoded clips in an order that needs no state but {epoch, position}.

A `ClipStream` decides which items, frames, crops and flips make a batch (here, once for all decoders) and a decoder
turns the encoded bytes into pixels (`cpu_stream`, `dali_stream`).
"""

from __future__ import annotations

import abc
import logging
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from inspect import GEN_CLOSED, getgeneratorstate
from itertools import pairwise
from typing import Self, TypedDict

import numpy as np
import numpy.typing as npt
import torch

from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.clips.augment import Augmentation, Boxes
from vclimb.pipeline.clips.provider import ClipProvider, Items
from vclimb.pipeline.clips.sampling import View, epoch_order, rank_share
from vclimb.pipeline.errors import SettingsError

log = logging.getLogger(__name__)

# Batches that are planned in one go: the numbers of a few clips take NumPy as long as those of a few hundred, and it
# is the process that trains that waits for them.
_PLANNED_BATCHES = 16


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
        across_epochs: decode the next epoch's first batches ahead while one ends, so that training doesn't wait
            there; what is ahead when the last epoch ends was decoded for nothing.
        close_after_epoch: Whether the workers end whenever an iterator does, rather than with `close` alone.
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
    across_epochs: bool = False
    close_after_epoch: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise SettingsError(f"batch size {self.batch_size} is out of range; allowed: 1 or more")
        if not 0 <= self.rank < self.world_size:
            raise SettingsError(f"rank {self.rank} is out of range; allowed: 0 to {self.world_size - 1}")
        if self.on_bad_frame not in ("raise", "skip"):
            raise SettingsError(f"on_bad_frame {self.on_bad_frame!r} is not known; allowed: raise, skip")
        if self.across_epochs and self.close_after_epoch:
            raise SettingsError("across_epochs and close_after_epoch exclude each other; set one of them")
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

    def part(self, start: int, stop: int) -> BatchPlan:
        """The clips [start, stop) of the batch."""
        frames = {name: numbers[start:stop] for name, numbers in self.frames.items()}
        return replace(
            self,
            items=self.items[start:stop],
            frames=frames,
            boxes=self.boxes[start:stop],
            flips=self.flips[start:stop],
        )

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


def plan_items(items: Items, settings: StreamSettings, epoch: int, position: int, chosen: Indices) -> BatchPlan:
    """The plan of a batch of chosen items (B,). A pure function of its arguments."""
    seed, crop = settings.seed, settings.augmentation
    return BatchPlan(
        epoch=epoch,
        position=position,
        items=chosen,
        frames={view.name: view.frames(seed, epoch, chosen, items.n_frames[chosen]) for view in settings.views},
        boxes=crop.boxes(seed, epoch, chosen, items.widths[chosen], items.heights[chosen]),
        flips=crop.flips(seed, epoch, chosen),
    )


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
        self._batches = self._deal(0)
        self._decoding: Generator[ClipBatch, None, None] | None = None
        self._iterators = 0
        if not self._batches:
            raise SettingsError(
                f"{len(provider.items)} clips don't fill one batch of {settings.batch_size} on each of "
                f"{settings.world_size} processes; take a smaller batch or more clips"
            )

    # What a decoder has to provide.

    @abc.abstractmethod
    def _decode(self, plans: Iterator[BatchPlan]) -> Generator[ClipBatch, None, None]:
        """Decode batches in order, ahead of their use as far as the decoder likes."""

    def close(self) -> None:
        """End the workers, and the iterator that is under way. They start again if the stream is used again."""
        self._leave()

    # What all streams share.

    def __len__(self) -> int:
        """Batches of an epoch; the same on every rank."""
        return len(self._batches)

    def __iter__(self) -> Generator[ClipBatch, None, None]:
        """The batches that are left of the current epoch; then the next one is current.

        A stream has one iterator at a time: a new one, or another state, ends the one before.
        """
        if self._decoding is None or getgeneratorstate(self._decoding) == GEN_CLOSED or not self.settings.across_epochs:
            self._leave()
            self._decoding = self._decode(self.plans(self._epoch, self._position))
        self._iterators += 1
        mine, epoch, decoding = self._iterators, self._epoch, self._decoding
        try:
            while mine == self._iterators and epoch == self._epoch and (batch := next(decoding, None)) is not None:
                if batch.plan.position + 1 == len(self._batches):
                    self._set(epoch + 1, 0)
                else:
                    self._position = batch.plan.position + 1
                yield batch
        finally:
            if not self.settings.across_epochs:
                decoding.close()
            if self.settings.close_after_epoch and mine == self._iterators:
                self.close()

    def state_dict(self) -> StreamState:
        """Where the stream stands: after the last batch that was yielded."""
        return {"epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: StreamState) -> None:
        """Go on from a state; the remaining batches are those that the saved stream would have yielded."""
        if state["epoch"] < 0 or not 0 <= state["position"] <= len(self._batches):
            raise SettingsError(
                f"stream state {dict(state)} is out of range; an epoch has {len(self._batches)} batches"
            )
        self._leave()
        if state["position"] == len(self._batches):
            self._set(state["epoch"] + 1, 0)
        else:
            self._set(state["epoch"], state["position"])

    def _leave(self) -> None:
        """End the iterator that is under way: what was decoded ahead for it is dropped."""
        self._iterators += 1
        if self._decoding is not None:
            self._decoding.close()
            self._decoding = None

    def _set(self, epoch: int, position: int) -> None:
        if epoch != self._epoch:
            self._epoch = epoch
            self._batches = self._deal(epoch)
        self._position = position

    def _deal(self, epoch: int) -> list[Indices]:
        settings = self.settings
        order = epoch_order(len(self.provider.items), settings.seed, epoch, settings.shuffle)
        return rank_share(order, settings.rank, settings.world_size, settings.batch_size, settings.drop_last)

    def plans(self, epoch: int, start: int) -> Iterator[BatchPlan]:
        """Of the rest of an epoch, and of all that follow it where the stream decodes across epochs."""
        while True:
            batches = self._deal(epoch)
            for first in range(start, len(batches), _PLANNED_BATCHES):
                chosen = batches[first : first + _PLANNED_BATCHES]
                together = plan_items(self.provider.items, self.settings, epoch, first, np.concatenate(chosen))
                bounds = np.cumsum([0, *map(len, chosen)]).tolist()
                for position, (begin, end) in enumerate(pairwise(bounds), first):
                    yield replace(together.part(begin, end), position=position)
            if not self.settings.across_epochs:
                return
            epoch, start = epoch + 1, 0

    def count_skipped(self, skipped: Sequence[str]) -> None:
        """Log clips that were replaced, and count them."""
        for reason in skipped:
            self.skipped += 1
            log.warning("clip skipped (%d so far): %s", self.skipped, reason)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
