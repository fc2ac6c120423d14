"""How much a budget holds, for each codec and number of frames, measured on a sample of the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vclimb.memory.choice.budget import MemoryBudget
from vclimb.memory.choice.frames import FrameCount, parse_frame_choice
from vclimb.memory.sample import CLASS_BYTES, EXEMPLAR_BYTES, ROOT_BYTES, bytes_per_frame
from vclimb.pipeline.codecs.exemplar import parse_codec
from vclimb.pipeline.dataset.dataset import StoredDataset, StoredInstance
from vclimb.pipeline.errors import SettingsError

CODECS = ("copy", "jpeg:75", "jpeg:50", "jpeg:75@128", "webp:75", "webp:75@128", "h264:28", "h264:28@128")
FRAMES: tuple[FrameCount, ...] = (1, 2, 4, 8, 16, "all")


@dataclass(frozen=True)
class Capacity:
    """What a budget holds under one choice.

    Attributes:
        codec: how exemplars are encoded.
        frames: K, frames of a video.
        bytes_per_frame: of the encoded frames as the memory's files hold them, measured on the sample.
        videos: that the budget holds.
        kept_frames: of them all.
        bytes: that they take.
        videos_in_data: that there are.
    """

    codec: str
    frames: FrameCount
    bytes_per_frame: float
    videos: int
    kept_frames: int
    bytes: int
    videos_in_data: int

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return dict(vars(self))


def capacities(
    dataset: StoredDataset,
    budget: MemoryBudget,
    codecs: Sequence[str] = CODECS,
    frames: Sequence[FrameCount] = FRAMES,
    sample: int = 12,
    rebalance: bool = False,
    on_choice: Callable[[], None] = lambda: None,
) -> list[Capacity]:
    """What a budget holds once all classes are learned, in equal shares of the classes as in training.

    Args:
        dataset: opened for reading; its training part is what may be kept.
        sample: so many videos, spread over the classes, are encoded to measure bytes a frame.
        rebalance: what classes can't use of their share goes to others.
        on_choice: called after each.

    Raises:
        SettingsError: a codec isn't known or can't take these frames, or the budget holds no memory.
    """
    has_splits = any(one.split == "train" for one in dataset.instances)
    chosen = [one for one in dataset.instances if one.split == "train" or not has_splits]
    chosen = sorted(chosen, key=lambda one: one.label)
    if not chosen:
        raise SettingsError(f"data set {dataset.name} has no instances to keep")
    places = np.unique(np.linspace(0, len(chosen) - 1, sample).astype(int)).tolist()
    sampled = [chosen[place] for place in places]
    found = []
    for codec in codecs:
        for count in frames:
            choice = parse_frame_choice("uniform", count)
            measured = bytes_per_frame(dataset, sampled, parse_codec(codec), choice)
            found.append(_held(chosen, budget, codec, count, measured, rebalance))
            on_choice()
    return found


def _held(
    chosen: Sequence[StoredInstance],
    budget: MemoryBudget,
    codec: str,
    count: FrameCount,
    frame_bytes: float,
    rebalance: bool,
) -> Capacity:
    choice = parse_frame_choice("uniform", count)
    of_class: dict[str, list[int]] = {}
    for one in chosen:
        of_class.setdefault(one.label, []).append(choice.n_chosen(one.end_frame - one.start_frame))
    lengths = list(of_class.values())
    sizes = [[int(n * frame_bytes) + EXEMPLAR_BYTES for n in own] for own in lengths]
    costs = [[budget.cost(n, size) for n, size in zip(*pair, strict=True)] for pair in zip(lengths, sizes, strict=True)]
    granule = count if budget.kind == "frames" and isinstance(count, int) else 1
    overheads = [CLASS_BYTES] * len(costs)
    kept = budget.kept(costs, granule=granule, root_bytes=ROOT_BYTES, class_bytes=overheads, rebalance=rebalance)
    n_frames = sum(sum(own[:n]) for own, n in zip(lengths, kept, strict=True))
    n_bytes = ROOT_BYTES + sum(CLASS_BYTES * (n > 0) + sum(own[:n]) for own, n in zip(sizes, kept, strict=True))
    return Capacity(codec, count, frame_bytes, sum(kept), n_frames, n_bytes, len(chosen))
