"""Statistics of a prepared data set: counts, durations, frame rates and sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vclimb.pipeline.dataset.columns import StoredInstances
from vclimb.pipeline.dataset.dataset import StoredDataset


@dataclass(frozen=True)
class ClassStatistics:
    label: str  # Class name.
    videos: int  # Number of videos.
    instances: int  # Number of instances.
    splits: dict[str, int]  # Split to the number of instances; `none` where the source has no splits.
    frames: int  # Number of frames of all videos.
    seconds: float  # Duration of all videos.
    bytes: int  # Size of all videos.


@dataclass(frozen=True)
class DatasetStatistics:
    """Statistics of a whole data set.

    Attributes:
        name: Name of the data set.
        settings: Settings that all videos are stored with.
        totals: Counts, bytes and seconds.
        seconds: Least, median and greatest duration of a video.
        frames: Least, median and greatest number of frames of a video.
        fps: Frames a second to the number of videos.
        sizes: `widthxheight` to the number of videos.
        splits: Split to the number of instances; `none` where the source has no splits.
        bytes_per_second: Bytes per second of stored video.
        bytes_per_frame: Bytes per stored frame.
        compression: Bytes of the source files divided by stored bytes.
        errors: Stage to the number of rows of `errors.jsonl`.
        classes: Statistics of each class.
    """

    name: str
    settings: dict[str, Any]
    totals: dict[str, Any]
    seconds: tuple[float, float, float]
    frames: tuple[float, float, float]
    fps: dict[str, int]
    sizes: dict[str, int]
    splits: dict[str, int]
    bytes_per_second: float
    bytes_per_frame: float
    compression: float
    errors: dict[str, int]
    classes: list[ClassStatistics]

    def to_json(self) -> dict[str, Any]:
        """The statistics as plain JSON values."""
        return asdict(self)


def dataset_statistics(dataset: StoredDataset) -> DatasetStatistics:
    totals = dataset.catalog.totals()
    videos = dataset.videos
    frames = videos.numbers("n_frames")
    seconds = [video.seconds for video in videos]
    sizes = zip(videos.numbers("width").tolist(), videos.numbers("height").tolist(), strict=True)
    return DatasetStatistics(
        name=dataset.name,
        settings=dataset.settings.to_json(),
        totals=totals,
        seconds=_spread(seconds),
        frames=_spread(frames.tolist()),
        fps=dict(Counter(f"{rate:.4g}" for rate in videos.rates().tolist()).most_common()),
        sizes=dict(Counter(f"{width}x{height}" for width, height in sizes).most_common()),
        splits=_by_split(dataset.instances),
        bytes_per_second=totals["bytes"] / max(totals["seconds"], 1e-9),
        bytes_per_frame=totals["bytes"] / max(totals["frames"], 1),
        compression=totals["source_bytes"] / max(totals["bytes"], 1),
        errors=dict(Counter(error.stage for error in dataset.catalog.errors).most_common()),
        classes=[_class_statistics(*members, seconds) for members in dataset.by_class().items()],
    )


def _spread(values: list[float] | list[int]) -> tuple[float, float, float]:
    if not values:
        return 0.0, 0.0, 0.0
    return float(min(values)), float(np.median(values)), float(max(values))


def _by_split(instances: StoredInstances) -> dict[str, int]:
    codes, splits = instances.codes("split")
    return dict(Counter("none" if code < 0 else splits[code] for code in codes.tolist()).most_common())


def _class_statistics(label: str, instances: StoredInstances, seconds: Sequence[float]) -> ClassStatistics:
    rows = np.array([*dict.fromkeys(instances.numbers("video").tolist())], np.int64)  # in their order
    videos = instances.videos.take(rows)
    return ClassStatistics(
        label=label,
        videos=len(videos),
        instances=len(instances),
        splits=_by_split(instances),
        frames=sum(videos.numbers("n_frames").tolist()),
        seconds=round(sum(seconds[row] for row in rows.tolist()), 3),
        bytes=sum(videos.numbers("bytes").tolist()),
    )
