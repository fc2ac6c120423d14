"""Decoding of planned clips on the cores: read, decode, crop, resize, mirror."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from vclimb.pipeline.arrays import Pixels
from vclimb.pipeline.stream.batches import BatchPlan, StreamSettings
from vclimb.pipeline.stream.clip_reader import ClipReader
from vclimb.pipeline.stream.memory import SharedRing
from vclimb.pipeline.stream.resize import FrameResizer


@dataclass(frozen=True)
class DecodedPart:
    """The clips actually decoded, after replacing damaged ones."""

    plan: BatchPlan
    skipped: list[str]


def decode_batch(reader: ClipReader, plan: BatchPlan, views: dict[str, Pixels]) -> DecodedPart:
    """Decode a plan of B clips into views (B, T, S, S, 3)."""
    skipped: list[str] = []
    resizer = FrameResizer(next(iter(views.values())).shape[2])
    for slot in range(len(plan.items)):
        clip = {name: frames[slot] for name, frames in views.items()}
        _, plan = reader.read_or_replace(plan, slot, partial(_decode_clip, reader, resizer, clip), skipped)
    return DecodedPart(plan, skipped)


def _decode_clip(
    reader: ClipReader, resizer: FrameResizer, views: dict[str, Pixels], plan: BatchPlan, slot: int
) -> None:
    """Decode a clip into views (T, S, S, 3), frame by frame: a frame and its crops stay in the cache of the core."""
    clip = reader.read(plan, slot)
    crops = []
    for names, box, flip in zip(plan.crops, plan.boxes[slot].tolist(), plan.flips[slot].tolist(), strict=True):
        targets: dict[int, list[Pixels]] = defaultdict(list)
        for name in names:
            for target, place in zip(views[name], clip.places[name].tolist(), strict=True):
                targets[place].append(target)
        crops.append((box, flip, targets))
    for place, frame in enumerate(reader.decode_each(clip)):
        for (left, top, width, height), flip, targets in crops:
            if place in targets:
                first, *others = targets[place]
                resizer.resize_into(first, frame[top : top + height, left : left + width], flip)
                for other in others:
                    other[...] = first


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
