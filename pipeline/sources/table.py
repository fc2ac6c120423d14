"""The result of every layout: a table of videos, each with its labelled instances."""

from __future__ import annotations

import operator
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt

from vclimb.pipeline.system.distinct import are_distinct

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Instance:
    """A labelled segment of a video."""

    label: str  # Class name as the source spells it.
    split: str | None = None  # `train`, `val` or `test`. None: the source has no splits.
    start_seconds: float | None = None  # Start in the source video. None: its first frame.
    end_seconds: float | None = None  # End in the source video, exclusive. None: its last frame.


@dataclass(frozen=True, slots=True)
class SourceVideo:
    """One file of the source and its instances. A file is stored once, however many instances it has."""

    path: str  # Path relative to the table's root. It may hold any bytes that the file system allows (surrogateescape).
    key: str  # Name of the video in the shards, made by `keys.make_key`; unique in a table.
    instances: tuple[Instance, ...]  # Labelled segments of the video.
    group: str | None = None  # Name shared by videos that were cut from one recording. None: unknown.


@dataclass(frozen=True, eq=False)
class SourceVideos(Sequence[SourceVideo]):
    """Videos of a source in columns. A `SourceVideo` is made when it is asked for.

    Objects of a million videos would take half a gigabyte, and time of the garbage collector.
    """

    paths: Sequence[str]  # Path of each video.
    keys: Sequence[str]  # Key of each video.
    groups: Sequence[str | None]  # Group of each video.
    segments: Sequence[tuple[Instance, ...]]  # Different tuples of instances.
    segment: npt.NDArray[np.int64]  # (n_videos,): place in `segments` of each video's instances.

    @classmethod
    def of(cls, videos: Iterable[SourceVideo]) -> SourceVideos:
        """Put videos into columns."""
        videos, places = list(videos), dict[tuple[Instance, ...], int]()
        segment = [places.setdefault(video.instances, len(places)) for video in videos]
        return cls(
            [video.path for video in videos],
            [video.key for video in videos],
            [video.group for video in videos],
            tuple(places),
            np.array(segment, np.int64),
        )

    def take(self, rows: Sequence[int]) -> SourceVideos:
        """The videos at some places, in the order of the places."""
        return SourceVideos(
            [self.paths[row] for row in rows],
            [self.keys[row] for row in rows],
            [self.groups[row] for row in rows],
            self.segments,
            self.segment[np.asarray(rows, np.int64)],
        )

    def classes(self) -> npt.NDArray[np.int64]:
        """(n_videos,): the rank of each video's first class name in alphabetical order."""
        first = [min((i.label for i in instances), default="") for instances in self.segments]
        rank = {label: rank for rank, label in enumerate(sorted(set(first)))}
        return np.array([rank[label] for label in first], np.int64)[self.segment]

    def in_order(self) -> SourceVideos:
        """The videos by class, so that a class lies together on disk, and by key."""
        by_key = np.array(sorted(range(len(self)), key=self.keys.__getitem__), np.int64)
        rows = by_key[np.argsort(self.classes()[by_key], kind="stable")]
        return self if (rows[:-1] < rows[1:]).all() else self.take(rows.tolist())

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, place: int) -> SourceVideo: ...
    @overload
    def __getitem__(self, place: slice) -> SourceVideos: ...
    def __getitem__(self, place: int | slice) -> SourceVideo | SourceVideos:
        if isinstance(place, slice):
            return self.take(range(len(self))[place])
        return SourceVideo(self.paths[place], self.keys[place], self.segments[self.segment[place]], self.groups[place])

    def __iter__(self) -> Iterator[SourceVideo]:
        instances = map(self.segments.__getitem__, self.segment.tolist())
        return map(SourceVideo, self.paths, self.keys, instances, self.groups)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SourceVideos) and len(self) == len(other) and all(map(operator.eq, self, other))


@dataclass(frozen=True)
class Missing:
    """A video that an annotation file lists and that is not on disk, or can't be used as listed."""

    path: str  # Path or name of the video as listed.
    reason: str  # Reason why the video can't be used.


@dataclass(frozen=True)
class SourceTable:
    """All videos of a source, sorted by (first label, key), so that a class lies together on disk."""

    layout: str  # Name of the layout.
    root: Path  # Absolute folder that all paths are relative to.
    videos: SourceVideos  # Videos, unique by key and by path.
    missing: tuple[Missing, ...] = ()  # Listed videos that can't be used. Kinetics and ActivityNet normally have some.
    notes: tuple[str, ...] = field(default=())  # Sentences for the user about guesses and ignored files.

    def __post_init__(self) -> None:
        for what, names in (("key", self.videos.keys), ("path", self.videos.paths)):
            if not are_distinct(names):
                name, times = Counter(names).most_common(1)[0]
                raise ValueError(f"{what} {name!r} stands {times} times in the table")

    def file(self, video: SourceVideo) -> Path:
        return self.root / video.path


def printable_path(path: str) -> str:
    """Return a path as text for any file format: bytes that are not UTF-8 become `\\xNN`."""
    return path if path.isascii() else os.fsencode(path).decode("utf-8", "backslashreplace")
