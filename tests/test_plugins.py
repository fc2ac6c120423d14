"""Methods and networks that are one file outside the package."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from training_cases import TINY_BACKBONE, events_of, final_network, read_metrics, tiny_config
from typer.testing import CliRunner

import vclimb
from vclimb.cli.main import app
from vclimb.methods.registry import METHODS
from vclimb.model.registry import NETWORKS, make_network
from vclimb.model.settings import ModelConfig
from vclimb.pipeline.errors import SettingsError, TooManyFilesError
from vclimb.training.run import train

METHOD = '''
"""Fine-tuning with a weight decay of the head."""

from pydantic import Field

from vclimb.methods.method import Method, MethodConfig


class HeadDecayConfig(MethodConfig):
    factor: float = Field(default=0.1, ge=0)


class HeadDecay(Method[HeadDecayConfig]):
    name = "head-decay"
    summary = "Fine-tuning with a weight decay of the head."
    Config = HeadDecayConfig

    def penalty(self, model):
        return {"head_decay": self.config.factor * model.head.weight.square().sum()}


class NotAMethod:
    name = "not-a-method"
'''

NETWORK = '''
"""The mean colour of a clip, through a linear layer."""

from torch import nn

from vclimb.model.clip_model import ClipModel


class MeanColour(ClipModel):
    name = "mean-colour"
    summary = "The mean colour of a clip, through a linear layer."
    least_frames = 2

    def __init__(self, n_classes, config):
        super().__init__(nn.Linear(3, 8), 8, n_classes, config.dropout)

    def features(self, clips):
        frames = self.normalise(clips.flatten(0, 1)).view(clips.shape)
        return self.backbone(frames.mean((1, 3, 4)))
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two modules that can be imported here and in child processes."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "head_decay_plugin.py").write_text(METHOD, "utf-8")
    (folder / "mean_colour_plugin.py").write_text(NETWORK, "utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{Path(vclimb.__file__).parents[1]}")
    return folder


def install(package: Path, *entries: str) -> None:
    """Add entry points, as an installed package has them."""
    metadata = package / "head_decay_plugin-1.0.dist-info"
    metadata.mkdir(exist_ok=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: head-decay-plugin\nVersion: 1.0\n", "utf-8")
    (metadata / "entry_points.txt").write_text("\n".join(entries) + "\n", "utf-8")


def test_a_method_of_another_package_trains(package: Path, synth_shards: Path, tmp_path: Path) -> None:
    """By its place, and by its entry point: the same run."""
    by_place = "head_decay_plugin:HeadDecay"
    config = tiny_config(synth_shards, by_place, "method.factor=0.5", "scenario.tasks=2")
    metrics = train(config, tmp_path / "run")
    assert metrics.method == "head-decay"
    (*_, epoch) = [event for event in events_of(tmp_path / "run") if event["event"] == "epoch"]
    assert set(epoch["losses"]) == {"classification", "head_decay"}
    install(package, "[vclimb.methods]", "head-decay = head_decay_plugin:HeadDecay")
    assert vclimb.list_methods()["head-decay"] == "From the package head-decay-plugin."
    assert METHODS.find("head-decay") is METHODS.find(by_place)


def test_a_study_finds_it_in_the_processes_of_its_runs(package: Path, synth_shards: Path, tmp_path: Path) -> None:
    install(package, "[vclimb.methods]", "head-decay = head_decay_plugin:HeadDecay")
    study = tmp_path / "study.toml"
    study.write_text(
        'name = "plugin"\n[base]\nscenario.tasks = 2\n'
        f'model = {{ backbone = "{TINY_BACKBONE}", weights = "none", clip_frames = 2, size = 32 }}\n'
        "training = { epochs = 1, batch_size = 8 }\n"
        'compute = { device = "cpu", decoder = "cpu", workers = 0 }\n'
        '[axes]\nmethod = ["head-decay"]\n',
        "utf-8",
    )
    out = tmp_path / "study"
    arguments = ["study", "run", str(study), "--data", str(synth_shards), "--out", str(out), "--jobs", "1"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    (run,) = (out / "runs").iterdir()
    assert read_metrics(run).method == "head-decay"


@pytest.mark.parametrize("method", ["finetune", "ewc", "icarl"])
def test_a_network_of_another_package_trains(package: Path, method: str, synth_shards: Path, tmp_path: Path) -> None:
    by_place = "mean_colour_plugin:MeanColour"
    metrics = train(
        tiny_config(synth_shards, method, f"model.network={by_place}", "scenario.tasks=2"), tmp_path / "run"
    )
    assert metrics.complete
    assert final_network(tmp_path / "run")["head.weight"].shape == (6, 8)
    install(package, "[vclimb.networks]", f"mean-colour = {by_place}")
    assert "mean-colour" in vclimb.list_networks()
    with pytest.raises(SettingsError, match=r"network mean-colour needs model\.clip_frames 2 or more, not 1"):
        make_network(ModelConfig(network="mean-colour", clip_frames=1), 2)


def test_own_components_are_found_without_reading_other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where no more files can be opened, which is said of the others."""

    def full(**_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("vclimb.pipeline.system.plugins.metadata.entry_points", full)
    methods = type(METHODS)("method", "vclimb.methods", "vclimb.methods", "vclimb.methods.method:Method")
    assert methods.find("icarl").name == "icarl"
    with pytest.raises(TooManyFilesError, match="this process may open no more than"):
        methods.find("head-decay")


def test_names_that_lead_to_no_method(package: Path) -> None:
    for name, message in {
        "iCarl": "method 'iCarl' is not known; did you mean 'icarl'",
        "no_such_plugin:Mine": r"No module named 'no_such_plugin'; .* environment variable PYTHONPATH",
        "head_decay_plugin:Nothing": "can't be imported: module 'head_decay_plugin' has no attribute 'Nothing'",
        "head_decay_plugin:NotAMethod": "is no method: .* does not extend vclimb.methods.method:Method",
    }.items():
        with pytest.raises(SettingsError, match=message):
            METHODS.find(name)


def test_methods_and_networks_are_listed_without_torch() -> None:
    program = (
        "import sys, vclimb; print(*vclimb.list_methods(), *vclimb.list_networks()); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    names, torch_loaded = done.stdout.splitlines()
    assert set(names.split()) >= {"finetune", "naive", "ewc", "mas", "lwf", "icarl", "bic", "joint", "tsn", "tsm"}
    assert torch_loaded == "False"
    for registry in (METHODS, NETWORKS):
        assert all(
            registry.find(name).name == name and listing.summary for name, listing in registry.listings().items()
        )
