"""What every source layout yields: a table of videos, each with the labelled instances it holds."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Instance:
    """A labelled stretch of a video.

    Attributes:
        label: class name as the source spells it.
        split: `train`, `val` or `test`; None where the source has no splits.
        start_seconds: where it begins in the source video; None is its first frame.
        end_seconds: where it ends (exclusive); None is its last frame.
    """

    label: str
    split: str | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None


@dataclass(frozen=True)
class SourceVideo:
    """One file of the source and the instances that lie in it. Stored once, however many there are.

    Attributes:
        path: relative to the table's root. May hold any bytes the file system allows (surrogateescape).
        key: the name it gets in the shards, made by `keys.make_key`; unique in a table.
        group: videos cut from one recording share it; a source-disjoint split never parts them. None: unknown.
    """

    path: str
    key: str
    instances: tuple[Instance, ...]
    group: str | None = None


@dataclass(frozen=True)
class Missing:
    """A video that an annotation file lists and the disk does not have, or that can't be used as listed."""

    path: str
    reason: str


@dataclass(frozen=True)
class SourceTable:
    """All videos of a source, sorted by (first label, key), so that a class lies together on disk.

    Attributes:
        layout: name of the layout that was read.
        root: absolute folder that all paths are relative to.
        videos: unique by key and by path.
        missing: listed but not there; normal for Kinetics and ActivityNet, reported all the same.
        notes: sentences for the user (what was guessed, what was ignored).
    """

    layout: str
    root: Path
    videos: tuple[SourceVideo, ...]
    missing: tuple[Missing, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        for what, names in (("key", [v.key for v in self.videos]), ("path", [v.path for v in self.videos])):
            twice = [name for name, count in Counter(names).items() if count > 1]
            if twice:
                raise ValueError(f"{what} {twice[0]!r} stands {names.count(twice[0])} times in the table")

    def file(self, video: SourceVideo) -> Path:
        """The absolute path of a video's file."""
        return self.root / video.path


def by_class_and_key(video: SourceVideo) -> tuple[str, str]:
    """Sort key of a table's videos."""
    return (min((i.label for i in video.instances), default=""), video.key)


def printable_path(path: str) -> str:
    """A path as text that any file format takes: bytes that are not UTF-8 become `\\xNN`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
