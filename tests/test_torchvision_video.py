"""torchvision's video networks: features, weights from a file, the importance of EWC, and a run of two tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models import video
from training_cases import tiny_config

from vclimb.methods.importance import output_sensitivity
from vclimb.model.clip_model import ClipModel
from vclimb.model.registry import make_network
from vclimb.model.settings import ModelConfig
from vclimb.pipeline.errors import SettingsError
from vclimb.training.run import train

NAMES = ("r2plus1d_18", "mc3_18", "swin3d_t")


def make(name: str, **settings: Any) -> ClipModel:
    torch.manual_seed(0)
    return make_network(
        ModelConfig(**{"network": name, "weights": "none", "clip_frames": 2, "size": 32, **settings}), 3
    )


@pytest.fixture
def clips() -> torch.Tensor:
    """(2, 2, 3, 32, 32) uint8, channels last as streams yield them."""
    frames = torch.randint(0, 256, (2, 2, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return frames.permute(0, 1, 4, 2, 3)


@pytest.mark.parametrize("name", NAMES)
def test_features_are_torchvisions(name: str, clips: torch.Tensor, tmp_path: Path) -> None:
    """Of weights that come from a file of torchvision's own module, classifier and all."""
    torch.manual_seed(1)
    theirs = getattr(video, name)(weights=None).eval()
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    model = make(name, weights=str(tmp_path / "weights.pth")).eval()
    setattr(theirs, "head" if name == "swin3d_t" else "fc", torch.nn.Identity())
    pixels = (
        (clips.transpose(1, 2) / 255 - model.normalise.mean[..., None] / 255) * model.normalise.scale[..., None] * 255
    )
    with torch.inference_mode():
        torch.testing.assert_close(model.features(clips), theirs(pixels), rtol=1e-4, atol=1e-4)
        assert model(clips).shape == (2, 3)
        flipped = model(clips.flip(1))
    assert not torch.allclose(flipped, model(clips))  # the order of frames counts


@pytest.mark.parametrize("name", NAMES)
def test_importances_and_bf16(name: str, clips: torch.Tensor) -> None:
    model = make(name)
    importance = output_sensitivity(model, [(clips[:1], torch.zeros(1, dtype=torch.int64))]).mean()
    assert importance.keys() == dict(model.named_parameters()).keys()
    assert all(value.isfinite().all() for value in importance.values())
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        assert model(clips).dtype == torch.bfloat16


def test_a_run_of_two_tasks(synth_shards: Path, tmp_path: Path) -> None:
    config = tiny_config(synth_shards, "finetune", "model.network=r2plus1d_18", "model.size=16", "scenario.tasks=2")
    metrics = train(config, tmp_path / "run")
    assert metrics.complete
    assert metrics.matrix.shape == (2, 2)


def test_settings_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"network swin3d_t needs model\.size 32 or more, not 16"):
        make("swin3d_t", size=16)
    with pytest.raises(SettingsError, match=r"network mc3_18 needs model\.clip_frames 2 or more, not 1"):
        make("mc3_18", clip_frames=1)
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(SettingsError, match=r"has no tensor of backbone 'mc3_18', which needs 'stem"):
        make("mc3_18", weights=str(tmp_path / "other.pth"))
