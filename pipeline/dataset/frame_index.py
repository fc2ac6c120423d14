"""The frame indices of a data set's shards: the place of each frame, and a check of its bytes by their checksum."""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.codecs.encoded import EncodedClip
from vclimb.pipeline.codecs.video_codecs import annexb
from vclimb.pipeline.dataset.check import FrameIndex
from vclimb.pipeline.dataset.settings import GOP_FRAMES
from vclimb.pipeline.dataset.storage import LocalStorage, Storage
from vclimb.pipeline.errors import DatasetError, FrameDamagedError


class VideoRows(NamedTuple):
    """Rows of a frame index that belong to one video."""

    key: str  # Name of the video in the shards.
    codec: str  # `jpeg` or `h264`.
    shard: int  # Number of the shard.
    first: int  # Row of the video's first frame.


class FrameIndices:
    """Frame indices by shard number, loaded when they are first used; small enough to send to worker processes.

    `stems` maps the number of a shard to its file name without a suffix.
    """

    def __init__(self, storage: Storage, stems: Mapping[int, str]) -> None:
        self.storage = storage
        self._stems = dict(stems)
        self._tables: dict[int, FrameIndex] = {}

    def stem(self, shard: int) -> str:
        """File name of a shard, without a suffix. Raises a DatasetError where there is no such shard."""
        if shard not in self._stems:
            raise DatasetError(f"{self.storage} has no shard {shard}; it has {sorted(self._stems)}")
        return self._stems[shard]

    def table(self, shard: int) -> FrameIndex:
        """(frames of the shard, 3) int64: byte offset in the shard's tar, size and CRC-32 of each frame.

        Raises a DatasetError where the frame index is missing or damaged.
        """
        if (known := self._tables.get(shard)) is not None:
            return known
        name = f"{self.stem(shard)}.frames.npy"
        try:
            table: FrameIndex
            if isinstance(self.storage, LocalStorage):
                table = np.load(self.storage.folder / name, mmap_mode="r")
            else:
                table = np.load(io.BytesIO(self.storage.read(name)))
        except (OSError, ValueError, EOFError) as error:
            raise DatasetError(f"the frame index {name} can't be read: {error}") from None
        if table.dtype != np.int64 or table.shape[1:] != (3,):
            raise DatasetError(f"the frame index {name} holds {table.dtype} {table.shape}, not int64 (n, 3)")
        self._tables[shard] = table
        return table

    def read(self, shard: int, rows: Indices) -> tuple[list[bytes], FrameIndex]:
        """The bytes of some frames of a shard, and their rows of the index."""
        index = self.table(shard)[rows]
        ranges = [(offset, size) for offset, size, _ in index.tolist()]
        return self.storage.read_ranges(f"{self.stem(shard)}.tar", ranges), index

    def read_clip(self, video: VideoRows, frames: Indices) -> EncodedClip:
        """The bytes of a video's frames (T,), each unit once.

        Of an H.264 video these are whole groups of pictures, up to the last frame that is needed of each. Raises a
        FrameDamagedError, which names key, shard and offset, where the bytes are not the ones that were stored.
        """
        if video.codec != "h264":
            distinct, unit = np.unique(frames, return_inverse=True)
            units = self._checked(video, distinct)
            return EncodedClip(video.codec, units, unit.astype(np.int64), np.zeros(len(frames), np.int64))
        groups, unit = np.unique(frames // GOP_FRAMES, return_inverse=True)
        position = frames % GOP_FRAMES
        units = []
        for number, group in enumerate(groups.tolist()):
            last = int(position[unit == number].max())
            packets = self._checked(video, np.arange(group * GOP_FRAMES, group * GOP_FRAMES + last + 1))
            units.append(b"".join(map(annexb, packets)))
        return EncodedClip("h264", units, unit.astype(np.int64), position)

    def where(self, video: VideoRows, frame: int) -> str:
        """Describe where a frame is stored, for an error message: key, shard and byte offset."""
        offset = int(self.table(video.shard)[video.first + frame, 0])
        return f"frame {frame} of {video.key!r} ({self.stem(video.shard)}.tar, byte {offset})"

    def _checked(self, video: VideoRows, frames: Indices) -> list[bytes]:
        pieces, rows = self.read(video.shard, video.first + frames)
        for frame, data, (_, _, checksum) in zip(frames.tolist(), pieces, rows.tolist(), strict=True):
            if zlib.crc32(data) != checksum:
                raise FrameDamagedError(f"{self.where(video, frame)}: its bytes are not the ones that were stored")
        return pieces

    def __getstate__(self) -> dict[str, Any]:
        return {"storage": self.storage, "_stems": self._stems, "_tables": {}}
