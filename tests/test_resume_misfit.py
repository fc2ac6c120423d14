"""Checkpoints that are sound files of another network, method or run: named when a run is resumed, with what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from training_cases import comparable, events_of, read_metrics, tiny_config

from vclimb.pipeline.errors import SettingsError
from vclimb.training.checkpoint import CheckpointError, checkpoints, load_checkpoint, save_checkpoint
from vclimb.training.config import RunConfig
from vclimb.training.learner import Learner
from vclimb.training.run import train
from vclimb.training.run_metrics import RunMetrics

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def config(synth_shards: Path) -> RunConfig:
    return tiny_config(synth_shards, "bic", "training.epochs=2", "compute.checkpoint_seconds=0")


@pytest.fixture(scope="module")
def stopped(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped in the training of its second task."""
    run, step, calls = tmp_path_factory.mktemp("stopped") / "run", Learner.step, []

    def stopping(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return step(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "step", stopping)
        with pytest.raises(KeyboardInterrupt):
            train(config, run)
    tree = load_checkpoint(checkpoints(run / "checkpoints")[-1])
    assert (tree["task"], tree["phase"]) == (1, "train")
    assert tree["stream"] is not None
    return run


@pytest.fixture(scope="module")
def undisturbed(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> RunMetrics:
    """The metrics of a run that nothing stopped."""
    return train(config, tmp_path_factory.mktemp("undisturbed") / "run")


@pytest.fixture
def run(stopped: Path, tmp_path: Path) -> Path:
    return shutil.copytree(stopped, tmp_path / "run")


def rewrite(run: Path, change: Change) -> Path:
    path = checkpoints(run / "checkpoints")[-1]
    tree = load_checkpoint(path)
    change(tree)
    number = int(path.stem.partition("-")[2])
    return save_checkpoint(path.parent, number, tree)


def first_tensor(tensors: dict[Any, Any]) -> Any:
    return next(name for name, value in tensors.items() if value.ndim > 1)


MISFITS: list[tuple[Change, str]] = [
    (lambda t: t.pop("model"), "KeyError: 'model'"),
    (lambda t: t.update(model={}), "KeyError: 'head.weight'"),
    (lambda t: t["model"].update({first_tensor(t["model"]): torch.zeros(3)}), "size mismatch"),
    (lambda t: t["model"].pop(first_tensor(t["model"])), "Missing key"),
    (lambda t: t["model"].update(more=torch.zeros(3)), "Unexpected key"),
    (lambda t: t["model"].update({first_tensor(t["model"]): "text"}), "RuntimeError|TypeError|AttributeError"),
    (lambda t: t.update(task=10**9), "it has measured 1 tasks, and task 1000000001 is under way"),
    (lambda t: t.update(task=0), "it has measured 1 tasks"),
    (lambda t: t.update(task=-1), "task"),
    (lambda t: t.update(phase="other"), "phase"),
    (lambda t: t.update(phase="complete"), "it has measured 1 tasks"),
    (lambda t: t.update(stream={"epoch": -1, "position": 0}), "stream.epoch"),
    (lambda t: t.update(steps=1.5), "steps"),
    (lambda t: t.update(seconds={"train": float("nan")}), "seconds.train"),
    (lambda t: t.pop("rng"), "KeyError: 'rng'"),
    (lambda t: t["rng"][0].update(cpu=torch.zeros(3, dtype=torch.uint8)), "RuntimeError"),
    (lambda t: t.pop("optimizer"), "KeyError: 'optimizer'"),
    (lambda t: t["optimizer"]["param_groups"].clear(), "ValueError"),
    (lambda t: t["optimizer"]["state"][0].update(momentum_buffer=torch.zeros(1, 2)), "momentum_buffer of parameter 0"),
    (lambda t: t.update(method={}), "KeyError"),
    (lambda t: t["method"].update(old_model={}), "KeyError"),
    (lambda t: t["measured"].pop("tasks"), "KeyError: 'tasks'"),
    (lambda t: t["measured"]["tasks"].clear(), "ValueError"),
    (lambda t: t["measured"]["tasks"][0].update(steps=-3), "steps"),
    (lambda t: t["measured"]["counts"].clear(), "the counts of predictions"),
    (lambda t: t["measured"]["matrices"]["linear"].update(R=[[2.0, 0, 0]]), "accuracy 2.0 is out of range"),
    (lambda t: t["measured"]["matrices"]["linear"].update(classes_per_task=[1]), "damaged"),
    (lambda t: t.update(best={"score": 1.0, "epoch": 0, "network": {"model": {}}}), "KeyError: 'head.weight'"),
    (lambda t: t.update(data=3), "data"),
]


@pytest.mark.parametrize(("change", "says"), MISFITS)
def test_checkpoint_that_does_not_fit_is_named(change: Change, says: str, config: RunConfig, run: Path) -> None:
    path = rewrite(run, change)
    with pytest.raises(CheckpointError, match=says) as raised:
        train(config, run, resume=True)
    message = str(raised.value)
    assert f"the checkpoint {path} does not fit this run (" in message
    assert message.endswith("delete it, and --resume goes on from the one before, or begins anew where there is none")
    assert len(message.splitlines()) == 1
    assert len(message) < 900


def test_place_outside_of_an_epoch_is_named(config: RunConfig, run: Path) -> None:
    rewrite(run, lambda tree: tree.update(stream={"epoch": 0, "position": 10**9}))
    with pytest.raises(SettingsError, match="is out of range; an epoch has 2 batches"):
        train(config, run, resume=True)


def test_advice_to_delete_the_newest_checkpoint_works(config: RunConfig, run: Path, undisturbed: RunMetrics) -> None:
    rewrite(run, lambda tree: tree["model"].clear()).unlink()
    assert comparable(train(config, run, resume=True)) == comparable(undisturbed)


def test_flipped_bit_in_a_checkpoint_falls_back_to_the_one_before(
    config: RunConfig, run: Path, undisturbed: RunMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    path = checkpoints(run / "checkpoints")[-1]
    data = bytearray(path.read_bytes())
    data[-5] ^= 4  # in a tensor, where the file's own format has no check
    path.write_bytes(data)
    with caplog.at_level("WARNING", "vclimb"):
        metrics = train(config, run, resume=True)
    assert "its content has changed since it was written; trying the one before" in caplog.text
    assert comparable(metrics) == comparable(undisturbed)


def test_damaged_metrics_of_an_unfinished_run_are_replaced(config: RunConfig, run: Path) -> None:
    text = (run / "metrics.json").read_text()
    (run / "metrics.json").write_text(text.replace('"seed": 0', '"seed": 1'))
    metrics = train(config, run, resume=True)
    assert read_metrics(run) == metrics
    assert metrics.complete
    (warning,) = [event["text"] for event in events_of(run) if event["event"] == "warning"]
    assert warning == "metrics.json is damaged; the run goes on from its checkpoint and writes it anew"


def test_kill_after_the_last_checkpoint_leaves_one_when_resumed(synth_shards: Path, tmp_path: Path) -> None:
    config, run = tiny_config(synth_shards, "finetune", "scenario.tasks=2"), tmp_path / "run"
    metrics = train(config, run)
    (last,) = checkpoints(run / "checkpoints")
    shutil.copy(last, last.with_name("checkpoint-000001.safetensors"))  # which the kill left no time to remove
    (run / "metrics.json").unlink()
    assert comparable(train(config, run, resume=True)) == comparable(metrics)
    assert checkpoints(run / "checkpoints") == [last]
