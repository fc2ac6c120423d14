"""Collecting instances video by video into a `SourceTable`."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vclimb.pipeline.errors import SourceError
from vclimb.pipeline.sources.table import Instance, Missing, SourceTable, SourceVideos
from vclimb.pipeline.sources.tree import VideoTree, count, note_some
from vclimb.pipeline.system.distinct import are_distinct


@dataclass
class TableBuilder:
    """Builder of a `SourceTable`, one instance at a time. `build` sorts, and drops and notes repeated instances."""

    layout: str  # Name of the layout.
    root: Path  # Folder that all paths are relative to.
    tree: VideoTree | None = None  # Files that a walk found, whose notes `build` adds.
    missing: dict[str, str] = field(default_factory=dict)  # Path of each listed video that can't be used to the reason.
    notes: list[str] = field(default_factory=list)  # Sentences for the user.
    _paths: list[str] = field(default_factory=list)  # Path of each instance's video.
    _keys: list[str] = field(default_factory=list)
    _groups: list[str | None] = field(default_factory=list)
    _places: array[int] = field(default_factory=lambda: array("q"))  # Place of each instance in `_instances`.
    _instances: dict[Instance, int] = field(default_factory=dict)  # Different instances, with their places.

    def add(self, path: str, key: str, instance: Instance, group: str | None = None) -> None:
        """Add an instance of the video at `path`. The first instance of a path fixes its key and group."""
        self._paths.append(path)
        self._keys.append(key)
        self._groups.append(group)
        self._places.append(self._instances.setdefault(instance, len(self._instances)))

    def miss(self, path: str, reason: str) -> None:
        """Add a video that is listed and can't be used."""
        self.missing.setdefault(path, reason)

    def note_some(self, names: list[str], noun: str, why: str) -> None:
        """Add a note about several names, if there are any."""
        self.notes += note_some(names, noun, why)

    def require_found(self, listed_in: str) -> None:
        """Raise a SourceError, which names the annotation files, unless they list a video that is on disk."""
        if self._paths:
            return
        listed = next(iter(self.missing), None)
        if listed is None:
            raise SourceError(f"{listed_in}: lists no labelled video (layout {self.layout!r})")
        there = f"; a video that is there: {self.tree.videos[0]!r}" if self.tree else ""
        raise SourceError(
            f"{listed_in}: none of the {count(len(self.missing), 'listed video')} can be used; the first: "
            f"{listed!r} ({self.missing[listed]}) in {str(self.root)!r}{there}"
        )

    def build(self) -> SourceTable:
        if self.tree is not None:
            self.notes += self.tree.notes()
            for folder in self.tree.unreadable:
                self.miss(folder.path, folder.reason)
        videos = self._videos()
        return SourceTable(
            layout=self.layout,
            root=self.root,
            videos=videos.in_order(),
            missing=tuple(Missing(path, reason) for path, reason in sorted(self.missing.items())),
            notes=tuple(self.notes),
        )

    def _videos(self) -> SourceVideos:
        """The videos, each with its instances by time. Notes repeated instances."""
        segments = [(instance,) for instance in self._instances]
        videos = SourceVideos(self._paths, self._keys, self._groups, segments, np.array(self._places, np.int64))
        return videos if are_distinct(self._paths) else self._merged(videos)

    def _merged(self, videos: SourceVideos) -> SourceVideos:
        """The videos, of which some have several instances, from a row for each instance."""
        rows: dict[str, int] = {}  # First row of each path.
        instances: dict[str, dict[Instance, None]] = {}
        repeated: dict[str, None] = {}
        for row, video in enumerate(videos):
            rows.setdefault(video.path, row)
            (instance,) = video.instances
            if instance in (before := instances.setdefault(video.path, {})):
                repeated[video.path] = None
            before[instance] = None
        self.note_some(list(repeated), "video", "listed more than once with the same label and times (counts once)")
        return SourceVideos.of(
            replace(videos[row], instances=tuple(sorted(instances[path], key=_by_time_and_label)))
            for path, row in rows.items()
        )


def _by_time_and_label(instance: Instance) -> tuple[float, float, str, str]:
    end = float("inf") if instance.end_seconds is None else instance.end_seconds
    return (instance.start_seconds or 0.0, end, instance.label, instance.split or "")
