"""Reading one clip of a batch, and putting another in its place where it is damaged.

Picklable, since this is what worker processes run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from vclimb.pipeline.arrays import Indices, Pixels
from vclimb.pipeline.clips.dice import Purpose, below
from vclimb.pipeline.clips.provider import ClipProvider
from vclimb.pipeline.codecs.codec import Codec
from vclimb.pipeline.codecs.decode import decode_clip
from vclimb.pipeline.codecs.encoded import EncodedClip
from vclimb.pipeline.codecs.registry import register_codec, registered_codecs
from vclimb.pipeline.errors import FrameDamagedError
from vclimb.pipeline.stream.stream import BatchPlan, StreamSettings, plan_items

MAX_REPLACEMENTS = 8
Read = TypeVar("Read")


@dataclass(frozen=True)
class ReadClip:
    """The encoded distinct frames of a clip, in rising order.

    Attributes:
        item: of the provider.
        numbers: (n,) of the distinct frames.
        encoded: their bytes.
        places: view name -> (T,) where each of its frames is among the distinct ones.
    """

    item: int
    numbers: Indices
    encoded: EncodedClip
    places: dict[str, Indices]


@dataclass(frozen=True)
class ClipReader:
    """Reads and decodes the clips of plans from one provider.

    A worker process that receives a reader knows the codecs that were registered in the process that sent it.
    """

    provider: ClipProvider
    settings: StreamSettings

    def __reduce__(self) -> tuple[Callable[..., ClipReader], tuple[Any, ...]]:
        return _received, (registered_codecs(), self.provider, self.settings)

    def read(self, plan: BatchPlan, slot: int) -> ReadClip:
        """The bytes of one clip of a batch: each frame once, whatever the views share.

        Raises:
            FrameDamagedError: they are not what was stored.
        """
        item = int(plan.items[slot])
        numbers = np.unique(np.concatenate([frames[slot] for frames in plan.frames.values()]))
        places = {name: np.searchsorted(numbers, frames[slot]) for name, frames in plan.frames.items()}
        return ReadClip(item, numbers, self.provider.read(item, numbers), places)

    def decode(self, clip: ReadClip) -> Pixels:
        """(n, height, width, 3) uint8: the distinct frames of a clip, whole.

        Raises:
            FrameDamagedError: one doesn't decode; named by key, shard and offset.
        """
        facts = self.provider.items
        width, height = int(facts.widths[clip.item]), int(facts.heights[clip.item])
        return decode_clip(clip.encoded, width, height, lambda p: self.provider.where(clip.item, int(clip.numbers[p])))

    def sound(
        self, plan: BatchPlan, slot: int, use: Callable[[BatchPlan, int], Read], skipped: list[str]
    ) -> tuple[Read, BatchPlan]:
        """`use` a clip of a plan; where it is damaged, another clip in its place, if the stream is to skip.

        Which one is a pure function of (seed, epoch, item), so that every run replaces alike.

        Args:
            plan: of the batch.
            slot: of the clip in the batch.
            use: reads (and decodes) the clip of a plan's slot.
            skipped: takes the reason for each clip that was left out.

        Returns:
            What `use` gave, and the plan with the clip that is really there.

        Raises:
            FrameDamagedError: the stream is to raise, or too many clips in a row are bad.
        """
        for attempt in range(MAX_REPLACEMENTS + 1):
            try:
                return use(plan, slot), plan
            except FrameDamagedError as error:
                if self.settings.on_bad_frame == "raise" or attempt == MAX_REPLACEMENTS:
                    raise
                skipped.append(str(error))
                plan = self._replaced(plan, slot, attempt)
        raise AssertionError("the last attempt returns or raises")

    def _replaced(self, plan: BatchPlan, slot: int, attempt: int) -> BatchPlan:
        facts, seed = self.provider.items, self.settings.seed
        other = below(len(facts), seed, plan.epoch, Purpose.REPLACEMENT, int(plan.items[slot]), attempt)
        one = plan_items(facts, self.settings, plan.epoch, plan.position, other.reshape(1))
        items, boxes, flips = plan.items.copy(), plan.boxes.copy(), plan.flips.copy()
        frames = {name: numbers.copy() for name, numbers in plan.frames.items()}
        items[slot], boxes[slot], flips[slot] = one.items[0], one.boxes[0], one.flips[0]
        for name, numbers in frames.items():
            numbers[slot] = one.frames[name][0]
        return replace(plan, items=items, boxes=boxes, flips=flips, frames=frames)


def _received(codecs: Sequence[Codec], provider: ClipProvider, settings: StreamSettings) -> ClipReader:
    for codec in codecs:
        register_codec(codec)
    return ClipReader(provider, settings)
