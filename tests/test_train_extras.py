"""Options of a run: a compiled backbone, and Weights & Biases."""

from __future__ import annotations

from functools import partialmethod
from pathlib import Path

import pytest
import torch
from training_cases import TINY_BACKBONE, tiny_config

from vclimb.methods.method import StepBatch
from vclimb.pipeline.errors import SettingsError
from vclimb.training.config import make_config
from vclimb.training.learner import Learner
from vclimb.training.processes import Processes
from vclimb.training.run import make_method, train
from vclimb.training.run_log import WandbLog


def test_weights_and_biases_receive_all_scalars(
    synth_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    metrics = train(tiny_config(synth_shards, "naive", "log.wandb=a project", "scenario.tasks=2"), tmp_path / "run")
    assert capfd.readouterr().out == ""  # where the command prints JSON
    wandb.teardown()  # ends the process that writes the log
    (log,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    written = log.read_bytes()
    for name in ("a project", "loss/classification", "learning_rate", "after_task/acc", "memory/bytes_on_disk"):
        assert name.encode() in written
    for acc in metrics.acc_after_each_task:
        assert repr(acc).encode() in written


def test_missing_login_to_weights_and_biases_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")

    def refuse(**_: object) -> None:
        raise wandb.errors.UsageError("No API key configured.\nUse `wandb login`.")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(
        SettingsError, match=r"^log\.wandb 'a project': No API key configured\. .* or leave log\.wandb off$"
    ):
        WandbLog("a project", tmp_path, {})


def test_compiled_backbone_trains_like_a_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # Skips the last step of torch's compiler, which takes a minute on a CPU: graphs run as they were traced.
    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend="aot_eager"))
    clips = torch.randint(0, 256, (2, 1, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    networks = []
    for compiled in (False, True):
        config = make_config(
            {"data": "none", "model": {"backbone": TINY_BACKBONE, "weights": "none", "size": 32, "dropout": 0.0}},
            {"compute": {"compile": compiled, "device": "cpu"}, "training": {"batch_size": 2}},
        )
        learner = Learner(config, Processes(0, 1, torch.device("cpu")), 2)
        assert (learner.model.backbone._compiled_call_impl is not None) == compiled
        method = make_method(config)
        learner.begin_task(method)
        for _ in range(2):
            learner.step(
                method, StepBatch(clips, torch.tensor([0, 1]), torch.arange(2)), None, n_global=2, progress=0.0
            )
        networks.append(learner.model.state_dict())
    plain, other = networks
    assert plain.keys() == other.keys()  # so that checkpoints are interchangeable
    for name, value in plain.items():
        torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-5)
