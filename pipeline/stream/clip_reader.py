"""Reading of single clips, with replacement of damaged ones. Worker processes receive a reader by pickle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np

from vclimb.pipeline.arrays import Indices, Pixels
from vclimb.pipeline.clips.dice import Purpose, below
from vclimb.pipeline.clips.provider import ClipProvider
from vclimb.pipeline.codecs.codec import Codec
from vclimb.pipeline.codecs.decode import decode_clip, decode_each
from vclimb.pipeline.codecs.encoded import EncodedClip
from vclimb.pipeline.codecs.registry import register_codec, registered_codecs
from vclimb.pipeline.errors import FrameDamagedError
from vclimb.pipeline.stream.batches import BatchPlan, StreamSettings, plan_items
from vclimb.pipeline.stream.shared_arrays import SharedArrays

MAX_REPLACEMENTS = 8
Read = TypeVar("Read")


@dataclass(frozen=True)
class ReadClip:
    """The encoded distinct frames of a clip, in rising order.

    Attributes:
        numbers: (n,) numbers of the distinct frames.
        places: View name -> (T,) positions of the view's frames among the distinct ones.
    """

    item: int
    numbers: Indices
    encoded: EncodedClip
    places: dict[str, Indices]

    def rows_of_crops(self, crops: Sequence[Sequence[str]]) -> list[tuple[slice | Indices, dict[str, Indices]]]:
        """Choose the distinct frames of each crop, given by its views, and locate each view's frames among them."""
        if len(crops) == 1:  # all of them: a slice, which copies nothing
            return [(slice(None), self.places)]
        chosen: list[tuple[slice | Indices, dict[str, Indices]]] = []
        for views in crops:
            rows = np.unique(np.concatenate([self.places[view] for view in views]))
            chosen.append((rows, {view: np.searchsorted(rows, self.places[view]) for view in views}))
        return chosen


@dataclass(frozen=True)
class ClipReader:
    """Reads and decodes the clips of plans from one provider.

    A process that receives a reader gets the registered codecs of the sending process with it, and shares the arrays of
    the provider.
    """

    provider: ClipProvider
    settings: StreamSettings

    @cached_property
    def _shared(self) -> SharedArrays:
        return SharedArrays(self.provider)

    def __reduce__(self) -> tuple[Callable[..., ClipReader], tuple[Any, ...]]:
        return _received, (registered_codecs(), self._shared, self.settings)

    def read(self, plan: BatchPlan, slot: int) -> ReadClip:
        """Read the bytes of one clip of a batch, each distinct frame once.

        Raises:
            FrameDamagedError: The bytes are not the ones that were stored.
        """
        item = int(plan.items[slot])
        numbers = plan.distinct_frames(slot)
        places = {name: np.searchsorted(numbers, frames[slot]) for name, frames in plan.frames.items()}
        return ReadClip(item, numbers, self.provider.read(item, numbers), places)

    def decode(self, clip: ReadClip) -> Pixels:
        """Decode the distinct frames of a clip without a crop: (n, height, width, 3) uint8.

        Raises:
            FrameDamagedError: A frame doesn't decode; names key, shard and offset.
        """
        return decode_clip(clip.encoded, *self._size(clip), partial(self._where, clip))

    def decode_each(self, clip: ReadClip) -> Iterator[Pixels]:
        """Decode the distinct frames of a clip one after another: (height, width, 3) uint8, valid until the next one.

        Raises:
            FrameDamagedError: A frame doesn't decode; names key, shard and offset.
        """
        return decode_each(clip.encoded, *self._size(clip), partial(self._where, clip))

    def _size(self, clip: ReadClip) -> tuple[int, int]:
        facts = self.provider.items
        return int(facts.widths[clip.item]), int(facts.heights[clip.item])

    def _where(self, clip: ReadClip, place: int) -> str:
        return self.provider.where(clip.item, int(clip.numbers[place]))

    def read_or_replace(
        self, plan: BatchPlan, slot: int, read: Callable[[BatchPlan, int], Read], skipped: list[str]
    ) -> tuple[Read, BatchPlan]:
        """Read a clip; if it is damaged and the stream skips bad frames, read a replacement.

        The replacement is a pure function of (seed, epoch, item), so that every run replaces alike.

        Args:
            skipped: List that receives the reason for each replaced clip.

        Returns:
            The result of `read`, and the plan with the clip that was read.

        Raises:
            FrameDamagedError: The stream raises on bad frames, or too many clips in a row are damaged.
        """
        for attempt in range(MAX_REPLACEMENTS + 1):
            try:
                return read(plan, slot), plan
            except FrameDamagedError as error:
                if self.settings.on_bad_frame == "raise" or attempt == MAX_REPLACEMENTS:
                    raise
                skipped.append(str(error))
                plan = self._with_replacement(plan, slot, attempt)
        raise AssertionError("the last attempt returns or raises")

    def _with_replacement(self, plan: BatchPlan, slot: int, attempt: int) -> BatchPlan:
        facts, seed = self.provider.items, self.settings.seed
        rounds = plan.rounds[slot : slot + 1]
        other = below(len(facts), seed, rounds, Purpose.REPLACEMENT, int(plan.items[slot]), attempt)
        single = plan_items(facts, self.settings, plan.epoch, plan.position, other, rounds)
        return BatchPlan.joined([plan.part(0, slot), single, plan.part(slot + 1, len(plan.items))])


def _received(codecs: Sequence[Codec], provider: ClipProvider, settings: StreamSettings) -> ClipReader:
    for codec in codecs:
        register_codec(codec)
    return ClipReader(provider, settings)
