"""Collecting instances video by video into a `SourceTable`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from vclimb.pipeline.errors import SourceError
from vclimb.pipeline.sources.table import Instance, Missing, SourceTable, SourceVideo, by_class_and_key
from vclimb.pipeline.sources.tree import VideoTree, count, note_some


@dataclass
class _Draft:
    key: str
    group: str | None
    instances: dict[Instance, None] = field(default_factory=dict)


@dataclass
class TableBuilder:
    """Builder of a `SourceTable`, one instance at a time. `build` sorts, and drops and notes repeated instances."""

    layout: str  # Name of the layout.
    root: Path  # Folder that all paths are relative to.
    tree: VideoTree | None = None  # Files that a walk found, whose notes `build` adds.
    missing: dict[str, str] = field(default_factory=dict)  # Path of each listed video that can't be used to the reason.
    notes: list[str] = field(default_factory=list)  # Sentences for the user.
    _drafts: dict[str, _Draft] = field(default_factory=dict)
    _same: dict[Instance, Instance] = field(default_factory=dict)
    _repeated: dict[str, None] = field(default_factory=dict)

    def __contains__(self, path: str) -> bool:
        return path in self._drafts

    def add(self, path: str, key: str, instance: Instance, group: str | None = None) -> None:
        """Add an instance of the video at `path`. The first instance of a path fixes its key and group."""
        instance = self._same.setdefault(instance, instance)  # shared by all videos of a class
        draft = self._drafts.setdefault(path, _Draft(key, group))
        if instance in draft.instances:
            self._repeated[path] = None
        draft.instances[instance] = None

    def miss(self, path: str, reason: str) -> None:
        """Add a video that is listed and can't be used."""
        self.missing.setdefault(path, reason)

    def note_some(self, names: list[str], noun: str, why: str) -> None:
        """Add a note about several names, if there are any."""
        self.notes += note_some(names, noun, why)

    def require_found(self, listed_in: str) -> None:
        """Raise a SourceError, which names the annotation files, unless they list a video that is on disk."""
        if self._drafts:
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
        self.note_some(
            list(self._repeated), "video", "listed more than once with the same label and times (counts once)"
        )
        videos = [
            SourceVideo(path, draft.key, tuple(sorted(draft.instances, key=_by_time_and_label)), draft.group)
            for path, draft in self._drafts.items()
        ]
        return SourceTable(
            layout=self.layout,
            root=self.root,
            videos=tuple(sorted(videos, key=by_class_and_key)),
            missing=tuple(Missing(path, reason) for path, reason in sorted(self.missing.items())),
            notes=tuple(self.notes),
        )


def _by_time_and_label(instance: Instance) -> tuple[float, float, str, str]:
    end = float("inf") if instance.end_seconds is None else instance.end_seconds
    return (instance.start_seconds or 0.0, end, instance.label, instance.split or "")
