"""What a memory costs, counted from its files: anyone can check it with `du` and `find`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vclimb.memory.store.errors import ExemplarDamagedError, MemoryChangedError
from vclimb.memory.store.layout import StoredClass
from vclimb.memory.store.reader import MemoryStore

_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's own is
_ATTEMPTS = 20


@dataclass(frozen=True)
class DiskBytes:
    """Bytes on disk.

    Attributes:
        apparent: lengths, as `du --apparent-size` and `ls` count.
        allocated: blocks that the file system set aside, as `du` counts.
    """

    apparent: int = 0
    allocated: int = 0

    def __add__(self, other: DiskBytes) -> DiskBytes:
        return DiskBytes(self.apparent + other.apparent, self.allocated + other.allocated)


@dataclass(frozen=True)
class ClassUsage:
    """What one class of a memory costs.

    Attributes:
        label: label id.
        name: of the class.
        videos: exemplars.
        frames: that they keep.
        source_frames: of the instances that they stand for.
        payload_bytes: of the encoded frames alone.
        files: bytes of the files in the class's folder.
        is_damaged: its facts can't be read, so that its frames and payload are not counted.
    """

    label: int
    name: str
    videos: int
    frames: int
    source_frames: int
    payload_bytes: int
    files: DiskBytes
    is_damaged: bool = False


@dataclass(frozen=True)
class MemoryUsage:
    """What a memory costs.

    Attributes:
        classes: by label id.
        files: bytes of all files; `files.apparent` is what a budget in bytes counts.
        folders: bytes of the folders themselves, which depend on the file system. `du -s --block-size=1` is
            `files.allocated + folders.allocated`, `du -sb` is `files.apparent + folders.apparent`.
        n_files: number of files.
    """

    classes: tuple[ClassUsage, ...]
    files: DiskBytes
    folders: DiskBytes
    n_files: int

    @property
    def videos(self) -> int:
        """Exemplars of all classes."""
        return sum(usage.videos for usage in self.classes)

    @property
    def frames(self) -> int:
        """Frames kept of all exemplars."""
        return sum(usage.frames for usage in self.classes)

    @property
    def source_frames(self) -> int:
        """Frames of the instances that all exemplars stand for."""
        return sum(usage.source_frames for usage in self.classes)

    @property
    def payload_bytes(self) -> int:
        """Bytes of the encoded frames alone."""
        return sum(usage.payload_bytes for usage in self.classes)

    @property
    def index_bytes(self) -> int:
        """Apparent bytes of the files that belong to no class: the index, and what a writer is staging."""
        return self.files.apparent - sum(usage.files.apparent for usage in self.classes)

    @property
    def bytes_per_frame(self) -> float:
        """Apparent bytes of all files for each frame kept; 0 for a memory without frames."""
        return self.files.apparent / self.frames if self.frames else 0.0


def measure(path: Path | str) -> MemoryUsage:
    """Count a memory's files and what they hold.

    Raises:
        DatasetError: there is no memory, or its index can't be read.
        MemoryChangedError: it was changed again and again while it was counted.
    """
    for _ in range(_ATTEMPTS):
        memory = MemoryStore.open(path)
        usage = _measure(memory)
        if usage is not None and MemoryStore.open(path).generation == memory.generation:
            return usage
    raise MemoryChangedError(f"{path} was changed each of the {_ATTEMPTS} times it was counted; do it later")


def _measure(memory: MemoryStore) -> MemoryUsage | None:
    of_folder = {stored.folder: label for label, stored in memory.classes.items()}
    of_class = dict.fromkeys(memory.classes, DiskBytes())
    files, folders, n_files = DiskBytes(), DiskBytes(), 0
    try:
        for place, names in _walk(memory.path):
            folders += _size(memory.path / place)
            of_files = sum((_size(memory.path / place / name) for name in names), DiskBytes())
            files, n_files = files + of_files, n_files + len(names)
            label = of_folder.get("/".join(place.parts[:2]))
            if label is not None:
                of_class[label] += of_files
    except FileNotFoundError:  # a writer is at work
        return None
    usages = tuple(_class_usage(memory, stored, of_class[label]) for label, stored in sorted(memory.classes.items()))
    return MemoryUsage(usages, files, folders, n_files)


def _class_usage(memory: MemoryStore, stored: StoredClass, files: DiskBytes) -> ClassUsage:
    try:
        facts = memory.facts(stored.label)
    except ExemplarDamagedError:
        return ClassUsage(stored.label, stored.name, stored.n_exemplars, 0, 0, 0, files, is_damaged=True)
    return ClassUsage(
        label=stored.label,
        name=stored.name,
        videos=len(facts),
        frames=int(facts.n_kept_frames.sum()),
        source_frames=int((facts.column("end_frame") - facts.column("start_frame")).sum()),
        payload_bytes=int(facts.payload_bytes.sum()),
        files=files,
    )


def _walk(path: Path) -> Iterator[tuple[Path, list[str]]]:
    """Each folder below a path, itself included, relative to it, and the names of its files."""

    def fail(error: OSError) -> None:
        raise error

    for place, _, names in os.walk(path, onerror=fail):
        yield Path(place).relative_to(path), names


def _size(path: Path) -> DiskBytes:
    status = os.lstat(path)
    return DiskBytes(status.st_size, status.st_blocks * _BLOCK_BYTES)
