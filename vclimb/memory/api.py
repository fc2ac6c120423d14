"""`vclimb.Memory`: a replay memory that is opened for reading."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vclimb.memory.store.accounting import ClassUsage, MemoryUsage, open_and_measure
from vclimb.memory.store.damage import ArrayDamage, Damage
from vclimb.memory.store.reader import MemoryStore
from vclimb.memory.store.stored_array import AnyArray
from vclimb.memory.store.stored_class import INDEX_FILE, MEMORY_NAME
from vclimb.pipeline.dataset.contact_sheet import check_png, write_png
from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.system.paths import local_path
from vclimb.pipeline.system.progress import progress_bar

if TYPE_CHECKING:  # load torch, which opening a memory does not need
    from vclimb.memory.pack_summary import PackSummary
    from vclimb.memory.store.exemplar import Exemplar


@dataclass(frozen=True)
class SheetSummary:
    """What a picture of a memory shows.

    Attributes:
        path: PNG file.
        classes: Number of classes shown.
        exemplars: Number of exemplars shown, damaged ones included.
        damaged: Number of exemplars that could not be drawn.
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.
    """

    path: Path
    classes: int
    exemplars: int
    damaged: int
    width: int
    height: int

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values, for `--json`."""
        return {**asdict(self), "path": str(self.path)}


class Memory:
    """A replay memory, opened for reading: one generation of it.

        memory = vclimb.Memory.open("runs/icarl")
        memory.bytes_on_disk, memory.usage.frames
        for exemplar in memory:
            exemplar.key, exemplar.frames, exemplar.clip.units

    Attributes:
        store: Exemplars by label id and rank.
        usage: Videos, frames and bytes, in all and of each class.
        packed: Result of the `vclimb.pack` call that returned this memory; None where it was only opened.
        sheet_summary: Content of the picture that `vclimb.pack` drew; None where it drew none.
    """

    packed: PackSummary | None = None
    sheet_summary: SheetSummary | None = None

    def __init__(self, store: MemoryStore, usage: MemoryUsage) -> None:
        """Use `open`."""
        self.store = store
        self.usage = usage

    @classmethod
    def open(cls, path: Path | str) -> Memory:
        """Open a memory and count its files. It may be in use meanwhile.

        Args:
            path: A memory, such as `RUN/memory.zarr`, or the folder of a run.

        Raises:
            DatasetError: there is no memory, its format version isn't known, or its index is damaged.
            MemoryChangedError: it was changed again and again while it was counted.
        """
        return cls(*open_and_measure(memory_path(local_path(path))))

    @property
    def path(self) -> Path:
        """Path of the memory."""
        return self.store.path

    @property
    def bytes_on_disk(self) -> int:
        """Bytes of all files, which is what a budget in bytes counts."""
        return self.usage.files.apparent

    def __len__(self) -> int:
        """Number of exemplars."""
        return len(self.store)

    def __iter__(self) -> Iterator[Exemplar]:
        """Read all exemplars, by label id and rank.

        Raises:
            MemoryChangedError: an exemplar was dropped since the memory was opened.
            ExemplarDamagedError: the stored bytes of an exemplar are damaged.
        """
        for label, stored in sorted(self.store.classes.items()):
            for rank in range(stored.n_exemplars):
                yield self.store.exemplar(label, rank)

    def array(self, name: str) -> AnyArray:
        """Read an array that a method keeps besides exemplars, such as `statistics/importance`; `store.arrays` has all.

        Raises:
            DatasetError: the memory has no such array.
            MemoryChangedError: the array was replaced since the memory was opened.
            ArrayDamagedError: the stored bytes are damaged.
        """
        return self.store.array(name)

    def verify(self, *, progress: bool | None = None) -> tuple[Damage | ArrayDamage, ...]:
        """Read all exemplars and arrays, and list the damaged ones.

        Args:
            progress: Whether a progress bar is shown; None: where stderr is a terminal or in Jupyter.

        Raises:
            MemoryChangedError: the memory was changed meanwhile.
        """
        with progress_bar("exemplars", progress) as bar:
            bar.add_task("reading", total=None, note="")
            return (*self.store.verify(), *self.store.verify_arrays())

    def sheet(self, path: Path | str) -> SheetSummary:
        """Draw a PNG with a row for each class: the frames that its first exemplars keep.

        Raises:
            SettingsError: the picture can't be written there.
            MemoryChangedError: an exemplar was dropped since the memory was opened.
        """
        from vclimb.memory.sheet import memory_sheet

        path = local_path(path)
        check_picture(path, self.path)
        drawn = memory_sheet(self.store, self.usage)
        write_png(drawn.picture, path)
        return SheetSummary(path, drawn.n_classes, drawn.n_exemplars, drawn.n_damaged, *drawn.picture.size)

    def to_json(self) -> dict[str, Any]:
        """Convert what the memory costs to plain values, for `--json`."""
        usage = self.usage
        return {
            "path": str(self.path),
            "generation": self.store.generation,
            "totals": {
                "classes": len(usage.classes),
                "exemplars": usage.videos,
                "frames": usage.frames,
                "source_frames": usage.source_frames,
                "payload_bytes": usage.payload_bytes,
                "parts_bytes": usage.part_bytes,
                "index_bytes": usage.index_bytes,
                "apparent_bytes": usage.files.apparent,
                "allocated_bytes": usage.files.allocated,
                "folders_apparent_bytes": usage.folders.apparent,
                "folders_allocated_bytes": usage.folders.allocated,
                "files": usage.n_files,
                "bytes_per_frame": usage.bytes_per_frame,
                "every_frame_estimated_bytes": usage.every_frame_bytes,
            },
            "classes": [self._class_json(class_usage) for class_usage in usage.classes],
            "arrays": [
                {"name": name, "dtype": array.dtype, "shape": list(array.shape)}
                for name, array in sorted(self.store.arrays.items())
            ],
        }

    def _class_json(self, usage: ClassUsage) -> dict[str, Any]:
        return {
            "label": usage.label,
            "class": usage.name,
            "codec": usage.encoding,
            "exemplars": usage.videos,
            "frames": usage.frames,
            "source_frames": usage.source_frames,
            "payload_bytes": usage.payload_bytes,
            "apparent_bytes": usage.files.apparent,
            "allocated_bytes": usage.files.allocated,
            "bytes_per_frame": usage.bytes_per_frame,
            "is_damaged": usage.is_damaged,
        }


def memory_path(path: Path) -> Path:
    """Find the memory that a path names: the path itself, or the memory in it if it is the folder of a run."""
    return path / MEMORY_NAME if not (path / INDEX_FILE).exists() and (path / MEMORY_NAME).is_dir() else path


def check_picture(path: Path, memory: Path) -> None:
    """Refuse a path that can't be a picture of a memory, before any work is done.

    Raises:
        SettingsError: it isn't named as a PNG, its folder doesn't exist, or it lies in the memory.
    """
    if memory.resolve() in path.resolve().parents:
        raise SettingsError(f"picture {str(path)!r} lies in the memory, which holds nothing else; choose another place")
    check_png(path)
