"""Small data sets, providers of clips, and settings of streams for tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from conftest import prepare_videos
from dataset_cases import InlineExecutor
from video_cases import make_video

from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.clips.augment import Augmentation
from vclimb.pipeline.clips.provider import InstanceProvider, Items
from vclimb.pipeline.clips.sampling import View
from vclimb.pipeline.codecs.encoded import EncodedClip
from vclimb.pipeline.dataset.dataset import StoredDataset, StoredInstance, StoredVideo
from vclimb.pipeline.stream.batches import StreamSettings

SIZE = 48
TRAINING = (
    View("clip", 8),
    View("down-sampled", 8, seen_frames=4, own_draws=True),
    View("dense", 4, "dense", stride=2),
)
CENTRES = (View("clip", 4, random=False),)


def make_tiny_videos(folder: Path) -> Path:
    """Make 12 videos of 3 classes, of 1 to 26 frames, landscape and portrait."""
    for number in range(12):
        path = folder / f"class{number % 3}" / f"v{number:02d}.mp4"
        frames, size = (1, 3, 9, 14, 20, 26)[number % 6], "96x64" if number % 2 else "64x96"
        make_video(path, "-crf", "10", frames=frames, size=size)
    return folder


def prepare_tiny(videos: Path, out: Path, codec: str) -> Path:
    """Prepare the tiny videos; as JPEG frames they fill several shards."""
    quality = {"jpeg": 2, "h264": 10}[codec]
    prepare_videos(videos, out, executor=InlineExecutor(), codec=codec, quality=quality, shard_bytes=200_000)
    return out


def all_instances(dataset: StoredDataset) -> list[StoredInstance]:
    """List every whole video, and a part of each longer video that doesn't start with it."""
    longer = [video for video in dataset.videos if video.n_frames >= 14]
    return [*dataset.instances, *(StoredInstance(video.key, video.labels[0], None, 5, 14) for video in longer)]


def provider_of(folder: Path | str) -> InstanceProvider:
    """Make a provider of all instances of a data set."""
    dataset = StoredDataset.open(folder)
    return InstanceProvider(dataset, all_instances(dataset))


class JpegsInMemory:
    """A provider of a few JPEG pictures for each item, as a replay memory has them."""

    def __init__(self, n_items: int = 3, n_frames: int = 4, damaged: int | None = None) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (n_items, n_frames, 8, 10, 3), np.uint8)
        pictures = noise.repeat(8, axis=2).repeat(8, axis=3)
        self._jpegs = [[simplejpeg.encode_jpeg(p, 95, colorsubsampling="420") for p in item] for item in pictures]
        if damaged is not None:
            self._jpegs[damaged] = [b"not a picture"] * n_frames
        self.items = Items(
            keys=np.array([f"memory/{number}" for number in range(n_items)]),
            labels=np.arange(n_items) + 100,
            n_frames=np.full(n_items, n_frames),
            widths=np.full(n_items, 80),
            heights=np.full(n_items, 64),
            shards=np.full(n_items, -1),
        )

    def read(self, item: int, frames: Indices) -> EncodedClip:
        distinct, unit = np.unique(frames, return_inverse=True)
        units = [self._jpegs[item][frame] for frame in distinct.tolist()]
        return EncodedClip("jpeg", units, unit.astype(np.int64), np.zeros(len(frames), np.int64))

    def where(self, item: int, frame: int) -> str:
        return f"frame {frame} of {self.items.keys[item]!r} (in memory)"

    def fetch_ahead(self, shards: Sequence[int]) -> None:
        pass


def damage(folder: Path, copy: Path, key: str, frame: int) -> str:
    """Copy a data set, change one byte of a frame, and describe where the frame is stored."""
    shutil.copytree(folder, copy)
    dataset = StoredDataset.open(copy)
    video = dataset.by_key[key]
    offset, size = dataset.frame_ranges(video)[frame].tolist()
    tar = dataset.shard_paths(video.shard)[0]
    with open(tar, "r+b") as file:
        file.seek(offset + size // 2)
        byte = file.read(1)[0]
        file.seek(offset + size // 2)
        file.write(bytes([byte ^ 0x55]))
    return f"frame {frame} of {key!r} ({tar.name}, byte {offset})"


def damage_all_frames(folder: Path, copy: Path, key: str) -> None:
    """Copy a data set, and overwrite all frames of a video."""
    shutil.copytree(folder, copy)
    dataset = StoredDataset.open(copy)
    video = dataset.by_key[key]
    with open(dataset.shard_paths(video.shard)[0], "r+b") as file:
        for offset, size in dataset.frame_ranges(video).tolist():
            file.seek(offset)
            file.write(bytes(size))


def settings_of(**changes: Any) -> StreamSettings:
    """Make settings of small clips with all kinds of views; `changes` are fields of `StreamSettings`."""
    augmentation = Augmentation(SIZE, resize_to=SIZE + 8)
    return StreamSettings(**{"batch_size": 5, "views": TRAINING, "augmentation": augmentation, "seed": 3, **changes})


def longest_video(folder: Path) -> StoredVideo:
    """Find the first of the longest videos."""
    return max(StoredDataset.open(folder).videos, key=lambda video: video.n_frames)


def script_environment() -> dict[str, str]:
    """Environment of a script that imports the modules of the tests."""
    places = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}
