"""Decoding the clips of a plan on the cores: read, decode, crop, resize, mirror."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional

from vclimb.pipeline.arrays import Indices, Pixels
from vclimb.pipeline.stream.clip_reader import ClipReader
from vclimb.pipeline.stream.shared_ring import SharedRing
from vclimb.pipeline.stream.stream import BatchPlan, StreamSettings


@dataclass(frozen=True)
class Sound:
    """What was really decoded where a plan's clips were damaged.

    Attributes:
        plan: of the clips that are there.
        skipped: why others were left out.
    """

    plan: BatchPlan
    skipped: list[str]


@dataclass(frozen=True)
class BatchDecoder:
    """Decodes the clips of a plan."""

    reader: ClipReader

    def fill(self, plan: BatchPlan, views: dict[str, Pixels]) -> Sound:
        """Decode a plan of B clips into views (B, T, S, S, 3)."""
        skipped: list[str] = []
        for slot in range(len(plan.items)):
            (frames, places), plan = self.reader.sound(plan, slot, self._clip, skipped)
            for name, of_view in places.items():
                np.take(frames, of_view, axis=0, out=views[name][slot])
        return Sound(plan, skipped)

    def _clip(self, plan: BatchPlan, slot: int) -> tuple[Pixels, dict[str, Indices]]:
        """The distinct frames of a clip as (n, S, S, 3), and where each view's are among them."""
        clip = self.reader.read(plan, slot)
        left, top, width, height = plan.boxes[slot].tolist()
        pixels = self.reader.decode(clip)[:, top : top + height, left : left + width]
        size = self.reader.settings.augmentation.size
        frames = torch.nn.functional.interpolate(
            torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2),
            (size, size),
            mode="bilinear",
            antialias=True,
        )
        if plan.flips[slot]:
            frames = frames.flip(-1)
        return frames.permute(0, 2, 3, 1).numpy(), clip.places


@dataclass(frozen=True)
class Part:
    """Some clips of a batch that a worker decodes.

    Attributes:
        plan: of these clips.
        slot: of the ring, where the batch goes.
        first: of these clips' places in the batch.
        batch_clips: of the whole batch.
    """

    plan: BatchPlan
    slot: int
    first: int
    batch_clips: int


@dataclass(frozen=True)
class PartDecoder:
    """Decodes parts of batches into their places in a ring. Runs in a worker."""

    decoder: BatchDecoder
    ring: SharedRing

    def __call__(self, part: Part) -> Sound | None:
        """What was decoded instead of the plan; None where nothing had to be replaced."""
        views = views_of(self.ring.slot(part.slot), self.decoder.reader.settings, part.batch_clips)
        until = part.first + len(part.plan.items)
        sound = self.decoder.fill(part.plan, {name: frames[part.first : until] for name, frames in views.items()})
        return sound if sound.skipped else None


def batch_bytes(settings: StreamSettings) -> int:
    """Size of a full batch of decoded clips."""
    return sum(settings.batch_size * view.n_frames for view in settings.views) * settings.augmentation.size**2 * 3


def views_of(memory: npt.NDArray[np.uint8], settings: StreamSettings, n_clips: int) -> dict[str, Pixels]:
    """A batch's views within a slot: view name -> (B, T, S, S, 3) uint8, sharing the slot's memory."""
    size, start, views = settings.augmentation.size, 0, {}
    for view in settings.views:
        shape = (n_clips, view.n_frames, size, size, 3)
        stop = start + int(np.prod(shape))
        views[view.name] = memory[start:stop].reshape(shape)
        start = stop
    return views
