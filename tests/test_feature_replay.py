"""Replay of features: whole runs that keep features alone, stay within budgets, resume exactly, and refuse misfits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from memory_store_cases import new_class, update
from sklearn.linear_model import LogisticRegression
from training_cases import comparable, final_network, tiny_config, train_with_a_stop
from typer.testing import CliRunner

import vclimb
from vclimb.cli.main import app
from vclimb.memory.kept_features import read_features
from vclimb.memory.store.errors import MemoryEmptyError
from vclimb.memory.store.reader import MemoryStore
from vclimb.memory.store.writer import MemoryWriter
from vclimb.methods.softmax_head import softmax_head
from vclimb.pipeline.errors import SettingsError, VclimbError
from vclimb.study.definition import StudyDefinition
from vclimb.study.naming import label, varied
from vclimb.training.config import RunConfig
from vclimb.training.learner import Learner
from vclimb.training.plan import plan_run
from vclimb.training.predictor import Predictor
from vclimb.training.processes import Processes
from vclimb.training.run import train
from vclimb.training.run_metrics import RunMetrics
from vclimb.training.trainer import Trainer


def config_of(shards: Path, *more: str) -> RunConfig:
    return tiny_config(shards, "features", "memory.budget=12v", *more)


@pytest.fixture(scope="module")
def whole(synth_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunMetrics, Path]:
    """A run that keeps 12 features, and its folder."""
    run = tmp_path_factory.mktemp("features") / "run"
    return train(config_of(synth_shards), run), run


def size_of(memory: Path) -> int:
    return sum(file.stat().st_size for file in memory.rglob("*") if file.is_file())


def test_a_run_keeps_features_alone_and_trains_the_head_alone(
    whole: tuple[RunMetrics, Path], synth_shards: Path
) -> None:
    metrics, run = whole
    config, plan = config_of(synth_shards), plan_run(config_of(synth_shards))
    assert config.memory.codec == "auto"
    assert (metrics.codec, plan.codec, plan.bytes_per_frame) == ("features:fp16", "features:fp16", None)
    assert plan.bytes_from == "expected bytes: 196 for the feature of a video, as features:fp16"
    assert (metrics.classifier, set(metrics.classifiers)) == ("linear", {"linear", "nearest_mean"})
    assert [(task.replay_exemplars, task.steps) for task in metrics.tasks] == [(0, 0), (8, 0), (12, 0)]
    assert [(task.replay_exemplars, task.steps) for task in plan.tasks] == [(0, 0), (8, 0), (12, 0)]
    assert metrics.memory is not None
    assert (metrics.memory.videos, metrics.memory.frames) == (12, 0)
    assert metrics.memory.bytes_on_disk == size_of(run / "memory.zarr") == sum(metrics.memory.parts.values())
    planned = plan.tasks[-1].memory
    assert planned is not None
    assert (planned.videos, planned.frames) == (12, 0)
    model = {"model.backbone": config.model.backbone}
    held, of_frames = vclimb.capacities(
        synth_shards, "12v", codecs="features,copy", frames="1", settings=model, sample=1
    )
    assert (held.codec, held.frames, held.videos, held.kept_frames) == ("features:fp16", 0, 12, 0)
    assert (of_frames.codec, of_frames.frames) == ("copy", 1)
    for parts in (planned.parts, held.parts):
        assert dict(parts) == pytest.approx(metrics.memory.parts, rel=0.15)
    assert vclimb.Memory.open(run).verify(progress=False) == ()
    shown = CliRunner(env={"COLUMNS": "160", "NO_COLOR": "1"}).invoke(app, ["show", str(run)]).output
    assert f"memory: 12 videos as features:fp16, {metrics.memory.bytes_on_disk:,} bytes on disk\n" in shown
    initial = Learner(config, Processes(0, 1, torch.device("cpu")), 2).model.backbone.state_dict()
    trained = final_network(run)
    assert all(torch.equal(trained[f"backbone.{name}"], value) for name, value in initial.items())


@pytest.mark.parametrize("moment", [(Trainer, "_update_memory"), (Predictor, "counts")])
def test_run_resumes_exactly(
    moment: tuple[type, str],
    whole: tuple[RunMetrics, Path],
    synth_shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stop a run in the second task, after the memory has its features, before or after its evaluation."""
    resumed = train_with_a_stop(config_of(synth_shards), tmp_path / "run", moment, monkeypatch)
    metrics, run = whole
    assert comparable(resumed) == comparable(metrics)
    first, second = final_network(run), final_network(tmp_path / "run")
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_memory_of_all_features_gives_the_head_of_all_classes_at_once(synth_shards: Path, tmp_path: Path) -> None:
    heads, confusions = [], []
    for n_tasks in (1, 3):
        everything = ("memory.budget=all", "memory.codec=features:fp32", f"scenario.tasks={n_tasks}")
        metrics = train(config_of(synth_shards, *everything), tmp_path / str(n_tasks))
        heads.append(final_network(tmp_path / str(n_tasks)))
        confusions.append(metrics.confusion)
    for name in ("head.weight", "head.bias"):
        torch.testing.assert_close(heads[1][name], heads[0][name], rtol=1e-4, atol=1e-5)
    assert confusions[0] == confusions[1]
    kept = read_features(MemoryStore.open(tmp_path / "3/memory.zarr"))
    scores = torch.from_numpy(kept.features) @ heads[1]["head.weight"].T + heads[1]["head.bias"]
    assert (scores.argmax(1) == torch.from_numpy(kept.labels)).float().mean() >= 0.5  # fitted to these; chance is 0.17


