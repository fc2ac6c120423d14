"""Heads in closed form as a method: whole runs that depend on no order of tasks, resume exactly, and refuse misfits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from stream_cases import damage_all_frames
from training_cases import STATELESS_BACKBONE, comparable, events_of, final_network, tiny_config, train_with_a_stop

from vclimb import Memory
from vclimb.memory.sample import ROOT_BYTES
from vclimb.memory.store.new_array import array_bytes
from vclimb.methods.analytic import Analytic, AnalyticConfig
from vclimb.methods.kept import NetworkSize
from vclimb.methods.method import TaskData, TaskInfo
from vclimb.model.clip_model import ClipModel
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.errors import SettingsError
from vclimb.study.cells import Cell
from vclimb.training.config import RunConfig
from vclimb.training.learner import Learner
from vclimb.training.plan import plan_run
from vclimb.training.predictor import Predictor
from vclimb.training.processes import Processes
from vclimb.training.run import train
from vclimb.training.run_metrics import RunMetrics
from vclimb.training.trainer import Trainer


class SizeOfNetwork(NetworkSize):
    """Size of a network that isn't made."""

    n_features = 0

    def __init__(self, n_features: int) -> None:
        self.n_features = n_features


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def config_of(shards: Path, *more: str) -> RunConfig:
    return tiny_config(shards, "analytic", f"model.backbone={STATELESS_BACKBONE}", *more)


def confusion_of(metrics: RunMetrics) -> dict[tuple[str, str], int]:
    """Number of test clips by the names of their class and of the predicted class, whatever the order of classes."""
    names = metrics.scenario.classes
    counts = np.array(metrics.confusion)
    return {(names[row], names[column]): int(counts[row, column]) for row, column in np.argwhere(counts)}


@pytest.mark.parametrize(
    "settings",
    [
        ("method.head=nearest-mean",),
        ("method.head=discriminant", "method.regularisation=0.1"),
        ("method.head=ridge", "method.projection=40"),
    ],
)
def test_order_of_classes_and_number_of_tasks_change_nothing(
    settings: tuple[str, ...], synth_shards: Path, tmp_path: Path
) -> None:
    runs = []
    for n_tasks, order in ((1, 0), (3, 5), (6, 7)):
        scenario = (f"scenario.tasks={n_tasks}", f"scenario.seed={order}")
        runs.append(train(config_of(synth_shards, *settings, *scenario), tmp_path / str(n_tasks)))
    at_once, *by_task = map(confusion_of, runs)
    assert len(at_once) > 1
    assert by_task == [at_once, at_once]
    assert len({metrics.scenario.classes for metrics in runs}) == 3
    classifier = settings[0].removeprefix("method.head=").replace("-", "_")
    for metrics in runs:
        assert (metrics.classifier, set(metrics.classifiers)) == (classifier, {classifier})
        assert [(task.epochs, task.steps) for task in metrics.tasks] == [(0, 0)] * len(metrics.tasks)


def test_network_that_trains_nothing_keeps_its_weights_and_statistics(synth_shards: Path, tmp_path: Path) -> None:
    config = tiny_config(synth_shards, "analytic", "scenario.tasks=2")  # its network has batch normalisation
    train(config, tmp_path / "run")
    initial = Learner(config, Processes(0, 1, torch.device("cpu")), 3).model.backbone.state_dict()
    trained = final_network(tmp_path / "run")
    assert all(torch.equal(trained[f"backbone.{name}"], value) for name, value in initial.items())
    assert not [event for event in events_of(tmp_path / "run") if event["event"] == "epoch"]
    plan = plan_run(config)
    assert (plan.steps, plan.training_clips) == (0, 0)


