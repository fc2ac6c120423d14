"""The clips that peers load: those that the CPU stream draws, decoded and transformed by the usual libraries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torchvision.transforms.v2 import functional

from vclimb.pipeline.clips.provider import InstanceProvider
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.dataset.rows import StoredVideo
from vclimb.pipeline.stream.batches import BatchPlan, StreamSettings
from vclimb.pipeline.stream.cpu import CpuClipStream


class Clip(NamedTuple):
    """A clip of a video, as it was drawn."""

    frames: list[int]  # Numbers of the frames within the video.
    box: tuple[int, int, int, int]  # Left, top, width and height of the crop in pixels.
    flip: bool  # Whether the crop is mirrored.


Batch = list[tuple[int, Clip]]
"""Numbers of videos, each with a clip."""


class Load(Protocol):
    """Loads frames (H, W, 3) of a video from a peer's files."""

    def __call__(self, folder: Path, number: int, frames: list[int]) -> Sequence[Any]: ...


@dataclass(frozen=True)
class PeerClips:
    """The clips that the CPU stream draws from instances.

    Attributes:
        videos: The videos of the instances, in the order of the provider's items.
        settings: Settings of the stream, with one view.
    """

    provider: InstanceProvider
    videos: list[StoredVideo]
    settings: StreamSettings

    @classmethod
    def of(cls, dataset: StoredDataset, provider: InstanceProvider, settings: StreamSettings) -> PeerClips:
        return cls(provider, [dataset.by_key[key] for key in provider.items.keys.tolist()], settings)

    @property
    def size(self) -> int:
        return self.settings.augmentation.size

    def stream(self, workers: int) -> CpuClipStream:
        """Open the CPU stream of the clips."""
        return CpuClipStream(self.provider, self.settings, workers=workers)

    def __iter__(self) -> Iterator[Batch]:
        """Draw the batches of one epoch after another."""
        stream = self.stream(0)
        for epoch in range(10**6):
            for plan in stream.plans(epoch, 0):
                yield self._batch(plan)

    def drawn(self) -> dict[int, Clip]:
        """Draw a clip of each video, for loaders that choose the order of videos themselves."""
        stream, clips = self.stream(0), dict[int, Clip]()
        for epoch in range(10**6):
            for plan in stream.plans(epoch, 0):
                clips.update(self._batch(plan))
                if len(clips) == len(self.videos):
                    return clips
        raise AssertionError("every video is in some epoch")

    def _batch(self, plan: BatchPlan) -> Batch:
        (view,) = plan.frames
        frames = plan.frames[view] + self.provider.start_frames[plan.items][:, None]
        boxes, flips = plan.boxes[:, 0].tolist(), plan.flips[:, 0].tolist()
        clips = map(Clip, frames.tolist(), map(tuple, boxes), flips)
        return list(zip(plan.items.tolist(), clips, strict=True))


def transformed(pictures: Sequence[Any], clip: Clip, size: int) -> torch.Tensor:
    """Cut, resize and flip (H, W, 3) uint8 pictures as torchvision does: (T, 3, size, size) uint8."""
    left, top, width, height = clip.box
    frames = torch.stack([torch.as_tensor(picture) for picture in pictures]).permute(0, 3, 1, 2)
    cut: torch.Tensor = functional.resized_crop(frames, top, left, height, width, [size, size], antialias=True)
    return functional.horizontal_flip(cut) if clip.flip else cut


class Videos(torch.utils.data.Dataset[torch.Tensor]):
    """Map-style data set of videos in files; an item is the number of a video with a clip."""

    def __init__(self, folder: Path, size: int, load: Load) -> None:
        self.folder, self.size, self.load = folder, size, load

    def __getitem__(self, item: tuple[int, Clip]) -> torch.Tensor:
        number, clip = item
        return transformed(self.load(self.folder, number, clip.frames), clip, self.size)


def file_batches(folder: Path, clips: PeerClips, load: Load, workers: int) -> Iterator[Any]:
    """Iterate over batches of clips by torch's DataLoader."""
    loader = torch.utils.data.DataLoader(
        Videos(folder, clips.size, load),
        batch_sampler=clips,
        num_workers=workers,
    )
    return iter(loader)
