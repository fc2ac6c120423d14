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
_VIDEO_SUFFIXES = frozenset(VIDEO_SUFFIXES)


@dataclass
class VideoTree:
    root: Path  # Absolute folder.
    # Paths relative to the root, sorted. They include broken links, which a later stage explains.
    videos: list[str] = field(default_factory=list)
    other_suffixes: Counter[str] = field(default_factory=Counter)  # Number of other files by suffix, in lower case.
    # Folders that could not be listed, or that link back to a folder above.
    unreadable: list[Missing] = field(default_factory=list)
    further: list[str] = field(default_factory=list)  # Paths that `by_stem` left out.

    def notes(self) -> list[str]:
        notes = note_some(self.further, "video", "with the name of another one ignored")
        if self.other_suffixes:
            total = sum(self.other_suffixes.values())
            notes.append(f"ignored {count(total, 'file')} with other suffixes: {self.others()}")
        return notes

    def by_stem(self) -> dict[str, str]:
        """The first path of each file stem. `further` keeps the other paths."""
        first: dict[str, str] = {}
        for path in self.videos:
            if first.setdefault(stem_of(path), path) != path:
                self.further.append(path)
        return first

    def others(self) -> str:
        """The most common suffixes of other files, with their numbers."""
        most = self.other_suffixes.most_common(8)
        shown = [f"{printable_path(suffix) or 'no suffix'} ({number})" for suffix, number in most]
        return ", ".join(shown) + (", ..." if len(self.other_suffixes) > len(most) else "")


def scan_videos(root: Path, under: str = "") -> VideoTree:
    """Find all videos below a folder, at any depth. Hidden files and folders are ignored, links are followed.

    Paths are relative to `root`, of which only the folder `under` is searched. Raises a SourceError where there is no
    video; the message lists the suffixes of videos and of the files there.
    """
    tree = VideoTree(root)
    for path, is_video in _walk(root, under, tree.unreadable):
        if is_video:
            tree.videos.append(path)
        else:
            tree.other_suffixes[os.path.splitext(path)[1].lower()] += 1
    if not tree.videos:
        there = f"the files there are {tree.others()}" if tree.other_suffixes else "there are no files"
        if tree.unreadable:
            there += f"; {tree.unreadable[0].path!r}: {tree.unreadable[0].reason}"
        raise SourceError(f"no videos below {str(root)!r}: looked for {' '.join(VIDEO_SUFFIXES)}; {there}")
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
    return name[name.rfind(".") :].lower() in _VIDEO_SUFFIXES


def stem_of(path: str) -> str:
    return os.path.splitext(path.rpartition("/")[2])[0]


def count(number: int, noun: str) -> str:
    """`1 video`, `12 videos`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def some_of(names: Iterable[str], limit: int = 3) -> str:
    """Write the first few names, and the number of further ones."""
    everything: Sequence[str] = list(names)
    shown = ", ".join(printable_path(name) for name in everything[:limit])
    return shown + (f" and {len(everything) - limit:,} more" if len(everything) > limit else "")


def note_some(names: list[str], noun: str, why: str) -> list[str]:
    """A note about several names, such as `3 videos <why>: a, b, c`; an empty list where there are none."""
    return [f"{count(len(names), noun)} {why}: {some_of(names)}"] if names else []


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
