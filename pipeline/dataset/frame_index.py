"""The frame indices of a data set's shards: the place of each frame, and a check of its bytes by their checksum."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.codecs.encoded import EncodedClip
from vclimb.pipeline.codecs.video_codecs import annexb
from vclimb.pipeline.dataset.check import FrameIndex
from vclimb.pipeline.dataset.picture_order import needed_frames
from vclimb.pipeline.dataset.rows import StoredVideo
from vclimb.pipeline.dataset.settings import GOP_FRAMES
from vclimb.pipeline.dataset.shard import ShardFiles
from vclimb.pipeline.dataset.storage import Storage
from vclimb.pipeline.errors import DatasetError, DatasetFileError, FrameDamagedError, TooManyFilesError

# The header that `numpy.save` writes, in version 1.0 of its format, for (n, 3) int64.
_NPY = re.compile(
    rb"\x93NUMPY\x01\x00(?P<length>..)"
    rb"(?P<header>\{'descr': '<i8', 'fortran_order': False, 'shape': \((?P<n>\d{1,15}), 3\), \} *\n)",
    re.DOTALL,
)
_LONGEST_HEADER = 256
_ROW_BYTES = 24


class VideoRows(NamedTuple):
    """Rows of a frame index that belong to one video."""

    key: str  # Name of the video in the shards.
    codec: str  # `jpeg` or `h264`.
    shard: int  # Number of the shard.
    first: int  # Row of the video's first frame.


class FrameIndices:
    """Frame indices by shard number, loaded when they are first used; small enough to send to worker processes.

    `shards` maps the number of a shard to its files; `b_frames` is the setting that its videos are stored with.
    """

    def __init__(self, storage: Storage, shards: Mapping[int, ShardFiles], b_frames: int) -> None:
        self.storage, self._b_frames = storage, b_frames
        self._shards = dict(shards)
        self._tables: dict[int, FrameIndex] = {}

    def stem(self, shard: int) -> str:
        """File name of a shard, without a suffix. Raises a DatasetError where there is no such shard."""
        if shard not in self._shards:
            raise DatasetError(f"{self.storage} has no shard {shard}; it has {sorted(self._shards)}")
        return self._shards[shard].tar.removesuffix(".tar")

    def table(self, shard: int) -> FrameIndex:
        """(frames of the shard, 3) int64: byte offset in the shard's tar, size and CRC-32 of each frame.

        A video's frames are in the order in which they are shown. No two overlap, and all lie within the size that the
        catalog says of the tar. Raises a DatasetError where the frame index is missing or damaged.
        """
        if (known := self._tables.get(shard)) is not None:
            return known
        name = f"{self.stem(shard)}.frames.npy"
        try:
            table = _parse(self.storage.view(name), self._shards[shard], self._b_frames)
        except TooManyFilesError:
            raise
        except OSError as error:
            raise DatasetFileError(str(self.storage), name, f"it can't be read: {error.strerror or error}") from None
        except ValueError as error:
            raise DatasetFileError(str(self.storage), name, str(error)) from None
        self._tables[shard] = table
        return table

    def of_video(self, video: StoredVideo) -> FrameIndex:
        """(n_frames, 3): the rows of a video. Raises a DatasetError where they don't lie within the video."""
        rows = self.table(video.shard)[video.first_frame : video.first_frame + video.n_frames]
        if rows[:, 0].min() < video.offset or rows[:, :2].sum(axis=1).max() > video.offset + video.bytes:
            name = f"{self.stem(video.shard)}.frames.npy"
            raise DatasetFileError(str(self.storage), name, f"frames of {video.key!r} do not lie within its mp4")
        return rows

    def fetch_ahead(self, shards: Sequence[int]) -> None:
        """Prepare for reading frames of shards, in order, without waiting for it."""
        stems = map(self.stem, shards)
        self.storage.fetch_ahead([name for stem in stems for name in (f"{stem}.frames.npy", f"{stem}.tar")])

    def read(self, shard: int, rows: Indices) -> tuple[list[bytes], FrameIndex]:
        """The bytes of some frames of a shard, and their rows of the index."""
        index = self.table(shard)[rows]
        ranges = [(offset, size) for offset, size, _ in index.tolist()]
        return self.storage.read_ranges(f"{self.stem(shard)}.tar", ranges), index

    def read_clip(self, video: VideoRows, frames: Indices) -> EncodedClip:
        """The bytes of a video's frames (T,), each unit once.

        Of an H.264 video, a unit is a group of pictures up to the last frame that is needed, without the B-frames that
        aren't wanted. Raises a FrameDamagedError, which names key, shard and offset, where the bytes are not the ones
        that were stored.
        """
        if video.codec != "h264":
            wanted = frames.tolist()
            places = {frame: place for place, frame in enumerate(sorted(set(wanted)))}
            units = self._checked(video, np.array([*places], np.int64))
            numbers = np.array([places[frame] for frame in wanted], np.int64)
            return EncodedClip(video.codec, units, numbers, np.zeros_like(numbers))
        groups, unit = np.unique(frames // GOP_FRAMES, return_inverse=True)
        starts = self.table(video.shard)[:, 0]
        position = np.empty(len(frames), np.int64)
        units = []
        for number, first in enumerate((groups * GOP_FRAMES).tolist()):
            here, row = unit == number, video.first + first
            needed, position[here] = needed_frames(starts[row : row + GOP_FRAMES], frames[here] - first)
            units.append(b"".join(map(annexb, self._checked(video, needed + first))))
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
        return {**vars(self), "_tables": {}}


def _parse(data: memoryview, files: ShardFiles, b_frames: int) -> FrameIndex:
    """The table in the bytes of a frame index, without a copy. Raises a ValueError that says what is wrong."""
    if hashlib.sha256(data).hexdigest() != files.frames_sha256:
        raise ValueError("its SHA-256 is not the recorded one")
    header = _NPY.match(data[:_LONGEST_HEADER])
    if header is None or int.from_bytes(header["length"], "little") != len(header["header"]):
        raise ValueError("it is not an array (n, 3) of int64 as numpy.save writes it")
    n_bytes = len(data) - header.end()
    if int(header["n"]) != files.n_frames or n_bytes != files.n_frames * _ROW_BYTES:
        raise ValueError(f"it has {n_bytes} bytes for {int(header['n'])} frames, and the shard {files.n_frames} frames")
    table: FrameIndex = np.frombuffer(data, "<i8", offset=header.end()).reshape(-1, 3)
    starts, sizes, checksums = table.T
    within = (starts >= 0) & (starts <= files.tar_bytes) & (sizes > 0) & (sizes <= files.tar_bytes)
    if not within.all() or not ((checksums >= 0) & (checksums < 2**32)).all():
        raise ValueError(f"a frame does not lie within {files.tar}, or its checksum is not 32 bits")
    order = np.argsort(starts, kind="stable")  # B-frames lie after the next frame that is none
    moved = np.abs(order - np.arange(len(order))).max(initial=0)
    ends = starts[order] + sizes[order]
    if moved > b_frames or (starts[order[1:]] < ends[:-1]).any() or ends[-1] > files.tar_bytes:
        raise ValueError(f"its frames do not lie one after another within {files.tar}")
    return table