@pytest.mark.parametrize(
    ("codec", "budget", "n_without"),
    [("features:fp16", 8_000, 4), ("features:int8", 24_000, 0), ("features", 19_000, 0)],
)
def test_a_budget_in_bytes_covers_all_of_it(
    codec: str, budget: int, n_without: int, synth_shards: Path, tmp_path: Path
) -> None:
    config = config_of(synth_shards, f"memory.codec={codec}", f"memory.budget={budget}B")
    metrics = train(config, tmp_path / "run")
    for task in metrics.tasks:
        assert task.memory is not None
        assert task.memory.bytes_on_disk <= budget
    assert metrics.memory is not None
    assert metrics.memory.bytes_on_disk == size_of(tmp_path / "run/memory.zarr")
    planned = plan_run(config).tasks[-1].memory
    assert planned is not None
    assert planned.bytes <= budget
    # Classes without samples are never predicted.
    assert int(final_network(tmp_path / "run")["head.bias"].isinf().sum()) <= n_without
    assert np.isfinite(metrics.matrix[np.tril_indices(3)]).all()


def test_the_head_is_that_of_logistic_regression() -> None:
    """Classes of other numbers of samples, one without any, and features of another scale and centre."""
    draws = np.random.default_rng(0)
    labels = np.repeat([0, 1, 3], [30, 8, 15])
    centres = draws.normal(size=(4, 12))
    features = centres[labels] + draws.normal(size=(53, 12))
    head = softmax_head(torch.from_numpy(features), torch.from_numpy(labels), 4, 0.01, 500)
    assert head.bias.isinf().tolist() == [False, False, True, False]
    weights = 1 / (3 * np.bincount(labels)[labels])
    centre = weights @ features
    scale = np.sqrt(weights @ np.square(features - centre).sum(1))
    inputs = (features - centre) / scale
    reference = LogisticRegression(C=1 / (0.01 * 53), class_weight="balanced", tol=1e-10, max_iter=5000)
    expected = reference.fit(inputs, labels).decision_function(inputs)
    scores = head.scores(torch.from_numpy(features))[:, [0, 1, 3]].numpy()
    centred = [values - values.mean(1, keepdims=True) for values in (scores, expected)]
    np.testing.assert_allclose(*centred, atol=1e-4)

    others = torch.from_numpy(centres[labels] + draws.normal(size=(53, 12)))  # that it was not fitted to
    assert (head.scores(others).argmax(1).numpy() == labels).mean() >= 0.8  # the largest class is 0.57 of them

    order = draws.permutation(53)
    moved = softmax_head(torch.from_numpy(7 * features[order] - 3), torch.from_numpy(labels[order]), 4, 0.01, 500)
    again = moved.scores(torch.from_numpy(7 * features - 3))[:, [0, 1, 3]].numpy()
    np.testing.assert_allclose(again, scores, atol=1e-6)


