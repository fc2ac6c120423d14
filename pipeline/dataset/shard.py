"""Writing one shard: the tar, its DALI index, and the byte range of every frame.

The tar is plain WebDataset (`<key>.mp4`, `<key>.json`). `webdataset.TarWriter` holds each member in memory, and a
30-minute video is 650 MB of JPEG frames, so the standard library's `tarfile` streams them instead.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from vclimb.pipeline.dataset.check import FrameIndex
from vclimb.pipeline.system.durable import sync, write_synced

DALI_INDEX_VERSION = "v1.2"
_TAR_HEADER_BYTES = 512
_COPY_BYTES = 2**20


@dataclass(frozen=True)
class ShardFiles:
    """The files of a finished shard.

    Attributes:
        tar: File name of the tar.
        tar_bytes: Size of the tar.
        tar_sha256: SHA-256 of the tar.
        idx_sha256: SHA-256 of the DALI index.
        frames_sha256: SHA-256 of the frame index.
        n_videos: Number of videos.
        n_frames: Number of frames of all videos.
    """

    tar: str
    tar_bytes: int
    tar_sha256: str
    idx_sha256: str
    frames_sha256: str
    n_videos: int
    n_frames: int


@dataclass(frozen=True)
class Placed:
    """Place of a video in a shard: byte offset of its mp4 in the tar, and its first row in the frame index."""

    offset: int
    first_frame: int


def shard_paths(folder: Path, stem: str) -> tuple[Path, Path, Path]:
    """Paths of a shard's tar, DALI index and frame index."""
    return folder / f"{stem}.tar", folder / f"{stem}.idx", folder / f"{stem}.frames.npy"


class _HashingFile(io.RawIOBase):
    """A file whose SHA-256 is computed while it is written."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115 - closed by close()
        self.digest = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type]
        done = 0
        while done < len(view):
            done += self._file.write(view[done:])
        self.digest.update(view)
        return done

    def sync_and_close(self) -> None:
        os.fsync(self._file.fileno())
        self.close()

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


class ShardWriter:
    """Writes one shard into a folder, video by video. Nothing of it counts before `finish`."""

    def __init__(self, folder: Path, stem: str) -> None:
        self._folder, self._stem = folder, stem
        self._file = _HashingFile(shard_paths(folder, stem)[0])
        self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        self._tar.copybufsize = _COPY_BYTES  # type: ignore[attr-defined] # typeshed lacks it
        self._index_lines: list[str] = []
        self._index: list[FrameIndex] = []
        self._n_frames = 0

    def add(self, key: str, video: Path, metadata: bytes, index: FrameIndex) -> Placed:
        """Append a video and its JSON. `index` is the frame index within the video's file."""
        with open(video, "rb") as file:
            offset, size = self._member(f"{key}.mp4", os.fstat(file.fileno()).st_size, file)
        json_offset, json_size = self._member(f"{key}.json", len(metadata), io.BytesIO(metadata))
        self._index_lines.append(f"mp4 {offset} {size} {key}.mp4 json {json_offset} {json_size} {key}.json\n")
        first_frame = self._n_frames
        self._index.append(index + np.array([offset, 0, 0]))
        self._n_frames += len(index)
        return Placed(offset, first_frame)

    def _member(self, name: str, size: int, content: object) -> tuple[int, int]:
        info = tarfile.TarInfo(name)
        info.size, info.mtime, info.mode = size, 0, 0o644
        offset = self._tar.offset + _TAR_HEADER_BYTES
        self._tar.addfile(info, content)  # type: ignore[arg-type]
        return offset, size

    def finish(self) -> ShardFiles:
        """Close the tar, write both indices, and sync all three files to disk."""
        tar, idx, frames = shard_paths(self._folder, self._stem)
        self._tar.close()
        tar_bytes = self._file.tell()
        self._file.sync_and_close()
        index = f"{DALI_INDEX_VERSION} {len(self._index_lines)}\n" + "".join(self._index_lines)
        write_synced(idx, index.encode())
        table = io.BytesIO()
        np.save(table, np.concatenate(self._index))
        write_synced(frames, table.getvalue())
        return ShardFiles(
            tar=tar.name,
            tar_bytes=tar_bytes,
            tar_sha256=self._file.digest.hexdigest(),
            idx_sha256=hashlib.sha256(index.encode()).hexdigest(),
            frames_sha256=hashlib.sha256(table.getvalue()).hexdigest(),
            n_videos=len(self._index_lines),
            n_frames=self._n_frames,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def publish(scratch: Path, target: Path, stem: str) -> None:
    """Move a finished shard's synced files to where readers look, and make the move durable."""
    for source, final in zip(shard_paths(scratch, stem), shard_paths(target, stem), strict=True):
        source.replace(final)
    sync(target)
