"""Stored videos by their keys, as a mapping."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pyarrow as pa

from vclimb.pipeline.dataset.columns import StoredVideos
from vclimb.pipeline.dataset.rows import StoredVideo


class VideosByKey(Mapping[str, StoredVideo]):
    """Stored videos by key. `StoredVideos.rows_of` looks many keys up in one call."""

    def __init__(self, videos: StoredVideos) -> None:
        self._videos = videos

    def __getitem__(self, key: str) -> StoredVideo:
        row = self._videos.rows_of(pa.array([key], pa.string())).item() if _is_text(key) else -1
        if row < 0:
            raise KeyError(key)
        video: StoredVideo = self._videos[row]
        return video

    def __iter__(self) -> Iterator[str]:
        return iter(self._videos.keys.to_pylist())

    def __len__(self) -> int:
        return len(self._videos)


def _is_text(key: object) -> bool:
    try:
        return isinstance(key, str) and bool(key.encode())
    except UnicodeEncodeError:
        return False