@pytest.mark.parametrize(
    ("features", "says"), [(np.empty((0, 2)), "no class has samples"), (np.full((2, 2), np.nan), "NaN or infinity")]
)
def test_features_that_no_head_can_be_fitted_to(features: np.ndarray[Any, Any], says: str) -> None:
    with pytest.raises(VclimbError, match=says):
        softmax_head(torch.from_numpy(features), torch.zeros(len(features), dtype=torch.int64), 2, 0.1, 10)


def test_features_that_are_damaged_are_left_out(tmp_path: Path) -> None:
    with MemoryWriter.open(tmp_path / "memory.zarr") as writer:
        classes = [new_class(label, 3, keeps="features") for label in (2, 5)]
        update(writer, [replace(one, encoding="features:int8") for one in classes])
    store = MemoryStore.open(tmp_path / "memory.zarr")
    whole = read_features(store)
    assert whole.labels.tolist() == [2, 2, 2, 5, 5, 5]
    files = [file for stored in store.classes.values() for file in stored.arrays["features"].files]
    (store.path / files[1]).unlink()
    left = read_features(store)
    assert left.labels.tolist() == [2, 2, 5, 5, 5]
    assert np.array_equal(left.features, np.delete(whole.features, 1, axis=0))
    for file in files:
        (store.path / file).unlink(missing_ok=True)
    with pytest.raises(MemoryEmptyError, match="has no features to replay: none of its exemplars can be read"):
        read_features(store)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("memory.codec=jpeg:75",), "features replays features, and memory.codec jpeg:75 keeps frames; allowed: feat"),
        (("memory.budget=none",), "method features replays, and memory.budget is none"),
        (("memory.budget=90f",), "memory.budget 90f counts frames, and memory.codec features:fp16 keeps none"),
        (("memory.budget=3kB",), r"budget 3kB is 3,000 bytes, and a memory of one video takes about 3,1\d\d \("),
        (("consistency.weight=0.5",), "method features trains no network as it is set"),
        (("method.weight_decay=0",), "weight_decay"),
        (
            ("method.name=naive", "memory.codec=features:int8"),
            "features:int8 keeps features in place of frames, and method naive replays frames; take a codec of frames",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: tuple[str, ...], message: str, synth_shards: Path) -> None:
    with pytest.raises(SettingsError, match=message) as raised:
        plan_run(config_of(synth_shards, *settings))
    assert "\n" not in str(raised.value)


def test_a_budget_too_small_for_frames_holds_features(synth_shards: Path, tmp_path: Path) -> None:
    """What is refused before the method is known depends on it here."""
    model = {"model.weights": "none", "model.backbone": "test_resnet.r160_in1k"}
    small: dict[str, Any] = {"tasks": 3, "budget": "3300B", "frames": "all", "settings": model}
    with pytest.raises(SettingsError, match="a memory of one video takes about"):
        vclimb.plan(synth_shards, method="naive", **small)
    planned = vclimb.plan(synth_shards, method="features", **small).tasks[0].memory
    assert planned is not None
    assert planned.videos == 1
    with pytest.raises(SettingsError, match="budget 9f counts frames, and codec features keeps none"):
        vclimb.capacities(synth_shards, "9f", codecs="features")
    with pytest.raises(SettingsError, match="keeps features in place of frames, and frames are needed here"):
        vclimb.pack(synth_shards, tmp_path / "memory.zarr", budget="9v", codec="features:fp16")


def test_settings_of_frames_set_no_cells_of_features_apart() -> None:
    """Whatever K is, a cell that keeps features is run once, and is not named by K."""
    table: dict[str, Any] = {
        "base": {"scenario": {"tasks": 2}, "memory": {"budget": "9v"}},
        "cells": [{"method": "features"}, {"method": "features", "memory": {"codec": "features"}}, {}],
        "axes": {"frames": [1, 2]},
    }
    cells = StudyDefinition.parse(table).expand("shards/x")
    names = varied([cell.settings for cell in cells])
    said = [label(cell.settings, names) for cell in cells]
    assert said == ["features, features:fp16", "naive, K 1, codec auto", "naive, K 2, codec auto"]
