"""What a memory is expected to hold after each task, and the bytes that it takes, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vclimb.memory.choice.frames import parse_frame_choice
from vclimb.memory.sample import (
    ARRAY_BYTES,
    ARRAY_FILE_BYTES,
    CLASS_BYTES,
    CLASS_INDEX_BYTES,
    EXEMPLAR_BYTES,
    ROOT_BYTES,
)
from vclimb.memory.settings import MemorySettings
from vclimb.memory.store.index_nodes import EXEMPLARS, INDEX
from vclimb.scenario import MatchedTask
from vclimb.training.ledger import KeptBytes

LOGIT_BYTES = 2  # 16-bit floats


@dataclass(frozen=True)
class PlannedMemory:
    """Expected memory after a task.

    Attributes:
        videos: Number of exemplars.
        frames: Number of frames of the exemplars.
        bytes: Estimate of the bytes on disk: the sum of `parts`.
        parts: Part -> bytes: exact for what the method keeps besides exemplars and their logits.
    """

    videos: int
    frames: int
    bytes: int
    parts: Mapping[str, int]


def planned_memory(videos: int, frames: int, exemplar_bytes: int, kept: KeptBytes) -> PlannedMemory:
    """Plan a memory, of which `kept` are the parts besides the files of exemplars."""
    parts = {EXEMPLARS: exemplar_bytes, **kept, INDEX: ROOT_BYTES + kept.get(INDEX, 0)}
    return PlannedMemory(videos, frames, sum(parts.values()), parts)


@dataclass(frozen=True)
class ExemplarRows:
    """Numbers that a memory keeps with each exemplar: logits beside its frames, or features in their place.

    Attributes:
        part: Part of the memory that they are counted as.
        fixed: Bytes of an exemplar's numbers, whatever the number of classes.
        per_class: Bytes of an exemplar's numbers for each class known when it entered.
        beside: Number of arrays beside the one of frames, or of what lies in place of frames.
    """

    part: str
    fixed: int = 0
    per_class: int = 0
    beside: int = 1

    def class_bytes(self, in_place_of_frames: bool) -> int:
        """Estimate the bytes of the metadata of a class that count as this part: half of an array's is in the index."""
        return self.beside * (ARRAY_BYTES // 2) + in_place_of_frames * ARRAY_FILE_BYTES


class ExpectedMemory:
    """What a replay memory is expected to hold after each task.

    Args:
        bytes_per_frame: Bytes of an exemplar's frame; None where no frames are kept.
        rows: Numbers that are kept with each exemplar; None: there are none.
        origin: Description of how bytes were measured.
    """

    def __init__(
        self, settings: MemorySettings, bytes_per_frame: float | None, rows: ExemplarRows | None, origin: str
    ) -> None:
        self._settings = settings
        self._choice = parse_frame_choice(settings.frame_choice, settings.frames, settings.seed)
        self._kept: list[list[int]] = []  # for each class, the number of frames of each exemplar
        self._row_bytes: list[int] = []  # for each class, the bytes of an exemplar's row
        self._rows = rows
        self._class_bytes = CLASS_BYTES + ARRAY_BYTES * (rows.beside if rows else 0)
        self.codec = settings.codec
        self.bytes_per_frame = bytes_per_frame
        self.origin = origin

    @property
    def n_exemplars(self) -> int:
        return sum(map(len, self._kept))

    def after(self, task: MatchedTask, kept: KeptBytes) -> PlannedMemory:
        """Add the classes of a task, and shrink all classes to what the budget leaves beside what the method keeps."""
        chosen: dict[str, list[int]] = {name: [] for name in task.classes}
        keeps_frames, rows = self.bytes_per_frame is not None, self._rows
        for instance in task.train:
            n_frames = self._choice.n_chosen(instance.end_frame - instance.start_frame)
            chosen[instance.label].append(n_frames if keeps_frames else 0)
        self._kept += chosen.values()
        self._row_bytes += [rows.fixed + rows.per_class * len(self._kept) if rows else 0] * len(chosen)
        counts = self._counts(ROOT_BYTES + sum(kept.values()))
        self._kept = [frames[:count] for frames, count in zip(self._kept, counts, strict=True)]
        n_frames = sum(map(sum, self._kept))
        n_classes = sum(count > 0 for count in counts)
        n_bytes = n_classes * (CLASS_BYTES - CLASS_INDEX_BYTES - (0 if keeps_frames else ARRAY_FILE_BYTES))
        n_bytes += sum(counts) * EXEMPLAR_BYTES + int(n_frames * (self.bytes_per_frame or 0))
        index = kept.get(INDEX, 0) + n_classes * CLASS_INDEX_BYTES
        of_rows = {}
        if rows is not None:
            index += n_classes * rows.beside * (ARRAY_BYTES // 2)
            in_rows = sum(count * size for count, size in zip(counts, self._row_bytes, strict=True))
            of_rows = {rows.part: in_rows + n_classes * rows.class_bytes(not keeps_frames)}
        return planned_memory(sum(counts), n_frames, n_bytes, {**kept, **of_rows, INDEX: index})

    def _counts(self, other_bytes: int) -> list[int]:
        """Compute the number of exemplars of each class that the budget is expected to hold beside other bytes."""
        budget, rebalance, remainder = self._settings.budget, self._settings.rebalances, self._settings.remainder
        if budget.kind in ("none", "all"):
            return [0 if budget.kind == "none" else len(frames) for frames in self._kept]
        if budget.kind == "bytes":
            costs = [
                [int(n * (self.bytes_per_frame or 0)) + EXEMPLAR_BYTES + size for n in frames]
                for frames, size in zip(self._kept, self._row_bytes, strict=True)
            ]
            class_bytes = [self._class_bytes] * len(costs)
            return budget.kept(
                costs, root_bytes=other_bytes, class_bytes=class_bytes, rebalance=rebalance, remainder=remainder
            )
        costs = [[budget.cost(n, 1) for n in frames] for frames in self._kept]
        return budget.kept(costs, multiple=self._settings.share_multiple, rebalance=rebalance, remainder=remainder)
