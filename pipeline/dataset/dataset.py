"""Reading a prepared data set: its videos and instances, and the bytes or pixels of any frame."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Self

import numpy as np

from vclimb.pipeline.arrays import Pixels
from vclimb.pipeline.codecs.decode import decode_clip
from vclimb.pipeline.dataset.by_key import VideosByKey
from vclimb.pipeline.dataset.cache_settings import DEFAULT_GROUP, CacheSettings
from vclimb.pipeline.dataset.check import FileSlice, FrameRanges
from vclimb.pipeline.dataset.columns import StoredInstances, StoredVideos
from vclimb.pipeline.dataset.frame_index import FrameIndices, VideoRows
from vclimb.pipeline.dataset.rows import StoredInstance, StoredVideo
from vclimb.pipeline.dataset.shard import shard_paths
from vclimb.pipeline.dataset.shard_cache import ShardCache
from vclimb.pipeline.dataset.storage import LocalStorage, RemoteStorage, Storage, open_storage
from vclimb.pipeline.dataset.stored_catalog import StoredCatalog
from vclimb.pipeline.dataset.tar_members import tar_members
from vclimb.pipeline.errors import DatasetError, DatasetFileError, TooManyFilesError

__all__ = ["StoredDataset", "StoredInstance", "StoredVideo", "as_webdataset"]


class StoredDataset:
    """A prepared data set, opened for reading.

    The catalog is in memory, as columns. Frame indices are mapped when they are first used.

    Attributes:
        storage: Files of the data set.
        catalog: Content of the catalog.
        name: Name of the data set, and stem of the shards' file names.
        settings: Settings that all videos are stored with.
        classes: Class names in alphabetical order.
        frame_indices: Frame indices of the shards.
        videos: Stored videos, in the shards' order.
        instances: Labelled instances, in the videos' order.
        by_key: Key of a video to the video, for a few look-ups.
    """

    def __init__(self, storage: Storage, catalog: StoredCatalog) -> None:
        self.storage = storage
        self.catalog = catalog
        self.name, self.settings, self.classes = catalog.name, catalog.settings, catalog.classes
        self.frame_indices = FrameIndices(storage, catalog.shards, catalog.settings.b_frames)
        self.videos: StoredVideos = catalog.videos
        self.instances: StoredInstances = catalog.instances
        self.by_key = VideosByKey(catalog.videos)

    @classmethod
    def open(cls, folder: Path | str) -> Self:
        """Open a prepared data set: a folder, or a URL that fsspec reads (`s3://`, `gs://`, `memory://`, ...).

        Raises:
            DatasetError: There is no data set, it is damaged, or it has another format version.
        """
        storage = open_storage(folder)
        return cls(storage, StoredCatalog.read(storage))

    @property
    def shard_group(self) -> int:
        """Number of shards whose clips are shuffled together by default: 0, which is all, unless in a bucket."""
        return DEFAULT_GROUP if isinstance(self.storage, RemoteStorage) else 0

    def cached(self, cache: CacheSettings, shard_group: int) -> Self:
        """This data set, with its shards read through a cache on this machine where it lies in a bucket.

        Raises:
            SettingsError: The cache is too small for two groups of shards.
        """
        if not isinstance(self.storage, RemoteStorage):
            return self
        shards = ShardCache(self.storage.bucket, self.catalog.shards.values(), cache, shard_group)
        return self._with_storage(RemoteStorage(self.storage.url, shards=shards))

    @property
    def folder(self) -> Path:
        """Folder of the data set. Raises a DatasetError where the data set is read from a URL."""
        if not isinstance(self.storage, LocalStorage):
            raise DatasetError(f"{self.storage} is not on this machine; copy it to a local folder for this")
        return self.storage.folder

    def at(self, folder: Path) -> Self:
        """This data set, with the files of some shards in another folder; its catalog is not read again."""
        if isinstance(self.storage, LocalStorage) and self.storage.folder == folder:
            return self
        return self._with_storage(LocalStorage(folder))

    def _with_storage(self, storage: Storage) -> Self:
        moved = copy.copy(self)
        moved.storage = storage
        moved.frame_indices = FrameIndices(storage, self.catalog.shards, self.settings.b_frames)
        return moved

    def shard_names(self, number: int) -> tuple[str, str, str]:
        """Names of a shard's tar, DALI index and frame index."""
        tar, idx, frames = shard_paths(Path(), self.frame_indices.stem(number))
        return tar.name, idx.name, frames.name

    def by_class(self) -> dict[str, StoredInstances]:
        """The instances of each class, by its name in alphabetical order."""
        codes, labels = self.instances.codes("label")
        order, places = np.argsort(codes, kind="stable"), {label: code for code, label in enumerate(labels)}
        ends = np.cumsum(np.bincount(codes, minlength=len(labels)))
        starts = np.concatenate([[0], ends])
        return {
            label: self.instances.take(order[starts[places[label]] : ends[places[label]]]) for label in self.classes
        }

    def shard_paths(self, number: int) -> tuple[Path, Path, Path]:
        """Paths of a shard's tar, DALI index and frame index."""
        return shard_paths(self.folder, self.frame_indices.stem(number))

    def frame_ranges(self, video: StoredVideo) -> FrameRanges:
        """(n_frames, 2) int64: byte offset in the shard's tar, and size, of each of a video's frames."""
        return self.frame_indices.of_video(video)[:, :2]

    def frame_bytes(self, video: StoredVideo, frame: int) -> bytes:
        """The encoded bytes of one frame: a whole JPEG file, or a packet of H.264.

        Raises:
            IndexError: The video has no such frame.
        """
        _refuse_other_frames(video, frame)
        (data,), _ = self.frame_indices.read(video.shard, np.array([video.first_frame + frame]))
        return data

    def open_video(self, video: StoredVideo) -> FileSlice:
        """Open the stored mp4 as a seekable file; nothing is read into memory."""
        return FileSlice(self.shard_paths(video.shard)[0], video.offset, video.bytes)

    def decode_frame(self, video: StoredVideo, frame: int) -> Pixels:
        """Decode one frame to RGB, (height, width, 3) uint8. For looking at videos; training streams clips.

        Raises:
            FrameDamagedError: The bytes are not the stored ones, or don't decode.
            IndexError: The video has no such frame.
        """
        _refuse_other_frames(video, frame)
        rows = VideoRows(video.key, video.codec, video.shard, video.first_frame)
        clip = self.frame_indices.read_clip(rows, np.array([frame]))
        frames = decode_clip(clip, video.width, video.height, lambda _: self.frame_indices.where(rows, frame))
        return frames.reshape(frames.shape[1:])


def _refuse_other_frames(video: StoredVideo, frame: int) -> None:
    if not 0 <= frame < video.n_frames:
        raise IndexError(f"frame {frame} of {video.key!r} is not there; it has {video.n_frames} frames, the first is 0")


def as_webdataset(folder: Path | str, **options: Any) -> Any:
    """Open the shards as a `webdataset.WebDataset` of samples `{__key__, mp4: bytes, json: bytes}`, in order.

    `options` are arguments of `webdataset.WebDataset`.

    Raises:
        DatasetError: There is no data set, it is damaged, or a shard is not a plain tar. (webdataset would decompress
            others, to any size.)
    """
    import webdataset

    dataset = StoredDataset.open(folder)
    tars = [dataset.shard_paths(number)[0] for number in sorted(dataset.catalog.shards)]
    for tar in tars:
        try:
            next(tar_members(tar))
        except TooManyFilesError:
            raise
        except (ValueError, OSError) as error:
            raise DatasetFileError(str(dataset.storage), tar.name, str(error)) from None
    urls = [f"file:{tar.absolute()}" for tar in tars]
    return webdataset.WebDataset(urls, **{"shardshuffle": False, "empty_check": False, **options})
