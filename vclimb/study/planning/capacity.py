"""Capacity of a budget for each codec and number of frames, measured on a sample of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vclimb.memory.choice.budget import MemoryBudget
from vclimb.memory.choice.frames import FrameCount, parse_frame_choice, parse_frame_count
from vclimb.memory.sample import (
    CLASS_BYTES,
    CLASS_INDEX_BYTES,
    EXEMPLAR_BYTES,
    ROOT_BYTES,
    bytes_per_frame,
    spread_sample,
)
from vclimb.memory.store.index_nodes import EXEMPLARS, INDEX
from vclimb.pipeline.codecs.exemplar import parse_codec
from vclimb.pipeline.dataset.dataset import StoredDataset, StoredInstance
from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.system.progress import progress_bar
from vclimb.study.axes import parse_list

CODECS = ("copy", "jpeg:75", "jpeg:50", "jpeg:75@128", "webp:75", "webp:75@128", "h264:28", "h264:28@128")
FRAMES: tuple[FrameCount, ...] = (1, 2, 4, 8, 16, "all")


@dataclass(frozen=True)
class Capacity:
    """Capacity of a budget for one codec and number of frames.

    Attributes:
        codec: Encoding of exemplars.
        frames: Number of frames kept of each video, K, or `all`.
        bytes_per_frame: Mean size of an encoded frame in the memory's files, measured on the sample.
        videos: Number of videos that the budget holds.
        kept_frames: Number of frames of these videos together.
        bytes: Size of the memory that holds them: the sum of `parts`.
        parts: Part -> bytes: `exemplars`, and the `index` that says what the memory holds.
        videos_in_data: Number of videos in the training data.
    """

    codec: str
    frames: FrameCount
    bytes_per_frame: float
    videos: int
    kept_frames: int
    bytes: int
    parts: Mapping[str, int]
    videos_in_data: int

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values."""
        return asdict(self)


def capacities(
    data: str | Path | StoredDataset,
    budget: str | MemoryBudget,
    *,
    codecs: str | Sequence[str] | None = None,
    frames: str | Sequence[FrameCount] | None = None,
    sample: int = 12,
    rebalance: bool | None = None,
    progress: bool | None = None,
) -> list[Capacity]:
    """Count the videos and frames that a budget holds once all classes are learned. Nothing is trained.

    Classes share the budget equally, as in training.

    Args:
        data: Prepared data set, whose training part is what may be kept: a path, a URL, or an open data set.
        budget: `64MB` (bytes on disk), `2020v` (videos) or `16160f` (frames).
        codecs: Codecs to compare, such as `["copy", "jpeg:75@128"]` or `"copy,jpeg:75@128"`; None: `CODECS`.
        frames: Numbers of frames of a video to compare, such as `[1, 8, "all"]` or `"1,8,all"`; None: `FRAMES`.
        sample: Number of videos, spread over the classes, that are encoded to measure the bytes of a frame.
        rebalance: Whether classes that can't use their share of the budget give it to others; None: where the budget is
            in bytes.
        progress: Whether progress is shown on stderr. None: if stderr is a terminal or a notebook.

    Raises:
        SettingsError: A codec isn't known or can't take these frames, or the budget holds no memory.
        DatasetError: The data set can't be read.
    """
    limit = budget if isinstance(budget, MemoryBudget) else MemoryBudget.parse(budget)
    names = CODECS if codecs is None else parse_list("codecs", codecs, "copy,jpeg:75")
    texts = parse_list("frames", frames if isinstance(frames, str) else [*map(str, frames or FRAMES)], "1,8,all")
    counts = [parse_frame_count(text) for text in texts]
    rebalances = limit.kind == "bytes" if rebalance is None else rebalance
    dataset = data if isinstance(data, StoredDataset) else StoredDataset.open(data)
    has_splits = any(instance.split == "train" for instance in dataset.instances)
    candidates = [instance for instance in dataset.instances if instance.split == "train" or not has_splits]
    candidates.sort(key=lambda instance: instance.label)
    if not candidates:
        raise SettingsError(f"data set {dataset.name} has no instances to keep")
    sampled = spread_sample(candidates, sample)
    capacities = []
    with progress_bar("choices", progress) as bar:
        task = bar.add_task("encoding a sample", total=len(names) * len(counts), note="")
        for codec in names:
            for count in counts:
                measured = bytes_per_frame(dataset, sampled, parse_codec(codec), parse_frame_choice("uniform", count))
                capacities.append(_capacity(candidates, limit, codec, count, measured, rebalances))
                bar.advance(task)
    return capacities


def _capacity(
    candidates: Sequence[StoredInstance],
    budget: MemoryBudget,
    codec: str,
    count: FrameCount,
    frame_bytes: float,
    rebalance: bool,
) -> Capacity:
    choice = parse_frame_choice("uniform", count)
    lengths_by_class: dict[str, list[int]] = {}
    for instance in candidates:
        n_frames = choice.n_chosen(instance.end_frame - instance.start_frame)
        lengths_by_class.setdefault(instance.label, []).append(n_frames)
    lengths = list(lengths_by_class.values())
    sizes = [[int(n * frame_bytes) + EXEMPLAR_BYTES for n in in_class] for in_class in lengths]
    costs = [[budget.cost(n, size) for n, size in zip(*pair, strict=True)] for pair in zip(lengths, sizes, strict=True)]
    multiple = count if budget.kind == "frames" and isinstance(count, int) else 1
    overheads = [CLASS_BYTES] * len(costs)
    kept = budget.kept(costs, multiple=multiple, root_bytes=ROOT_BYTES, class_bytes=overheads, rebalance=rebalance)
    kept_frames = sum(sum(in_class[:n]) for in_class, n in zip(lengths, kept, strict=True))
    n_classes = sum(n > 0 for n in kept)
    of_exemplars = sum(sum(size[:n]) for size, n in zip(sizes, kept, strict=True))
    of_exemplars += n_classes * (CLASS_BYTES - CLASS_INDEX_BYTES)
    parts = {EXEMPLARS: of_exemplars, INDEX: ROOT_BYTES + n_classes * CLASS_INDEX_BYTES}
    return Capacity(
        codec=codec,
        frames=count,
        bytes_per_frame=frame_bytes,
        videos=sum(kept),
        kept_frames=kept_frames,
        bytes=sum(parts.values()),
        parts=parts,
        videos_in_data=len(candidates),
    )
