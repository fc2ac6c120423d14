"""Finding the video files below a folder: one pass of `os.scandir`, no file opened."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vclimb.pipeline.errors import SourceError
from vclimb.pipeline.sources.table import Missing, printable_path

VIDEO_SUFFIXES = (
    *(".mp4", ".avi", ".webm", ".mkv", ".mov", ".mpg", ".mpeg", ".m4v", ".wmv", ".flv"),
    *(".3gp", ".ts", ".mts", ".m2ts", ".ogv", ".gif", ".vob", ".asf", ".mjpeg", ".y4m"),
)


@dataclass
class VideoTree:
    """The video files below a folder.

    Attributes:
        root: Absolute folder.
        videos: Paths relative to the root, sorted. They include broken links, which a later stage explains.
        other_suffixes: Number of other files by suffix, in lower case.
        unreadable: Folders that could not be listed, or that link back to a folder above.
    """

    root: Path
    videos: list[str] = field(default_factory=list)
    other_suffixes: Counter[str] = field(default_factory=Counter)
    unreadable: list[Missing] = field(default_factory=list)

    def notes(self) -> list[str]:
        """Sentences about ignored files."""
        if not self.other_suffixes:
            return []
        total = sum(self.other_suffixes.values())
        return [f"ignored {count(total, 'file')} with other suffixes: {self._others()}"]

    def by_stem(self) -> tuple[dict[str, str], list[str]]:
        """The first path of each file stem, and the paths of further files with the same stem."""
        first: dict[str, str] = {}
        further: list[str] = []
        for path in self.videos:
            stem = stem_of(path)
            if stem in first:
                further.append(path)
            else:
                first[stem] = path
        return first, further

    def require_videos(self) -> None:
        """Check that there is a video.

        Raises:
            SourceError: There is none. The message lists the suffixes of videos and of the files there.
        """
        if self.videos:
            return
        looked_for = " ".join(VIDEO_SUFFIXES)
        there = f"the files there are {self._others()}" if self.other_suffixes else "there are no files"
        if self.unreadable:
            there += f"; {self.unreadable[0].path!r}: {self.unreadable[0].reason}"
        raise SourceError(f"no videos below {str(self.root)!r}: looked for {looked_for}; {there}")

    def _others(self) -> str:
        most = self.other_suffixes.most_common(8)
        shown = [f"{printable_path(suffix) or 'no suffix'} ({number})" for suffix, number in most]
        return ", ".join(shown) + (", ..." if len(self.other_suffixes) > len(most) else "")


def scan_videos(root: Path, under: str = "") -> VideoTree:
    """Find all videos below a folder, at any depth. Hidden files and folders are ignored, links are followed.

    Args:
        root: Absolute folder that the paths are relative to.
        under: Folder of the root to search. Empty: the whole root.
    """
    tree = VideoTree(root)
    for path, is_video in _walk(root, under, tree.unreadable):
        if is_video:
            tree.videos.append(path)
        else:
            tree.other_suffixes[os.path.splitext(path)[1].lower()] += 1
    tree.videos.sort()
    return tree


def first_video(root: Path, under: str) -> str | None:
    """Find a video below a folder without listing the whole folder; None if there is none."""
    return next((path for path, is_video in _walk(root, under, []) if is_video), None)


def folders_in(root: Path) -> list[str]:
    """List the names of the folders directly in a folder, sorted, without hidden ones."""
    try:
        with os.scandir(root) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith(".") and _is_folder(entry))
    except OSError as error:
        raise SourceError(f"folder {str(root)!r} can't be read: {error.strerror}") from None


def has_video_suffix(name: str) -> bool:
    """Whether a file name ends like a video's."""
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES


def stem_of(path: str) -> str:
    """The file name of a path without its suffix."""
    return os.path.splitext(path.rpartition("/")[2])[0]


def count(number: int, noun: str) -> str:
    """`1 video`, `12 videos`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def some_of(names: Iterable[str], limit: int = 3) -> str:
    """Write the first few names, and the number of further ones."""
    everything: Sequence[str] = list(names)
    shown = ", ".join(printable_path(name) for name in everything[:limit])
    return shown + (f" and {len(everything) - limit:,} more" if len(everything) > limit else "")


def _walk(root: Path, under: str, unreadable: list[Missing]) -> Iterator[tuple[str, bool]]:
    """Yield the relative path of each file that isn't hidden, and whether its suffix is that of a video."""
    start = os.path.join(root, under) if under else str(root)
    # A trail is a folder's real path, then those of the folders whose links led there. A link to any of these, or to a
    # folder above them, would be followed for ever.
    stack: list[tuple[str, str, tuple[str, ...]]] = [(f"{under}/" if under else "", start, (os.path.realpath(start),))]
    while stack:
        prefix, folder, trail = stack.pop()
        try:
            with os.scandir(folder) as entries:
                listed = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
        except OSError as error:
            unreadable.append(Missing(prefix.rstrip("/") or ".", f"folder can't be read: {error.strerror}"))
            continue
        for entry in listed:
            if not _is_folder(entry):
                yield prefix + entry.name, has_video_suffix(entry.name)
            elif not entry.is_symlink():
                stack.append((f"{prefix}{entry.name}/", entry.path, (os.path.join(trail[0], entry.name), *trail[1:])))
            else:
                real = os.path.realpath(entry.path)
                if any(f"{step}/".startswith(f"{real.rstrip('/')}/") for step in trail):
                    unreadable.append(Missing(prefix + entry.name, "link back to a folder that it lies in"))
                else:
                    stack.append((f"{prefix}{entry.name}/", entry.path, (real, *trail)))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
