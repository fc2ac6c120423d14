"""Decoding of planned clips on the cores: read, decode, crop, resize, mirror."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from vclimb.pipeline.arrays import Indices, Pixels
from vclimb.pipeline.stream.batches import BatchPlan, StreamSettings
from vclimb.pipeline.stream.clip_reader import ClipReader
from vclimb.pipeline.stream.memory import SharedRing
from vclimb.pipeline.stream.resize import resize_into


@dataclass(frozen=True)
class DecodedPart:
    """The clips actually decoded, after replacing damaged ones."""

    plan: BatchPlan
    skipped: list[str]


def decode_batch(reader: ClipReader, plan: BatchPlan, views: dict[str, Pixels]) -> DecodedPart:
    """Decode a plan of B clips into views (B, T, S, S, 3)."""
    skipped: list[str] = []
    for slot in range(len(plan.items)):
        crops, plan = reader.read_or_replace(plan, slot, partial(_decode_clip, reader), skipped)
        for crop in crops:
            crop.resize_into({name: views[name][slot] for name in crop.places})
    return DecodedPart(plan, skipped)


@dataclass(frozen=True)
class _Crop:
    """A crop of a decoded clip.

    Attributes:
        pixels: (n, H, W, 3) distinct frames of the views that share the crop.
        places: View name -> (T,) positions of the view's frames among the distinct ones.
    """

    pixels: Pixels
    flip: bool
    places: dict[str, Indices]

    def resize_into(self, views: dict[str, Pixels]) -> None:
        """Resize into each view (T, S, S, 3). A view that shows each frame once, in order, needs no further copy."""
        order = np.arange(len(self.pixels))
        whole = next((name for name, places in self.places.items() if np.array_equal(places, order)), None)
        size = next(iter(views.values())).shape[1]
        frames = np.empty((len(order), size, size, 3), np.uint8) if whole is None else views[whole]
        resize_into(frames, self.pixels, self.flip)
        for name, places in self.places.items():
            if name != whole:
                np.take(frames, places, axis=0, out=views[name])


def _decode_clip(reader: ClipReader, plan: BatchPlan, slot: int) -> list[_Crop]:
    """Decode a clip, and cut out its crops."""
    clip = reader.read(plan, slot)
    decoded = reader.decode(clip)
    crops = []
    for number, (rows, places) in enumerate(clip.rows_of_crops(plan.crops)):
        left, top, width, height = plan.boxes[slot, number].tolist()
        pixels = decoded[rows, top : top + height, left : left + width]
        crops.append(_Crop(pixels, bool(plan.flips[slot, number]), places))
    return crops


@dataclass(frozen=True)
class Part:
    """Clips of a batch that one worker decodes."""

    plan: BatchPlan
    slot: int  # Number of the ring's slot that holds the batch.
    first: int  # Position of the first of these clips in the batch.
    batch_clips: int


def decode_part(reader: ClipReader, ring: SharedRing, part: Part) -> DecodedPart | None:
    """Decode a part into a ring, in a worker. Return what differs from its plan; None where no clip was replaced."""
    views = views_of(ring.slot(part.slot), reader.settings, part.batch_clips)
    until = part.first + len(part.plan.items)
    decoded = decode_batch(reader, part.plan, {name: frames[part.first : until] for name, frames in views.items()})
    return decoded if decoded.skipped else None


def batch_bytes(settings: StreamSettings) -> int:
    return sum(settings.batch_size * view.n_frames for view in settings.views) * settings.augmentation.size**2 * 3


def views_of(memory: npt.NDArray[np.uint8], settings: StreamSettings, n_clips: int) -> dict[str, Pixels]:
    """Map a batch's views into memory: view name -> (B, T, S, S, 3) uint8, without a copy."""
    size, start, views = settings.augmentation.size, 0, {}
    for view in settings.views:
        shape = (n_clips, view.n_frames, size, size, 3)
        stop = start + int(np.prod(shape))
        views[view.name] = memory[start:stop].reshape(shape)
        start = stop
    return views
