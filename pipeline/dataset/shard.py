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
from vclimb.pipeline.dataset.fields import Count, Sha256, TarName
from vclimb.pipeline.system.digest import file_sha256
from vclimb.pipeline.system.durable import sync, write_synced

DALI_INDEX_VERSION = "v1.2"
MAX_MEMBER_BYTES = 8**11 - 1
"""Largest file in a tar of the format USTAR, 8 GiB."""
_TAR_HEADER_BYTES = 512
_COPY_BYTES = 2**20


@dataclass(frozen=True)
class ShardFiles:
    tar: TarName  # File name of the tar.
    tar_bytes: Count  # Size of the tar.
    tar_sha256: Sha256  # SHA-256 of the tar.
    idx_sha256: Sha256  # SHA-256 of the DALI index.
    frames_sha256: Sha256  # SHA-256 of the frame index.
    n_videos: Count  # Number of videos.
    n_frames: Count  # Number of frames of all videos.


def shard_paths(folder: Path, stem: str) -> tuple[Path, Path, Path]:
    """Paths of a shard's tar, DALI index and frame index."""
    return folder / f"{stem}.tar", folder / f"{stem}.idx", folder / f"{stem}.frames.npy"


class ShardWriter:
    """Writes one shard into a folder, video by video. Nothing of it counts before `finish`."""

    def __init__(self, folder: Path, stem: str) -> None:
        self._folder, self._stem = folder, stem
        self._tar = tarfile.open(shard_paths(folder, stem)[0], "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        self._tar.copybufsize = _COPY_BYTES  # type: ignore[attr-defined] # typeshed lacks it
        self._index_lines: list[str] = []
        self._index: list[FrameIndex] = []
        self._n_frames = 0

    def add(self, key: str, video: Path, metadata: bytes, index: FrameIndex) -> tuple[int, int]:
        """Append a video and its JSON. `index` is the frame index within the video's file.

        Returns:
            Byte offset of the mp4 in the tar, and the video's first row in the shard's frame index.
        """
        with open(video, "rb") as file:
            offset, size = self._member(f"{key}.mp4", os.fstat(file.fileno()).st_size, file)
        json_offset, json_size = self._member(f"{key}.json", len(metadata), io.BytesIO(metadata))
        self._index_lines.append(f"mp4 {offset} {size} {key}.mp4 json {json_offset} {json_size} {key}.json\n")
        first_frame = self._n_frames
        self._index.append(index + np.array([offset, 0, 0]))
        self._n_frames += len(index)
        return offset, first_frame

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
        sync(tar)
        index = f"{DALI_INDEX_VERSION} {len(self._index_lines)}\n" + "".join(self._index_lines)
        write_synced(idx, index.encode())
        table = io.BytesIO()
        np.save(table, np.concatenate(self._index))
        write_synced(frames, table.getvalue())
        return ShardFiles(
            tar=tar.name,
            tar_bytes=tar.stat().st_size,
            tar_sha256=file_sha256(tar),
            idx_sha256=hashlib.sha256(index.encode()).hexdigest(),
            frames_sha256=hashlib.sha256(table.getvalue()).hexdigest(),
            n_videos=len(self._index_lines),
            n_frames=self._n_frames,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tar.fileobj.close()


def publish(scratch: Path, target: Path, stem: str) -> None:
    """Move a finished shard's synced files to where readers look, and make the move durable."""
    for source, final in zip(shard_paths(scratch, stem), shard_paths(target, stem), strict=True):
        source.replace(final)
    sync(target)
