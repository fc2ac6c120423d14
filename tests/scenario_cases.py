"""Scenarios, and data sets for tests that need no stored bytes: a catalog in memory, or J-HMDB's by its manifest."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import strategies as st

from vclimb.pipeline.dataset.catalog import Catalog
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.dataset.rows import FailedVideo, StoredInstance, StoredVideo
from vclimb.pipeline.dataset.settings import EncodeSettings
from vclimb.pipeline.dataset.storage import LocalStorage
from vclimb.pipeline.sources.keys import key_of_path
from vclimb.scenario import ScenarioInstance, Seconds, Task

SHARED = Path(__file__).parents[1] / "../shared"
PICKLES = SHARED / "splits"
MANIFEST = SHARED / "data/jhmdb21/manifest.csv"
needs_pickles = pytest.mark.skipif(not PICKLES.is_dir(), reason="the task files (../shared/splits) are not here")
needs_manifest = pytest.mark.skipif(not MANIFEST.is_file(), reason="J-HMDB (../shared/data/jhmdb21) is not here")

Row = tuple[str, str, str | None, str | None]
"""Path in the source, class, split, group."""


def dataset_of(
    rows: Iterable[Row],
    *,
    times: dict[str, tuple[float | None, float | None]] | None = None,
    errors: Sequence[tuple[str, str, str]] = (),
    fps: str = "10",
    n_frames: int = 40,
) -> StoredDataset:
    """A data set whose catalog says this; none of its bytes are there.

    Args:
        rows: an instance each; those of one path are of one video.
        times: seconds of the instances of a path; otherwise they span their video.
        errors: path, stage and reason of what could not be prepared.
    """
    videos: dict[str, StoredVideo] = {}
    instances = []
    for path, label, split, group in rows:
        video = videos.get(path) or StoredVideo(
            key=key_of_path(path),
            labels=(),
            group=group,
            source=path,
            source_sha256="0" * 64,
            source_bytes=1,
            shard=0,
            offset=0,
            bytes=1,
            sha256="0" * 64,
            codec="jpeg",
            width=64,
            height=48,
            fps_fraction=Fraction(fps),
            n_frames=n_frames,
            first_frame=n_frames * len(videos),
        )
        videos[path] = replace(video, labels=(*video.labels, label))
        start, end = (times or {}).get(path, (None, None))
        first = 0 if start is None else int(start * float(video.fps_fraction))
        last = n_frames if end is None else int(end * float(video.fps_fraction))
        instances.append(StoredInstance(video.key, label, split, first, last, start, end))
    failed = [FailedVideo(*error) for error in errors]
    catalog = Catalog("made", EncodeSettings(), [], {}, [*videos.values()], instances, failed)
    return StoredDataset(LocalStorage(Path("nowhere")), catalog.stored())


def jhmdb(split: str = "src_split") -> StoredDataset:
    """The catalog that J-HMDB gets by its manifest, with one of its splits."""
    with MANIFEST.open(newline="") as file:
        return dataset_of((r["path"], r["class"], r[split], r["source_video"]) for r in csv.DictReader(file))


def task_of(*classes: str, evaluate: str = "test", per_class: int = 2) -> Task:
    """A task with some training instances of each class, and one to evaluate by."""
    train = tuple(ScenarioInstance(f"{name}/v{n}", name) for name in classes for n in range(per_class))
    last = tuple(ScenarioInstance(f"{name}/v{per_class}", name) for name in classes)
    return Task(classes, train, **{evaluate: last})


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(str.strip)
_times = st.one_of(st.none(), st.floats(0, 1e6))
spans = st.one_of(st.none(), st.builds(Seconds, _times, _times))
