"""What a memory costs, class by class, as people and scripts are told it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vclimb.memory.store.accounting import ClassUsage, MemoryUsage, measure
from vclimb.memory.store.errors import MemoryChangedError
from vclimb.memory.store.reader import Damage, MemoryStore
from vclimb.memory.store.stored_class import INDEX_FILE

MEMORY_NAME = "memory.zarr"
"""How a run names its memory."""

_ATTEMPTS = 20


@dataclass(frozen=True)
class MemoryReport:
    """A memory's cost and condition.

    Attributes:
        memory: that was counted.
        usage: what it costs.
        damaged: what of it can't be read; None: that wasn't looked at.
    """

    memory: MemoryStore
    usage: MemoryUsage
    damaged: tuple[Damage, ...] | None = None

    @classmethod
    def of(cls, path: Path | str, verify: bool = False) -> MemoryReport:
        """Count a memory, and with `verify` read all of it.

        Raises:
            DatasetError: there is no memory, or its index can't be read.
            MemoryChangedError: it was changed meanwhile.
        """
        for _ in range(_ATTEMPTS):
            usage, memory = measure(path), MemoryStore.open(path)
            counts = {label: stored.n_exemplars for label, stored in memory.classes.items()}
            if {one.label: one.videos for one in usage.classes} == counts:
                return cls(memory, usage, tuple(memory.verify()) if verify else None)
        raise MemoryChangedError(f"{path} was changed each of the {_ATTEMPTS} times it was counted; do it later")

    @property
    def every_frame_bytes(self) -> int:
        """An estimate of what the encoded frames would take if every frame of these instances were kept.

        Each class's bytes a kept frame, times its instances' frames. Frames that follow one another closely differ
        less than those that are kept, so that a video codec would take less.
        """
        return round(
            sum(one.payload_bytes * one.source_frames / one.frames for one in self.usage.classes if one.frames)
        )

    def encoding(self, label: int) -> str:
        """How a class's exemplars were encoded, such as `jpeg:75@128`."""
        return self.memory.classes[label].encoding

    def to_json(self) -> dict[str, Any]:
        """All of it, for `--json`."""
        usage = self.usage
        return {
            "path": str(self.memory.path),
            "generation": self.memory.generation,
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
                "every_frame_estimated_bytes": self.every_frame_bytes,
            },
            "classes": [self._class_json(one) for one in usage.classes],
            "damaged": None if self.damaged is None else [asdict(damage) for damage in self.damaged],
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
            "bytes_per_frame": bytes_per_frame(usage),
            "is_damaged": usage.is_damaged,
        }


def bytes_per_frame(usage: ClassUsage) -> float:
    """Apparent bytes of a class's files for each frame it keeps; 0 where these can't be counted."""
    return usage.files.apparent / usage.frames if usage.frames else 0.0


def memory_of(path: Path) -> Path:
    """The memory that a path means: itself, or the one in it if it is the folder of a run."""
    return path / MEMORY_NAME if not (path / INDEX_FILE).exists() and (path / MEMORY_NAME).is_dir() else path


def shortened(text: str, fits: Callable[[str], bool]) -> str:
    """Text with as little as needed left out of its middle: names that begin alike often end differently."""
    if fits(text):
        return text
    for n_kept in range(len(text) - 1, 0, -1):
        n_head = (n_kept + 1) // 2
        short = f"{text[:n_head]}…{text[len(text) - (n_kept - n_head) :]}"
        if fits(short):
            return short
    return "…"
