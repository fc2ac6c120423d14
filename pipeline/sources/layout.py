"""The interface of layouts. A layout reads one arrangement of videos and labels on disk."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vclimb.pipeline.errors import SourceError
from vclimb.pipeline.sources.table import SourceTable


@dataclass(frozen=True)
class SourceRequest:
    """Arguments of `read_source`, with absolute paths."""

    source: Path  # Folder with the videos; for the layout `table` also the table itself.
    annotations: tuple[Path, ...] = ()  # Annotation files, or folders that hold them. Empty: they lie in the source.
    # Names of our columns to names of the columns in the user's table.
    columns: Mapping[str, str] = field(default_factory=dict)
    allow_outside: bool = False  # Whether a table may name files outside the source.

    def annotation_files(self, suffixes: Sequence[str], subfolders: Sequence[str] = ()) -> list[Path]:
        """List the files with some suffixes that may hold annotations, sorted: the user's, or those in the source.

        `subfolders` are folders of the source, beside its top, where this layout's annotations usually lie.
        """
        files: set[str] = set()
        for place in self.annotations or (self.source, *(self.source / name for name in subfolders)):
            files.update(_files_in(place) if os.path.isdir(place) else [str(place)])
        fitting = (file for file in files if os.path.splitext(file)[1].lower() in suffixes)
        return sorted(Path(file) for file in fitting if os.path.isfile(file))

    def named_files(self, pattern: re.Pattern[str], subfolders: Sequence[str] = ()) -> list[tuple[re.Match[str], Path]]:
        """List the text and JSON files among `annotation_files` whose names match, each with its match."""
        files = self.annotation_files((".txt", ".json"), subfolders)
        return [(match, file) for file in files if (match := pattern.fullmatch(file.name))]

    def places(self, subfolders: Sequence[str] = ()) -> str:
        """Name the places where `annotation_files` looks, for messages."""
        if self.annotations:
            return ", ".join(str(place) for place in self.annotations)
        return ", ".join([str(self.source), *(f"{name}/" for name in subfolders)])

    def refuse_unused_annotations(self, used: Sequence[Path], expected: str) -> None:
        """Raise a SourceError for an annotation file that the user named and the layout does not use."""
        for file in self.annotations:
            if not os.path.isdir(file) and file not in used:
                raise SourceError(f"{file}: not an annotation file of this layout; expected {expected}")

    def refuse_annotations(self, layout: str) -> None:
        """Raise a SourceError if the user gave annotation files to a layout that takes none."""
        if self.annotations:
            raise SourceError(
                f"layout {layout!r} takes no annotation files, but {str(self.annotations[0])!r} was given; "
                "leave it out, or name the layout that it belongs to (--layout)"
            )


def _files_in(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.path for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise SourceError(f"folder {str(folder)!r} can't be read: {error.strerror}") from None


@dataclass(frozen=True)
class Layout:
    """One arrangement of videos and labels on disk."""

    name: str  # Name of the layout for `--layout`.
    looks_for: str  # Description of the files that `recognise` looks for.
    # Function that describes the evidence that a source has this layout, or returns None. It reads little, and never
    # raises for malformed content.
    recognise: Callable[[SourceRequest], str | None]
    read: Callable[[SourceRequest], SourceTable]  # Function that reads the table; malformed content is a SourceError.
