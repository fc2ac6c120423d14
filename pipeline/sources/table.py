"""The result of every layout: a table of videos, each with its labelled instances."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

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
    videos: tuple[SourceVideo, ...]  # Videos, unique by key and by path.
    missing: tuple[Missing, ...] = ()  # Listed videos that can't be used. Kinetics and ActivityNet normally have some.
    notes: tuple[str, ...] = field(default=())  # Sentences for the user about guesses and ignored files.

    def __post_init__(self) -> None:
        for what, names in (("key", [v.key for v in self.videos]), ("path", [v.path for v in self.videos])):
            twice = [name for name, count in Counter(names).items() if count > 1]
            if twice:
                raise ValueError(f"{what} {twice[0]!r} stands {names.count(twice[0])} times in the table")

    def file(self, video: SourceVideo) -> Path:
        return self.root / video.path


def by_class_and_key(video: SourceVideo) -> tuple[str, str]:
    """Sort key of a table's videos."""
    return (min((i.label for i in video.instances), default=""), video.key)


def printable_path(path: str) -> str:
    """Return a path as text for any file format: bytes that are not UTF-8 become `\\xNN`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
