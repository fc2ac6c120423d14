"""Whole runs of every method, over three tasks of drawn clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from training_cases import METHODS, REPLAYING, comparable, events_of, final_network, read_metrics, tiny_config

import vclimb
from vclimb.memory.store.reader import MemoryStore
from vclimb.pipeline.errors import SettingsError
from vclimb.training.checkpoint import checkpoints
from vclimb.training.expected_memory import PlannedMemory
from vclimb.training.plan import plan_run
from vclimb.training.run import train
from vclimb.training.run_folder import RunFolder
from vclimb.training.run_metrics import MemoryFacts

# The released code of the other methods differs from the paper in temporal consistency alone.
RUNS = [(method, "paper") for method in METHODS]
RUNS += [(method, "released") for method in ("ewc", "mas", "lwf", "icarl", "bic")]


def besides_exemplars(memory: MemoryFacts | PlannedMemory | None) -> dict[str, int]:
    """Bytes of the parts that a method keeps besides exemplars."""
    return {} if memory is None else {k: n for k, n in memory.parts.items() if k not in ("exemplars", "index")}


@pytest.mark.parametrize(("method", "protocol"), RUNS)
def test_a_whole_run(method: str, protocol: str, synth_shards: Path, tmp_path: Path) -> None:
    """Train with temporal consistency by the paper's protocol, and without by the released code's."""
    weight = 0.5 if protocol == "paper" else 0.0
    config = tiny_config(synth_shards, method, f"protocol={protocol}", f"consistency.weight={weight}")
    run = tmp_path / "run"
    metrics = train(config, run)
    assert metrics.complete
    assert read_metrics(run) == metrics
    assert RunFolder(run).config() == config
    assert metrics.forward_transfer is None
    assert np.isfinite(metrics.matrix[np.tril_indices(3)]).all()
    assert metrics.acc == pytest.approx(metrics.matrix[2].mean())
    assert metrics.classifier == ("nearest_mean" if method == "icarl" else "linear")
    assert set(metrics.classifiers) == ({"linear", "nearest_mean"} if method in REPLAYING else {"linear"})
    assert np.array(metrics.confusion).sum() == 12
    assert [task.train_instances for task in metrics.tasks] == ([8, 16, 24] if method == "joint" else [8, 8, 8])
    epochs = [event for event in events_of(run) if event["event"] == "epoch"]
    assert [event["task"] for event in epochs] == [0, 1, 2]
    terms = {
        "ewc": {"classification", "penalty"},
        "mas": {"classification", "penalty"},
        "lwf": {"classification", "distillation"},
        "icarl": {"classification", "distillation"},
        "bic": {"bic"},
        "er-ace": {"new", "replay"},
        "wa": {"classification", "distillation"},
        "der++": {"new", "replay", "logits"},
    }
    assert set(epochs[-1]["losses"]) == terms.get(method, {"classification"})
    regularised = {"statistics", "parameters"}
    kept = {"ewc": regularised, "mas": regularised, "bic": {"parameters"}, "der++": {"logits"}}
    assert set(besides_exemplars(metrics.memory)) == kept.get(method, set())
    assert (run / "memory.zarr").exists() == (method in (*REPLAYING, "ewc", "mas"))
    for done, planned in zip(metrics.tasks, plan_run(config).tasks, strict=True):
        tolerance = 0.3 if method == "der++" else 0  # logits are estimated
        assert besides_exemplars(planned.memory) == pytest.approx(besides_exemplars(done.memory), rel=tolerance, abs=0)
    if metrics.memory is not None:
        on_disk = sum(file.stat().st_size for file in (run / "memory.zarr").rglob("*") if file.is_file())
        assert metrics.memory.bytes_on_disk == on_disk == sum(metrics.memory.parts.values())
        assert vclimb.Memory.open(run).verify(progress=False) == ()
    if method in REPLAYING:
        expected = [8, 12, 12] if method == "gdumb" else [0, 8, 12]
        assert [task.replay_exemplars for task in metrics.tasks] == expected
        memory = MemoryStore.open(run / "memory.zarr")
        assert [memory.classes[label].n_exemplars for label in range(6)] == [2] * 6
        assert metrics.memory.videos == 12
        assert metrics.memory.frames == 24
    assert len(checkpoints(run / "checkpoints")) == 1


def test_seed_determines_the_run_whatever_the_number_of_workers(synth_shards: Path, tmp_path: Path) -> None:
    first = train(tiny_config(synth_shards, "icarl"), tmp_path / "one")
    second = train(tiny_config(synth_shards, "icarl", "compute.workers=1"), tmp_path / "two")
    other = train(tiny_config(synth_shards, "icarl", "seed=1"), tmp_path / "other")
    assert comparable(first) == comparable(second)
    networks = [final_network(tmp_path / name) for name in ("one", "two", "other")]
    assert all(torch.equal(networks[0][name], networks[1][name]) for name in networks[0])
    assert not all(torch.equal(networks[0][name], networks[2][name]) for name in networks[0])
    assert other.seed == 1


def test_joint_training_learns_what_fine_tuning_forgets(synth_shards: Path, tmp_path: Path) -> None:
    """Two tasks that a network of this size can learn; a task has 6 test clips, and processors round differently."""
    learnable = ("scenario.tasks=2", "training.epochs=20", "training.learning_rate=0.03", "model.dropout=0.0", "seed=0")
    joint = train(tiny_config(synth_shards, "joint", *learnable), tmp_path / "joint")
    finetune = train(tiny_config(synth_shards, "finetune", *learnable), tmp_path / "finetune")
    assert finetune.R[1][0] <= 0.2
    assert joint.acc >= finetune.acc
    assert finetune.bwf > 0.1


def test_best_epoch_and_forward_transfer_on_request(synth_shards: Path, tmp_path: Path) -> None:
    more = ("training.select=best-reported", "training.epochs=3", "compute.forward_transfer=true")
    metrics = train(tiny_config(synth_shards, "finetune", *more), tmp_path / "run")
    assert all(task.selected_epoch in (0, 1, 2) for task in metrics.tasks)
    assert -1 <= metrics.forward_transfer <= 1


@pytest.mark.parametrize("codec", ["h264:24", "jpeg:60@32"])
def test_replay_of_any_codec(codec: str, synth_shards: Path, tmp_path: Path) -> None:
    config = tiny_config(synth_shards, "naive", f"memory.codec={codec}", "memory.budget=100kB", "memory.frames=all")
    metrics = train(config, tmp_path / "run")
    assert metrics.memory is not None
    assert 0 < metrics.memory.bytes_on_disk <= 100_000
    on_disk = sum(file.stat().st_size for file in (tmp_path / "run" / "memory.zarr").rglob("*") if file.is_file())
    assert metrics.memory.bytes_on_disk == on_disk
    ahead = [event for event in events_of(tmp_path / "run") if event["event"] == "decoded_ahead"]
    assert len(ahead) == (2 if codec.startswith("h264") else 0)


def test_what_a_method_keeps_has_to_fit_the_budget(synth_shards: Path, tmp_path: Path) -> None:
    """EWC keeps twice the bytes of its network, which is known before it is trained."""
    for config in (
        tiny_config(synth_shards, "ewc", "memory.budget=100kB"),
        tiny_config(synth_shards, "mas", "memory.budget=2985kB", "protocol=released"),
    ):
        for work in (lambda config=config: plan_run(config), lambda config=config: train(config, tmp_path / "run")):
            says = r"^method (ewc|mas) keeps 2,98\d,\d+ bytes after task \d besides exemplars \(statistics .*$"
            with pytest.raises(SettingsError, match=says):
                work()
    assert not (tmp_path / "run" / "memory.zarr").exists()
    config = tiny_config(synth_shards, "ewc", "memory.budget=3MB", "scenario.tasks=2")
    metrics = train(config, tmp_path / "fits")
    assert metrics.memory is not None
    assert 2_900_000 < metrics.memory.bytes_on_disk <= 3_000_000
    assert (metrics.memory.videos, metrics.codec) == (0, None)
    with pytest.raises(SettingsError, match=r"method lwf keeps no exemplars, and memory.budget is '3MB'; leave it out"):
        plan_run(tiny_config(synth_shards, "lwf", "memory.budget=3MB"))
    with pytest.raises(SettingsError, match=r"method ewc keeps no exemplars, and memory.budget is '9v'; leave it out"):
        plan_run(tiny_config(synth_shards, "ewc", "memory.budget=9v"))


def test_exemplars_get_what_the_bias_layers_leave(synth_shards: Path, tmp_path: Path) -> None:
    config = tiny_config(synth_shards, "bic", "memory.budget=40kB")
    metrics = train(config, tmp_path / "run")
    assert metrics.memory is not None
    assert metrics.memory.bytes_on_disk <= 40_000
    memory = vclimb.Memory.open(tmp_path / "run")
    assert memory.array("parameters/bias").shape == (3, 2)
    assert memory.array("parameters/bias")[:2].tolist() == [[1.0, 0.0]] * 2  # the paper corrects the newest task alone
