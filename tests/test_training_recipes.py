"""Recipes of training: frozen parts, rates by part, warm-up, changed colours, smoothed labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from training_cases import comparable, final_network, tiny_config

from vclimb.model.registry import make_network
from vclimb.model.settings import ModelConfig, parse_frozen
from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.stream.colours import change_clips, clip_draws
from vclimb.training.learner import Learner
from vclimb.training.optimizer import FACTOR, parameter_groups
from vclimb.training.processes import Processes
from vclimb.training.run import train
from vclimb.training.schedule import TrainingConfig

LITE0 = ModelConfig(backbone="tf_efficientnet_lite0.in1k", weights="none")


def trained_names(frozen: str) -> set[str]:
    model = make_network(LITE0, 2)
    model.freeze(parse_frozen(frozen))
    model.eval()
    model.train()
    for module in model.backbone.modules():
        parameters = list(module.parameters(recurse=False))
        if isinstance(module, nn.BatchNorm2d):  # statistics change exactly where the layer is trained
            assert {module.training} == {parameter.requires_grad for parameter in parameters}
    return {name for name, parameter in model.backbone.named_parameters() if parameter.requires_grad}


def test_frozen_parts_get_no_gradient_and_stay_in_evaluation_mode() -> None:
    everything = trained_names("none")
    assert trained_names("all") == set()
    assert not {name for name in trained_names("batch-norm") if ".bn" in name or name.startswith("bn")}
    assert trained_names("later-batch-norm") - trained_names("batch-norm") == {"bn1.weight", "bn1.bias"}
    early = everything - trained_names("stages:3")
    assert {name.split(".")[0] for name in early} == {"conv_stem", "bn1", "blocks"}
    assert {name.split(".")[1] for name in early if name.startswith("blocks")} == {"0", "1", "2"}
    assert trained_names("stages:3+batch-norm") == trained_names("stages:3") & trained_names("batch-norm")


@pytest.mark.parametrize("frozen", ["some", "stages:", "stages:-1", "stages:99", "all+some"])
def test_unknown_parts_are_refused(frozen: str) -> None:
    with pytest.raises(SettingsError, match=r"training\.frozen"):
        make_network(LITE0, 2).freeze(parse_frozen(frozen))


def test_backbone_has_a_rate_of_its_own() -> None:
    groups = parameter_groups(make_network(LITE0, 2), TrainingConfig(backbone_rate=0.1))
    assert [group[FACTOR] for group in groups] == [0.1, 1.0]
    assert [parameter.shape for parameter in groups[1]["params"]] == [(2, 1280), (2,)]


def test_rate_rises_in_the_warm_up_and_falls_by_a_cosine_after_it() -> None:
    config = TrainingConfig(epochs=10, learning_rate=2.0, warmup_epochs=2, schedule="cosine")
    rates = [config.rate(progress, 10) for progress in (0.0, 0.1, 0.2, 0.6, 1.0)]
    assert rates == pytest.approx([0.02, 1.01, 2.0, 1.0, 0.0])
    with pytest.raises(ValueError, match="warmup_epochs 3 leaves nothing of a task of 3 epochs"):
        TrainingConfig(epochs=10, first_epochs=3, warmup_epochs=3)


@pytest.mark.parametrize("method", ["icarl", "er-ace"])
def test_methods_without_softmax_labels_refuse_to_smooth_them(method: str, synth_shards: Path, tmp_path: Path) -> None:
    config = tiny_config(synth_shards, method, "memory.budget=6v", "training.label_smoothing=0.1")
    with pytest.raises(SettingsError, match=f"label_smoothing is 0.1, and method {method} has no labels to smooth"):
        train(config, tmp_path / "run")


def test_frozen_network_trains_its_head_alone_and_the_same_twice(synth_shards: Path, tmp_path: Path) -> None:
    recipe = ("training.frozen=all", "training.augmentation=strong", "training.label_smoothing=0.1", "scenario.tasks=2")
    config = tiny_config(synth_shards, "finetune", *recipe)
    first, second = train(config, tmp_path / "first"), train(config, tmp_path / "second")
    assert comparable(first) == comparable(second)
    initial = Learner(config, Processes(0, 1, torch.device("cpu")), 3).model.state_dict()
    trained = final_network(tmp_path / "first")
    kept = {name for name, value in initial.items() if torch.equal(value, trained[name])}
    assert initial.keys() - kept == {"head.weight", "head.bias"}


@pytest.mark.parametrize("kind", ["colour", "strong"])
def test_frames_of_a_clip_change_alike_by_seed_epoch_and_item(kind: str) -> None:
    frames = torch.randint(0, 256, (40, 1, 12, 10, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    clips = frames.expand(40, 3, 12, 10, 3).contiguous().permute(0, 1, 4, 2, 3)
    items = np.arange(40)
    changed = change_clips(clips, clip_draws(0, 1, items), kind)  # type: ignore[arg-type]
    assert (changed.dtype, changed.shape, changed.stride()) == (clips.dtype, clips.shape, clips.stride())
    assert torch.equal(changed, changed[:, :1].expand_as(changed))
    assert all(not torch.equal(changed[item], clips[item]) for item in items)
    part = change_clips(clips[7:9], clip_draws(0, 1, items[7:9]), kind)  # type: ignore[arg-type]
    assert (part.int() - changed[7:9].int()).abs().max() <= 1  # rounding
    assert not torch.equal(change_clips(clips, clip_draws(0, 2, items), kind), changed)  # type: ignore[arg-type]
