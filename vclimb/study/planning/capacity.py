"""Capacity of a budget for each codec and number of frames, measured on a sample of the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vclimb.memory.choice.budget import MemoryBudget
from vclimb.memory.choice.frames import FrameCount, parse_frame_choice, parse_frame_count
from vclimb.memory.feature_codec import keeps_features, parse_feature_codec
from vclimb.memory.sample import (
    ARRAY_BYTES,
    ARRAY_FILE_BYTES,
    CLASS_BYTES,
    CLASS_INDEX_BYTES,
    EXEMPLAR_BYTES,
    ROOT_BYTES,
    bytes_per_frame,
    spread_sample,
)
from vclimb.memory.store.index_nodes import EXEMPLARS, INDEX
from vclimb.memory.store.stored_class import FEATURES
from vclimb.pipeline.codecs.exemplar import parse_codec
from vclimb.pipeline.dataset.dataset import StoredDataset, StoredInstance
from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.system.progress import progress_bar
from vclimb.study.axes import parse_list, parse_settings
from vclimb.training.config import RunConfig, make_config
from vclimb.training.memory_settings import check_frames, feature_bytes, frame_count

CODECS = ("copy", "jpeg:75", "jpeg:50", "jpeg:75@128", "webp:75", "webp:75@128", "h264:28", "h264:28@128")
FRAMES: tuple[FrameCount, ...] = (1, 2, 4, 8, 16, "all")


@dataclass(frozen=True)
class Capacity:
    """Capacity of a budget for one codec and number of frames.

    Attributes:
        codec: Encoding of exemplars.
        frames: Number of frames kept of each video, K, or `all`; or number of frames whose features are kept, 0 where
            a feature of the clip is.
        bytes_per_frame: Mean size of an encoded frame in the memory's files, measured on the sample; of a codec of
            features, the size of what is kept of a video in place of frames.
        videos: Number of videos that the budget holds.
        kept_frames: Number of frames of these videos together.
        bytes: Size of the memory that holds them: the sum of `parts`.
        parts: Part -> bytes: `exemplars`, `features` of those, and the `index` that says what the memory holds.
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
    settings: Mapping[str, Any] | Sequence[str] | None = None,
    sample: int = 12,
    rebalance: bool | None = None,
    progress: bool | None = None,
) -> list[Capacity]:
    """Count the videos and frames that a budget holds once all classes are learned. Nothing is trained.

    Classes share the budget equally, as in training.

    Args:
        data: Prepared data set, whose training part is what may be kept: a path, a URL, or an open data set.
        budget: `64MB` (bytes on disk), `2020v` (videos) or `16160f` (frames).
        codecs: Codecs to compare, such as `["copy", "jpeg:75@128", "features:fp16"]` or `"copy,jpeg:75@128"`; None:
            `CODECS`.
        frames: Numbers of frames of a video to compare, such as `[1, 8, "all"]` or `"1,8,all"`; None: `FRAMES`.
        settings: Settings of a run that the size of features depends on, such as `{"model.backbone":
            "resnet18.tv_in1k"}`.
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
    has_splits = "train" in dataset.instances.splits()
    candidates = [*(dataset.instances.in_split("train") if has_splits else dataset.instances)]
    candidates.sort(key=lambda instance: instance.label)
    if not candidates:
        raise SettingsError(f"data set {dataset.name} has no instances to keep")
    sampled = spread_sample(candidates, sample)
    given = {"data": str(dataset.storage)}, parse_settings(settings)
    capacities = []
    with progress_bar("choices", progress) as bar:
        task = bar.add_task("encoding a sample", total=len(names) * len(counts), note="")
        for codec in names:
            if keeps_features(codec):
                configs = _configs_of_features(codec, make_config(*given), counts, frames is not None)
                capacities += [_of_features(candidates, limit, codec, config, rebalances) for config in configs]
                bar.advance(task, len(counts))
                continue
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
    """Count what a budget holds where frames are kept."""
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


def _configs_of_features(
    name: str, config: RunConfig, counts: Sequence[FrameCount], are_given: bool
) -> list[RunConfig]:
    """Set each number of frames where features of frames are kept: those given, or by default those of a clip."""
    codec = parse_feature_codec(name)
    if not codec.of_frames:
        return [config]
    configs = [config.replaced(memory=config.memory.replaced(frames=count)) for count in counts]
    for one in configs if are_given else ():
        check_frames(one, codec)
    n_frames = config.model.clip_frames
    return [one for one, count in zip(configs, counts, strict=True) if count == "all" or count <= n_frames]


def _of_features(
    candidates: Sequence[StoredInstance], budget: MemoryBudget, name: str, config: RunConfig, rebalance: bool
) -> Capacity:
    """Count what a budget holds where features of each video are kept, by the network of a run's settings."""
    codec = parse_feature_codec(name)
    if budget.kind == "frames":
        raise SettingsError(f"budget {budget} counts frames, and codec {name} keeps none; write it in videos or bytes")
    n_bytes = feature_bytes(config, codec)
    n_videos = Counter(instance.label for instance in candidates).values()
    costs = [[budget.cost(0, n_bytes + EXEMPLAR_BYTES)] * n for n in n_videos]
    class_bytes = CLASS_BYTES + ARRAY_BYTES * codec.has_scale
    kept = budget.kept(costs, root_bytes=ROOT_BYTES, class_bytes=[class_bytes] * len(costs), rebalance=rebalance)
    videos, n_classes = sum(kept), sum(n > 0 for n in kept)
    of_arrays = ARRAY_FILE_BYTES + (ARRAY_BYTES // 2) * codec.has_scale  # the other half lies in the index
    index = CLASS_INDEX_BYTES + (ARRAY_BYTES // 2) * codec.has_scale
    parts = {
        EXEMPLARS: videos * EXEMPLAR_BYTES + n_classes * (CLASS_BYTES - CLASS_INDEX_BYTES - ARRAY_FILE_BYTES),
        FEATURES: videos * n_bytes + n_classes * of_arrays,
        INDEX: ROOT_BYTES + n_classes * index,
    }
    frames = frame_count(config) if codec.of_frames else 0
    return Capacity(str(codec), frames, n_bytes, videos, 0, sum(parts.values()), parts, len(candidates))
