"""Collecting instances video by video into a `SourceTable`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from vclimb.pipeline.errors import SourceError
from vclimb.pipeline.sources.table import Instance, Missing, SourceTable, SourceVideo, by_class_and_key
from vclimb.pipeline.sources.tree import VideoTree, count, some_of


@dataclass
class _Draft:
    key: str
    group: str | None
    instances: dict[Instance, None] = field(default_factory=dict)


class TableBuilder:
    """Builder of a `SourceTable`, one instance at a time. `build` sorts, and drops and notes repeated instances.

    Attributes:
        layout: Name of the layout.
        root: Folder that all paths are relative to.
        missing: Path of each listed video that can't be used to the reason.
        notes: Sentences for the user.
    """

    def __init__(self, layout: str, root: Path) -> None:
        self.layout = layout
        self.root = root
        self.missing: dict[str, str] = {}
        self.notes: list[str] = []
        self._drafts: dict[str, _Draft] = {}
        self._repeated: dict[str, None] = {}

    def __contains__(self, path: str) -> bool:
        return path in self._drafts

    def add(self, path: str, key: str, instance: Instance, group: str | None = None) -> None:
        """Add an instance of the video at `path`. The first instance of a path fixes its key and group."""
        draft = self._drafts.setdefault(path, _Draft(key, group))
        if instance in draft.instances:
            self._repeated[path] = None
        draft.instances[instance] = None

    def miss(self, path: str, reason: str) -> None:
        """Add a video that is listed and can't be used."""
        self.missing.setdefault(path, reason)

    def take_notes_of(self, tree: VideoTree) -> None:
        """Add notes about files that a walk ignored, and the folders that it could not read."""
        self.notes += tree.notes()
        for folder in tree.unreadable:
            self.miss(folder.path, folder.reason)

    def note_some(self, names: list[str], noun: str, why: str) -> None:
        """Add a note about several names (`3 videos <why>: a, b, c`), if there are any."""
        if names:
            self.notes.append(f"{count(len(names), noun)} {why}: {some_of(names)}")

    def require_found(self, listed_in: str, video_there: str | None = None) -> None:
        """Check that annotations list a video that is on disk.

        Args:
            listed_in: Names of the annotation files, for the error.
            video_there: Any video on disk, which shows in the error how names differ.

        Raises:
            SourceError: Annotations list no video, or none that is on disk.
        """
        if self._drafts:
            return
        listed = next(iter(self.missing), None)
        if listed is None:
            raise SourceError(f"{listed_in}: lists no labelled video (layout {self.layout!r})")
        there = f"; a video that is there: {video_there!r}" if video_there else ""
        raise SourceError(
            f"{listed_in}: none of the {count(len(self.missing), 'listed video')} can be used; the first: "
            f"{listed!r} ({self.missing[listed]}) in {str(self.root)!r}{there}"
        )

    def build(self) -> SourceTable:
        """Return the table of all instances added."""
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
