"""A batch's encoded frames as one array, made by a worker: what DALI's pipelines are fed with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.clip_reader import ClipReader
from pipeline.clips import Indices
from pipeline.errors import SettingsError
from pipeline.stream import BatchPlan


@dataclass(frozen=True)
class PackedBatch:
    """N distinct encoded frames of a batch's clips, one after another.

    Attributes:
        data: (N, longest) uint8, each row a JPEG file and zeros; a decoder stops at the end of the JPEG.
        gather: view name -> (B, T) int64, which row each frame of a view is; None where that is every row in order.
        counts: (B,) int64 rows of each clip.
        plan: of the clips that are really there.
        skipped: why others were left out.
    """

    data: npt.NDArray[np.uint8]
    gather: dict[str, Indices | None]
    counts: Indices
    plan: BatchPlan
    skipped: list[str]


@dataclass(frozen=True)
class BatchPacker:
    """Reads the clips of a plan, without decoding them. Runs in a worker."""

    reader: ClipReader

    def __call__(self, plan: BatchPlan) -> PackedBatch:
        data: list[bytes] = []
        counts: list[int] = []
        gather: dict[str, list[Indices]] = {name: [] for name in plan.frames}
        skipped: list[str] = []
        for slot in range(len(plan.items)):
            clip, plan = self.reader.sound(plan, slot, self.reader.read, skipped)
            if clip.encoded.codec != "jpeg":
                raise SettingsError(
                    f"DALI's image decoder takes jpeg frames, not {clip.encoded.codec}; use the decoder cpu"
                )
            for name, places in clip.places.items():
                gather[name].append(places + len(data))
            data += [clip.encoded.units[unit] for unit in clip.encoded.unit.tolist()]
            counts.append(len(clip.numbers))
        rows = {name: np.array(of_view, np.int64).reshape(plan.frames[name].shape) for name, of_view in gather.items()}
        return PackedBatch(
            data=_padded(data),
            gather={name: _none_if_all(index, len(data)) for name, index in rows.items()},
            counts=np.array(counts, np.int64),
            plan=plan,
            skipped=skipped,
        )


def _padded(data: list[bytes]) -> npt.NDArray[np.uint8]:
    padded = np.zeros((len(data), max(map(len, data), default=0)), np.uint8)
    for row, piece in zip(padded, data, strict=True):
        row[: len(piece)] = np.frombuffer(piece, np.uint8)
    return padded


def _none_if_all(index: Indices, n_rows: int) -> Indices | None:
    if index.size == n_rows and (index.reshape(-1) == np.arange(n_rows)).all():
        return None
    return index
