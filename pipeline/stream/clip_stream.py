"""The interface of clip streams, and the order of their batches, whose only state is {epoch, position}.

A `ClipStream` decides which items, frames, crops and flips make a batch, once for all decoders. A decoder turns the
encoded bytes into pixels: `cpu`, `dali`.
"""

from __future__ import annotations

import abc
import logging
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from inspect import GEN_CLOSED, getgeneratorstate
from itertools import pairwise
from typing import Self, TypedDict

import numpy as np
import torch

from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.clips.provider import ClipProvider
from vclimb.pipeline.clips.sampling import epoch_order, first_uses, grouped_order, rank_share
from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.stream.batches import BatchPlan, StreamSettings, plan_items
from vclimb.pipeline.stream.clip_batch import ClipBatch
from vclimb.pipeline.stream.colours import changed_colours

log = logging.getLogger(__name__)

# Batches that are planned at a time: NumPy takes as long for the numbers of a few clips as for those of a few hundred,
# and the process that trains waits for it.
_PLANNED_BATCHES = 16
_SHARDS_AHEAD = 4  # shards that are fetched before they are needed, where no group of shards says how many


class StreamState(TypedDict):
    """Position of a stream."""

    epoch: int
    position: int  # Number of batches that the epoch has yielded.


class ClipStream(abc.ABC):
    """An endless sequence of epochs: each `for batch in stream` yields the remaining batches of the current epoch.

    Streams with the same provider and settings yield the same items, frame numbers, crops and flips, with any decoder
    and any number of workers.

    Attributes:
        skipped: Number of damaged clips that were replaced.
    """

    name: str

    def __init__(self, provider: ClipProvider, settings: StreamSettings, device: torch.device) -> None:
        self.provider = provider
        self.settings = settings
        self.device = device
        self.skipped = 0
        self._epoch = 0
        self._position = 0
        self._n_batches = len(self._deal())
        self._decoding: Generator[ClipBatch, None, None] | None = None
        self._iterators = 0
        if not self._n_batches:
            raise SettingsError(
                f"{len(provider.items)} clips don't fill one batch of {settings.batch_size} on each of "
                f"{settings.world_size} processes; take a smaller batch or more clips"
            )

    # To be implemented by a decoder.

    @abc.abstractmethod
    def _decode(self, plans: Iterator[BatchPlan]) -> Generator[ClipBatch, None, None]:
        """Decode batches in order, ahead of their use as far as the decoder likes."""

    def close(self) -> None:
        """End the workers and the current iterator. The workers start again if the stream is used again."""
        self._leave()

    # Shared by all decoders.

    def __len__(self) -> int:
        """Number of batches in an epoch, the same on every rank."""
        return self._n_batches

    @property
    def n_clips(self) -> int:
        """Number of clips in an epoch, on all ranks together; where the last ones are dropped, with these."""
        return len(self.provider.items) if self.settings.mixing is None else self.settings.mixing.n_clips

    def __iter__(self) -> Generator[ClipBatch, None, None]:
        """Yield the remaining batches of the current epoch, and make the next epoch the current one.

        A stream has one iterator at a time: a new iterator, or another state, ends the one before.
        """
        if self._decoding is None or getgeneratorstate(self._decoding) == GEN_CLOSED or not self.settings.across_epochs:
            self._leave()
            self._decoding = self._decode(self.plans(self._epoch, self._position))
        self._iterators += 1
        iterator, epoch, decoding = self._iterators, self._epoch, self._decoding
        try:
            while iterator == self._iterators and epoch == self._epoch and (batch := next(decoding, None)) is not None:
                if batch.plan.position + 1 == self._n_batches:
                    self._set(epoch + 1, 0)
                else:
                    self._position = batch.plan.position + 1
                yield changed_colours(batch, self.settings)
        finally:
            if not self.settings.across_epochs:
                decoding.close()
            if self.settings.close_after_epoch and iterator == self._iterators:
                self.close()

    def state_dict(self) -> StreamState:
        """Return the position after the last batch that was yielded."""
        return {"epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: StreamState) -> None:
        """Continue from a state: the remaining batches are those that the saved stream would have yielded.

        Raises:
            SettingsError: The state lies outside an epoch.
        """
        if state["epoch"] < 0 or not 0 <= state["position"] <= self._n_batches:
            raise SettingsError(f"stream state {dict(state)} is out of range; an epoch has {self._n_batches} batches")
        self._leave()
        if state["position"] == self._n_batches:
            self._set(state["epoch"] + 1, 0)
        else:
            self._set(state["epoch"], state["position"])

    def _leave(self) -> None:
        """End the current iterator, and drop the batches that were decoded ahead for it."""
        self._iterators += 1
        if self._decoding is not None:
            self._decoding.close()
            self._decoding = None

    def _set(self, epoch: int, position: int) -> None:
        self._epoch, self._position = epoch, position

    def _deal(self) -> list[Indices]:
        """Deal out the places of an epoch's order: those of each batch of this rank, the same in every epoch."""
        settings, places = self.settings, np.arange(self.n_clips)
        return rank_share(places, settings.rank, settings.world_size, settings.batch_size, settings.drop_last)

    def _order(self, epoch: int) -> tuple[Indices, Indices]:
        """Order the clips of an epoch: their items, and the epochs that their draws are those of."""
        settings, mixing, items = self.settings, self.settings.mixing, self.provider.items
        n_new = len(items) if mixing is None else mixing.n_new
        if settings.shuffle and settings.shard_group:
            order = grouped_order(items.shards[:n_new], settings.seed, epoch, settings.shard_group)
        else:
            order = epoch_order(n_new, settings.seed, epoch, settings.shuffle)
        if mixing is None:
            return order, np.full(n_new, epoch)
        return mixing.order(order, len(items), settings.seed, epoch)

    def plans(self, epoch: int, start: int) -> Iterator[BatchPlan]:
        """Plan the batches of an epoch from a position, and of all later epochs where the stream runs across epochs."""
        while True:
            batches, (items, rounds) = self._deal(), self._order(epoch)
            shards, first_batches = self._shards_of(items)
            n_ahead = self.settings.shard_group or _SHARDS_AHEAD
            fetched = max(0, int(np.searchsorted(first_batches, start)) - n_ahead)
            for first in range(start, len(batches), _PLANNED_BATCHES):
                chosen = batches[first : first + _PLANNED_BATCHES]
                wanted = int(np.searchsorted(first_batches, first + len(chosen))) + n_ahead
                self.provider.fetch_ahead(shards[fetched:wanted].tolist())
                fetched = max(fetched, wanted)
                places = np.concatenate(chosen)
                together = plan_items(self.provider.items, self.settings, epoch, first, items[places], rounds[places])
                bounds = np.cumsum([0, *map(len, chosen)]).tolist()
                for position, (begin, end) in enumerate(pairwise(bounds), first):
                    yield replace(together.part(begin, end), position=position)
            if not self.settings.across_epochs:
                return
            epoch, start = epoch + 1, 0

    def _shards_of(self, items: Indices) -> tuple[Indices, Indices]:
        """List the shards of items in the order of their use, and the number of the batch that needs each first."""
        shards, places = first_uses(self.provider.items.shards[items])
        return shards, places // (self.settings.batch_size * self.settings.world_size)

    def count_skipped(self, skipped: Sequence[str]) -> None:
        """Log and count clips that were replaced."""
        for reason in skipped:
            self.skipped += 1
            log.warning("clip skipped (%d so far): %s", self.skipped, reason)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
