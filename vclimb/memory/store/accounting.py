"""What a memory costs, counted from its files: anyone can check it with `du` and `find`."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from vclimb.memory.store.class_nodes import is_exemplar_array
from vclimb.memory.store.errors import ExemplarDamagedError, MemoryChangedError
from vclimb.memory.store.index_nodes import EXEMPLARS, INDEX, PARTS
from vclimb.memory.store.reader import MemoryStore
from vclimb.memory.store.stored_class import StoredClass

_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's own is
_ATTEMPTS = 20


@dataclass(frozen=True)
class DiskBytes:
    """Bytes on disk.

    Attributes:
        apparent: Lengths of files, as `du --apparent-size` and `ls` count.
        allocated: Blocks that the file system set aside, as `du` counts.
    """

    apparent: int = 0
    allocated: int = 0

    def __add__(self, other: DiskBytes) -> DiskBytes:
        return DiskBytes(self.apparent + other.apparent, self.allocated + other.allocated)


@dataclass(frozen=True)
class ClassUsage:
    """What one class of a memory costs.

    Attributes:
        encoding: How the exemplars were encoded, such as `jpeg:75@128`.
        source_frames: Number of frames of the instances that the exemplars stand for.
        payload_bytes: Bytes of the encoded frames alone.
        files: Bytes of the files in the class's folder.
        is_damaged: Whether the class's table can't be read, so that its frames and payload are not counted.
    """

    label: int
    name: str
    encoding: str
    videos: int
    frames: int
    source_frames: int
    payload_bytes: int
    files: DiskBytes
    is_damaged: bool = False

    @property
    def bytes_per_frame(self) -> float:
        """Apparent bytes of the class's files for each frame kept; 0 where these can't be counted."""
        return self.files.apparent / self.frames if self.frames else 0.0


@dataclass(frozen=True)
class MemoryUsage:
    """What a memory costs.

    Attributes:
        classes: Usage of each class, by label id; the numbers that follow are sums over them.
        parts: Bytes of the files of each part of the memory, by name: `exemplars`, the `features` and `logits` that are
            kept with them, and the arrays beside them, such as `statistics`.
        index_bytes: Apparent bytes of the files that belong to no class and to no array beside the exemplars.
        files: Bytes of all files; `files.apparent` is what a budget in bytes counts.
        folders: Bytes of the folders themselves, which depend on the file system. `du -s --block-size=1` is
            `files.allocated + folders.allocated`, `du -sb` is `files.apparent + folders.apparent`.
    """

    classes: tuple[ClassUsage, ...]
    videos: int
    frames: int
    source_frames: int
    payload_bytes: int
    parts: dict[str, DiskBytes]
    index_bytes: int
    files: DiskBytes
    folders: DiskBytes
    n_files: int

    @property
    def part_bytes(self) -> dict[str, int]:
        """Apparent bytes of the files of each part, and of the `index`; together they are `files.apparent`."""
        parts = {name: self.parts[name].apparent for name in PARTS if name in self.parts}
        return {**parts, INDEX: self.files.apparent - sum(parts.values())}

    @property
    def bytes_per_frame(self) -> float:
        """Apparent bytes of exemplars and index for each frame kept; 0 for a memory without frames."""
        parts = self.part_bytes
        return (parts.get(EXEMPLARS, 0) + parts[INDEX]) / self.frames if self.frames else 0.0

    @property
    def every_frame_bytes(self) -> int:
        """Estimate of the bytes of encoded frames if every frame of the exemplars' instances were kept.

        It is each class's bytes a kept frame, times the frames of its instances. Frames that follow one another
        closely differ less than those that are kept, so that a video codec would take fewer bytes.
        """
        return round(
            sum(usage.payload_bytes * usage.source_frames / usage.frames for usage in self.classes if usage.frames)
        )


def measure(path: Path | str) -> MemoryUsage:
    """Count a memory's files and what they hold, as `open_and_measure` does."""
    return open_and_measure(path)[1]


def open_and_measure(path: Path | str) -> tuple[MemoryStore, MemoryUsage]:
    """Open a memory and count its files: both of one generation.

    Raises:
        DatasetError: there is no memory, or its index can't be read.
        MemoryChangedError: it was changed again and again while it was counted.
    """
    for _ in range(_ATTEMPTS):
        memory = MemoryStore.open(path)
        usage = _measure(memory)
        if usage is not None and memory.is_current():
            return memory, usage
    raise MemoryChangedError(f"{path} was changed each of the {_ATTEMPTS} times it was counted; do it later")


def _measure(memory: MemoryStore) -> MemoryUsage | None:
    labels = {stored.folder: label for label, stored in memory.classes.items()}
    class_files, parts = defaultdict[int, DiskBytes](DiskBytes), defaultdict[str, DiskBytes](DiskBytes)
    files, folders, n_files, index_bytes = DiskBytes(), DiskBytes(), 0, 0

    def fail(error: OSError) -> None:
        raise error

    try:
        for folder, _, names in os.walk(memory.path, onerror=fail):
            place = Path(folder).relative_to(memory.path)
            folders += _size(folder)
            n_files += len(names)
            folder_files = sum((_size(f"{folder}/{name}") for name in names), DiskBytes())
            files += folder_files
            if place.parts:
                parts[_part(place.parts)] += folder_files
            if (label := labels.get("/".join(place.parts[:2]))) is not None:
                class_files[label] += folder_files
            elif place.parts[:1] in ((), (EXEMPLARS,)):
                index_bytes += folder_files.apparent
    except FileNotFoundError:  # a writer is at work
        return None
    classes = tuple(
        _class_usage(memory, stored, class_files[label]) for label, stored in sorted(memory.classes.items())
    )
    counted = ((usage.videos, usage.frames, usage.source_frames, usage.payload_bytes) for usage in classes)
    videos, frames, source_frames, payload_bytes = (sum(counts) for counts in zip((0,) * 4, *counted, strict=True))
    totals = videos, frames, source_frames, payload_bytes
    return MemoryUsage(classes, *totals, dict(parts), index_bytes, files, folders, n_files)


def _part(place: tuple[str, ...]) -> str:
    """Name the part that the files of a folder count in."""
    if len(place) > 2 and place[0] == EXEMPLARS and is_exemplar_array(place[2]):
        return place[2].partition("_")[0]
    return place[0]


def _class_usage(memory: MemoryStore, stored: StoredClass, files: DiskBytes) -> ClassUsage:
    what = stored.label, stored.name, stored.encoding, stored.n_exemplars
    try:
        table = memory.table(stored.label)
    except ExemplarDamagedError:
        return ClassUsage(*what, 0, 0, 0, files, is_damaged=True)
    counts = (int(numbers.sum()) for numbers in (table.n_frames, table.n_source_frames, table.payload_bytes))
    frames, source_frames, payload_bytes = counts
    return ClassUsage(*what, frames, source_frames, payload_bytes, files)


def _size(path: str) -> DiskBytes:
    status = os.lstat(path)
    return DiskBytes(status.st_size, status.st_blocks * _BLOCK_BYTES)
