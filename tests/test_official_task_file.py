"""A run on a task file in the official form: segments of drawn videos, named and flawed as in ActivityNet's files."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_cases import TINY_TABLE
from video_cases import make_video

import vclimb
from vclimb.training.config import make_config
from vclimb.training.run import train

N_TASKS, SECONDS = 10, 6.4
CLASSES = [f"Class {number}" for number in range(2 * N_TASKS)]


def segment(stem: str, start: float, end: float) -> dict[str, str]:
    """Make an item of ActivityNet's task files: all its values are texts."""
    times = {"t_start": str(start), "t_end": str(end), "video_duration": str(SECONDS)}
    return {**times, "filename": stem, "fps": "5.0", "video_frames": str(int(5 * SECONDS))}


def items_of(number: int) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """List training and validation items: one video twice, one past its end, one that ends before it starts."""
    train = [segment(f"v_t{number}", 0.5, 3.2), segment(f"v_t{number}", 3.2, SECONDS + 9)]
    return [*train, segment(f"v_t{number}", 5.0, 4.9)], [segment(f"v_v{number}", 1.1, 5.9)]


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A prepared data set of 20 classes, and a task file of 10 tasks without a test split that names its videos."""
    folder = tmp_path_factory.mktemp("official")
    drawn = make_video(folder / "drawn.mp4", "-preset", "ultrafast", frames=int(5 * SECONDS), fps=5).read_bytes()
    content: dict[str, list[dict[str, Any]]] = {"train": [], "val": []}
    for number, name in enumerate(CLASSES):
        if number % 2 == 0:
            content["train"].append({})
            content["val"].append({})
        for split, items in zip(("train", "val"), items_of(number), strict=True):
            content[split][-1][name] = items
            for stem in {item["filename"] for item in items}:
                path = folder / "videos" / name / f"{stem}.mp4"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(drawn)
    shards, file = folder / "shards", folder / "ActivityNet_data.pkl"
    file.write_bytes(pickle.dumps(content, protocol=4))
    vclimb.prepare(folder / "videos", shards, short_side=48, workers=2, progress=False)
    return shards, file


@pytest.mark.parametrize(("untrimmed", "n_train"), [(False, 4), (True, 2)])
def test_a_task_file_in_the_official_form_is_trained_on(
    untrimmed: bool, n_train: int, official: tuple[Path, Path], tmp_path: Path
) -> None:
    """A task has two classes. The empty segment is left out; the validation split is selected on and reported."""
    shards, file = official
    table = {
        "data": str(shards),
        "method": "naive",
        "scenario": {"file": str(file), "untrimmed": untrimmed},
        "memory": {"budget": "20v", "frames": 2},
        "training": {**TINY_TABLE["training"], "select": "best-reported"},
    }
    config = make_config({**TINY_TABLE, **table})
    metrics = train(config, tmp_path / "run")
    assert metrics.complete
    assert [task.classes for task in metrics.tasks] == [tuple(CLASSES[n : n + 2]) for n in range(0, 2 * N_TASKS, 2)]
    assert [task.train_instances for task in metrics.tasks] == [n_train] * N_TASKS
    assert [task.selected_epoch for task in metrics.tasks] == [0] * N_TASKS
    assert np.isfinite(metrics.matrix[np.tril_indices(N_TASKS)]).all()
    assert metrics.memory is not None
    assert metrics.memory.videos == 20
    report = vclimb.Scenario.open(file, untrimmed=untrimmed).report(shards)
    assert report.splits["val"].instances == 20
    assert report.matched is not None
    assert report.matched.counts() == ({} if untrimmed else {"empty": 20})
