"""The public calls of the replay memory: `vclimb.pack` and `vclimb.Memory`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vclimb.memory.store.accounting import ClassUsage, MemoryUsage, open_and_measure
from vclimb.memory.store.reader import Damage, MemoryStore
from vclimb.memory.store.stored_class import INDEX_FILE, MEMORY_NAME
from vclimb.pipeline.dataset.contact_sheet import check_png, write_png
from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.system.progress import progress_bar

if TYPE_CHECKING:  # load torch, which opening a memory does not need
    from vclimb.memory.pack import PackSummary
    from vclimb.memory.store.exemplar import Exemplar
    from vclimb.pipeline.dataset.dataset import StoredDataset

__all__ = ["Memory", "SheetSummary", "pack"]


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
        return cls(*open_and_measure(memory_path(Path(path))))

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
        for label in sorted(self.store.classes):
            yield from self.exemplars(label)

    def exemplars(self, label: int) -> Iterator[Exemplar]:
        """Read the exemplars of a class, by rank.

        Args:
            label: Label id of the class.

        Raises:
            DatasetError: the memory doesn't have the class.
            MemoryChangedError: an exemplar was dropped since the memory was opened.
            ExemplarDamagedError: the stored bytes of an exemplar are damaged.
        """
        for rank in range(len(self.store.table(label))):
            yield self.store.exemplar(label, rank)

    def encoding(self, label: int) -> str:
        """Name how a class's exemplars were encoded, such as `jpeg:75@128`."""
        return self.store.classes[label].encoding

    def verify(self, *, progress: bool | None = None) -> tuple[Damage, ...]:
        """Read all exemplars, and list the damaged ones.

        Args:
            progress: Whether a progress bar is shown; None: where stderr is a terminal or in Jupyter.

        Raises:
            MemoryChangedError: the memory was changed meanwhile.
        """
        with progress_bar("exemplars", progress) as bar:
            bar.add_task("reading", total=None, note="")
            return tuple(self.store.verify())

    def sheet(self, path: Path | str) -> SheetSummary:
        """Draw a PNG with a row for each class: the frames that its first exemplars keep.

        Raises:
            SettingsError: the picture can't be written there.
            MemoryChangedError: an exemplar was dropped since the memory was opened.
        """
        from vclimb.memory.sheet import memory_sheet

        path = Path(path)
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
        }

    def _class_json(self, usage: ClassUsage) -> dict[str, Any]:
        return {
            "label": usage.label,
            "class": usage.name,
            "codec": self.encoding(usage.label),
            "exemplars": usage.videos,
            "frames": usage.frames,
            "source_frames": usage.source_frames,
            "payload_bytes": usage.payload_bytes,
            "apparent_bytes": usage.files.apparent,
            "allocated_bytes": usage.files.allocated,
            "bytes_per_frame": usage.bytes_per_frame,
            "is_damaged": usage.is_damaged,
        }


def pack(
    data: StoredDataset | Path | str,
    out: Path | str,
    *,
    budget: str,
    frames: int | str = 8,
    codec: str = "copy",
    frame_choice: str = "uniform",
    video_choice: str = "random",
    rebalance: bool = False,
    seed: int = 0,
    split: str | None = None,
    quality: bool = False,
    sheet: Path | str | None = None,
    progress: bool | None = None,
) -> Memory:
    """Pack a memory from a prepared data set, all classes at once and without training.

        memory = vclimb.pack("shards/ucf101", "m.zarr", budget="64MB", codec="h264:24", quality=True)
        memory.bytes_on_disk, memory.packed.quality.psnr_db

    What is stopped half way leaves an empty memory.

    Args:
        data: A prepared data set, or its folder or URL.
        out: The memory to make: a new path, or an empty memory.
        budget: `2020v` (videos), `16160f` (frames), `64MB` (bytes on disk), `none` or `all`.
        frames: Number of frames kept of each video, or `all`.
        codec: Encoding of the frames: `copy`, `raw`, or a family with a number, such as `jpeg:75` or `h264:24@128`.
        frame_choice: Rule that chooses the frames of a video.
        video_choice: Rule that ranks the videos of a class; only rules that need no features.
        rebalance: Whether classes that can't use their share of the budget give it to others.
        seed: Seed of the rules that draw.
        split: Split of the instances, or `all`; None: `train` where the data set has splits.
        quality: Whether PSNR and SSIM of the kept frames are measured against what was encoded.
        sheet: PNG file to draw the memory in, as `Memory.sheet` does.
        progress: Whether a progress bar is shown; None: where stderr is a terminal or in Jupyter.

    Returns:
        the memory, whose `packed` says what was done.

    Raises:
        SettingsError: a setting is unknown, needs features, or doesn't fit the data set; or the budget is too small
            for an empty memory.
        TargetError: `out` holds a memory that isn't empty, or something else, or can't be written.
        DatasetError: there is no such data set.
    """
    from vclimb.memory.pack import pack_dataset

    if sheet is not None:
        check_picture(Path(sheet), Path(out))
    settings = {
        "frames": frames,
        "frame_choice": frame_choice,
        "video_choice": video_choice,
        "codec": codec,
        "rebalance": rebalance,
        "seed": seed,
    }
    with progress_bar("exemplars", progress) as bar:
        summary = pack_dataset(data, Path(out), budget, settings, split, quality, bar)
        memory = Memory.open(out)
        memory.packed = summary
        if sheet is not None:
            memory.sheet_summary = memory.sheet(sheet)
    return memory


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