def test_network_is_adapted_on_the_first_task_alone(
    synth_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    end_task = Analytic.end_task

    def watched(method: Analytic, task: TaskInfo, model: ClipModel, data: TaskData) -> None:
        end_task(method, task, model, data)
        seen.append({name: value.clone() for name, value in model.backbone.state_dict().items()})

    monkeypatch.setattr(Analytic, "end_task", watched)
    config = tiny_config(synth_shards, "analytic", "method.adapt=first", "training.epochs=2", "consistency.weight=0.5")
    metrics = train(config, tmp_path / "run")
    assert [task.epochs for task in metrics.tasks] == [2, 0, 0]
    assert [task.steps for task in metrics.tasks] == [task.steps for task in plan_run(config).tasks] == [2, 0, 0]
    assert {event["task"] for event in events_of(tmp_path / "run") if event["event"] == "epoch"} == {0}
    initial = Learner(config, Processes(0, 1, torch.device("cpu")), 2).model.backbone.state_dict()
    assert not all(torch.equal(seen[0][name], value) for name, value in initial.items())
    for later in seen[1:]:
        assert all(torch.equal(later[name], value) for name, value in seen[0].items())


@pytest.mark.parametrize("moment", [(Trainer, "_update_memory"), (Predictor, "counts")])
def test_run_resumes_exactly(
    moment: tuple[type, str], synth_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stop a run after the second task's statistics are known, before or after its evaluation."""
    config = config_of(synth_shards, "method.projection=16")
    resumed = train_with_a_stop(config, tmp_path / "run", moment, monkeypatch)
    assert comparable(resumed) == comparable(train(config, tmp_path / "undisturbed"))


@pytest.mark.parametrize("settings", [("method.head=nearest-mean",), (), ("method.projection=16",)])
def test_what_is_kept_is_counted_as_planned(settings: tuple[str, ...], synth_shards: Path, tmp_path: Path) -> None:
    config = config_of(synth_shards, *settings, "memory.budget=1MB")
    metrics = train(config, tmp_path / "run")
    planned = [task.memory for task in plan_run(config).tasks]
    for task, expected in zip(metrics.tasks, planned, strict=True):
        assert task.memory is not None
        assert expected is not None
        assert task.memory.parts["statistics"] == expected.parts["statistics"]
        assert task.memory.videos == 0
    memory = Memory.open(tmp_path / "run/memory.zarr")
    n_features = 16 if "method.projection=16" in settings else 64
    shapes = {"statistics/counts": (6,), "statistics/class_sums": (6, n_features)}
    if "method.head=nearest-mean" not in settings:
        shapes["statistics/gram"] = (n_features * (n_features + 1) // 2,)
    assert {name: memory.array(name).shape for name in shapes} == shapes
    assert memory.array("statistics/counts").sum() == 24


@given(st.integers(8_000, 10_000_000), st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(8, 2048))
@example(10_000_000, [3] * 7, 1280)
@example(3_400_000, [3] * 7, 1280)
def test_automatic_projection_fills_the_budget_and_never_exceeds_it(
    budget: int, classes: list[int], n_features: int
) -> None:
    for head in ("nearest-mean", "ridge"):
        method = Analytic(AnalyticConfig(head=head, projection="auto"))
        method.budget_bytes = budget
        network = SizeOfNetwork(n_features)
        shapes = [method.kept_shapes(TaskInfo(number, tuple(classes)), network) for number in range(len(classes))]
        last = shapes[-1]
        size = last["statistics/class_sums"].shape[1]
        assert {shape["statistics/class_sums"].shape[1] for shape in shapes} == {size}
        used = ROOT_BYTES + sum(array_bytes(dict(last)).values())
        assert size <= n_features
        if size > 1:
            assert used <= budget
        if size < n_features:
            assert used + 4 * (2 * sum(classes) + size + 1) > budget - 2000


def test_a_run_with_automatic_projection_stays_within_its_budget_and_resumes(
    synth_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(synth_shards, "method.projection=auto", "memory.budget=8kB", "scenario.tasks=2")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_update_memory", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "run")
    metrics = train(config, tmp_path / "run", resume=True)
    memory = Memory.open(tmp_path / "run/memory.zarr")
    size = memory.array("statistics/class_sums").shape[1]
    assert 16 < size < 64
    assert 0.85 * 8000 < memory.bytes_on_disk <= 8000  # a few numbers of another feature don't fit
    assert comparable(metrics) == comparable(train(config, tmp_path / "whole"))
    assert Cell.of(config.to_table()).config.memory.budget == "8kB"  # a study runs it with each budget


def test_budgets_share_no_first_task_whose_projection_they_size(synth_shards: Path, tmp_path: Path) -> None:
    configs = [config_of(synth_shards, "method.projection=auto", f"memory.budget={size}kB") for size in (7, 9)]
    sizes = []
    for number, config in enumerate(configs):
        out = tmp_path / str(number)
        metrics = train(config, out, beginnings=tmp_path / "beginnings")
        assert comparable(metrics) == comparable(train(config, tmp_path / f"alone{number}"))
        sizes.append(Memory.open(out / "memory.zarr").array("statistics/class_sums").shape[1])
    assert sizes[0] < sizes[1]


def test_damaged_video_is_left_out_and_named(synth_shards: Path, tmp_path: Path) -> None:
    dataset = StoredDataset.open(synth_shards)
    key = next(instance.key for instance in dataset.instances if instance.split == "train")
    shards = tmp_path / "damaged"
    damage_all_frames(synth_shards, shards, key)
    metrics = train(config_of(shards), tmp_path / "run")
    assert metrics.complete
    (warning,) = [event["text"] for event in events_of(tmp_path / "run") if event["event"] == "warning"]
    assert key in warning
    assert "has frames that can't be read" in warning


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("consistency.weight=0.5",), "method analytic trains no network as it is set, and consistency.weight is 0.5"),
        (("memory.budget=3kB",), r"method analytic keeps [0-9,]+ bytes after task 1 besides exemplars \(statistics "),
        (("memory.budget=12v",), "and memory.budget is '12v'"),
        (("method.head=nearest-mean", "method.regularisation=0.1"), "head nearest-mean has none; leave it out"),
        (("method.head=discriminant", "method.regularisation=2"), "allowed with head discriminant: from above 0 to 1"),
        (("method.adapt=first", "scenario.tasks=6"), "has one class; take adapt none, or a larger first task"),
        (("method.regularisation=0",), "regularisation"),
        (("method.head=nearest",), "head"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: tuple[str, ...], message: str, synth_shards: Path) -> None:
    with pytest.raises(SettingsError, match=message):
        plan_run(config_of(synth_shards, *settings))
