"""Runs that a test can train: a drawn data set, a tiny network, an epoch or two."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

import vclimb
from vclimb.settings import parse_assignment
from vclimb.training.checkpoint import checkpoints, load_checkpoint
from vclimb.training.config import RunConfig, make_config
from vclimb.training.run import train
from vclimb.training.run_metrics import RunMetrics

TINY_BACKBONE = "test_resnet.r160_in1k"
# Without batch normalisation or dropout, a batch gives the same gradient in one process and in two.
STATELESS_BACKBONE = "test_convnext.r160_in1k"
REPLAYING = ("naive", "icarl", "bic", "er-ace", "wa", "gdumb", "der++")
METHODS = ("finetune", "naive", "ewc", "mas", "lwf", "icarl", "bic", "er-ace", "wa", "gdumb", "der++", "joint")

TINY_TABLE: dict[str, Any] = {
    "scenario": {"tasks": 3},
    "model": {"backbone": TINY_BACKBONE, "weights": "none", "clip_frames": 2, "size": 32},
    "training": {"epochs": 1, "batch_size": 8, "learning_rate": 0.01},
    "compute": {"device": "cpu", "decoder": "cpu", "workers": 0},
}


def make_synth_shards(folder: Path) -> Path:
    """Draw a data set of 6 classes, each with 4 clips for training and 2 for test, and prepare it at 48 px."""
    videos, shards = folder / "videos", folder / "synth"
    vclimb.synth(videos, classes=6, train=4, test=2, progress=False)
    vclimb.prepare(videos, shards, short_side=48, workers=2, progress=False)
    return shards


def tiny_config(shards: Path, method: str = "naive", *assignments: str) -> RunConfig:
    """Make settings of a run of 3 tasks of 2 classes. Methods that replay keep 12 videos of 2 frames."""
    table: dict[str, Any] = {"data": str(shards), "method": {"name": method}}
    if method in REPLAYING:
        table["memory"] = {"budget": "12v", "frames": 2}
    return make_config(TINY_TABLE, table, *map(parse_assignment, assignments))


def train_with_a_stop(
    config: RunConfig, out: Path, moment: tuple[type, str], monkeypatch: pytest.MonkeyPatch
) -> RunMetrics:
    """Train, stopped when a method of a class has returned for the second time, and resume."""
    kind, name = moment
    inner, calls = getattr(kind, name), itertools.count(1)

    def stopping(*arguments: Any) -> Any:
        result = inner(*arguments)
        if next(calls) == 2:
            raise KeyboardInterrupt
        return result

    with monkeypatch.context() as patch:
        patch.setattr(kind, name, stopping)
        with pytest.raises(KeyboardInterrupt):
            train(config, out)
    return train(config, out, resume=True)


def write_config(config: RunConfig, folder: Path) -> Path:
    """Write settings to a file."""
    path = folder / "settings.toml"
    path.write_text(config.to_toml(), "utf-8")
    return path


def comparable(metrics: RunMetrics) -> dict[str, Any]:
    """Convert metrics to plain values, without those that a clock measures, and without where a training came from."""
    timed = {"seconds", "loader_wait_share", "gpu_idle_share", "taken_from"}
    table = metrics.to_json()
    tasks = [{name: value for name, value in task.items() if name not in timed} for task in table["tasks"]]
    return {**{name: value for name, value in table.items() if name not in timed}, "tasks": tasks}


def read_metrics(run: Path) -> RunMetrics:
    """Read the metrics in a run's folder."""
    return RunMetrics.load(run / "metrics.json")


def events_of(run: Path) -> list[dict[str, Any]]:
    """Read the events in a run's folder, as plain values."""
    return [json.loads(line) for line in (run / "events.jsonl").read_text("utf-8").splitlines()]


def final_network(run: Path) -> dict[str, Any]:
    """Load the tensors of the network that a complete run leaves."""
    (path,) = checkpoints(run / "checkpoints")
    return dict(load_checkpoint(path)["model"])
