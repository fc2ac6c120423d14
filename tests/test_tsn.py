"""TSN and TSM: shapes, the consensus of frames, normalised pixels, weights, the growing head, temporal shift."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torchvision.transforms import v2

from vclimb.model.clip_model import IMAGENET_MEAN, IMAGENET_STD, ClipModel, PixelNorm
from vclimb.model.registry import make_network
from vclimb.model.settings import ModelConfig
from vclimb.model.tsm import shift_channels
from vclimb.pipeline.errors import SettingsError

BACKBONE = "resnet10t.c3_in1k"
LITE0_WEIGHTS = Path(__file__).parents[1] / "../shared/weights/tf_efficientnet_lite0_in1k.safetensors"


def make(n_classes: int, **settings: Any) -> ClipModel:
    return make_network(ModelConfig(**{"backbone": BACKBONE, "weights": "none", **settings}), n_classes)


@pytest.fixture(scope="module")
def model() -> ClipModel:
    torch.manual_seed(0)
    return make(5).eval()


@pytest.fixture(scope="module")
def clips() -> torch.Tensor:
    """(3, 4, 3, 64, 48) uint8, channels last as streams yield them."""
    frames = torch.randint(0, 256, (3, 4, 64, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return frames.permute(0, 1, 4, 2, 3)


@torch.inference_mode()
def test_a_logit_for_each_class_and_clip(model: ClipModel, clips: torch.Tensor) -> None:
    assert model(clips).shape == (3, 5)
    assert model(clips).dtype == torch.float32
    assert model.features(clips).shape == (3, model.head.in_features)
    assert model(clips[:, :1]).shape == (3, 5)


@torch.inference_mode()
def test_the_feature_of_a_clip_is_the_mean_of_its_frames(model: ClipModel, clips: torch.Tensor) -> None:
    of_frames = torch.stack([model.features(clips[:, t : t + 1]) for t in range(4)])
    torch.testing.assert_close(model.features(clips), of_frames.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model(clips), model.head(of_frames.mean(0)), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_clips_are_independent_and_the_order_of_frames_does_not_matter(model: ClipModel, clips: torch.Tensor) -> None:
    logits = model(clips)
    torch.testing.assert_close(model(clips[1:2]), logits[1:2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model(clips.flip(1)), logits, rtol=1e-4, atol=1e-5)
    assert (logits[0] - logits[1]).abs().max() > 1e-4


def test_dropout_is_on_the_averaged_feature_in_training_alone(clips: torch.Tensor) -> None:
    torch.manual_seed(0)
    model = make(5, dropout=0.9)
    model.backbone.eval()
    assert not torch.equal(model(clips), model(clips))
    model.eval()
    assert torch.equal(model(clips), model(clips))


def test_pixels_are_normalised_as_torchvision_does(clips: torch.Tensor) -> None:
    transform = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)])
    frames = clips.flatten(0, 1)
    normalised = PixelNorm()(frames)
    assert normalised.dtype == torch.float32
    assert normalised.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(normalised, transform(frames), rtol=0, atol=1e-5)


def test_pixels_take_the_type_of_autocast(clips: torch.Tensor) -> None:
    frames = clips.flatten(0, 1)
    with torch.autocast("cpu", torch.bfloat16):
        normalised = PixelNorm()(frames)
    assert normalised.dtype == torch.bfloat16
    torch.testing.assert_close(normalised.float(), PixelNorm()(frames), rtol=0, atol=0.05)


def test_the_normalisation_is_not_in_the_state() -> None:
    assert not [name for name in make(2).state_dict() if name.startswith("normalise")]


def test_gradients_reach_every_parameter(clips: torch.Tensor) -> None:
    model = make(5)
    torch.nn.functional.cross_entropy(model(clips), torch.tensor([0, 1, 4])).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.head.parameters())
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.skipif(not LITE0_WEIGHTS.is_file(), reason="the weights of tf_efficientnet_lite0 are not there")
def test_weights_come_from_a_file() -> None:
    stored = safetensors.torch.load_file(LITE0_WEIGHTS)
    model = make(5, backbone="tf_efficientnet_lite0.in1k", weights=str(LITE0_WEIGHTS))
    loaded = model.backbone.state_dict()
    assert loaded
    for name, values in loaded.items():
        assert torch.equal(values, stored[name]), name
    assert model.head.in_features == stored["classifier.weight"].shape[1]


def test_weights_come_from_a_saved_state_dict(model: ClipModel, tmp_path: Path) -> None:
    torch.save(model.backbone.state_dict(), tmp_path / "weights.pth")
    again = make(7, weights=str(tmp_path / "weights.pth"))
    for name, values in model.backbone.state_dict().items():
        assert torch.equal(again.backbone.state_dict()[name], values), name


def test_without_weights_nothing_is_loaded() -> None:
    torch.manual_seed(0)
    first = make(5).backbone.state_dict()
    torch.manual_seed(1)
    second = make(5).backbone.state_dict()
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_unknown_backbones_and_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"model\.backbone 'resnet9000' is not known; did you mean 'resnet\d+'"):
        make(5, backbone="resnet9000")
    with pytest.raises(SettingsError, match=r"weights 'no/such\.safetensors' is not a file; allowed: pretrained, none"):
        make(5, weights="no/such.safetensors")


def test_a_file_that_holds_no_weights_of_the_backbone_is_refused(model: ClipModel, tmp_path: Path) -> None:
    (tmp_path / "torn.safetensors").write_bytes(b"not weights")
    (tmp_path / "torn.pth").write_bytes(b"not weights")
    safetensors.torch.save_file({"conv.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    for name in ("torn.safetensors", "torn.pth", "other.safetensors"):
        with pytest.raises(SettingsError, match=name):
            make(5, weights=str(tmp_path / name))


# The head


def test_a_grown_head_keeps_its_weights(clips: torch.Tensor) -> None:
    torch.manual_seed(0)
    model = make(3).eval()
    with torch.inference_mode():
        before = model(clips)
    model.grow(5)
    with torch.inference_mode():
        after = model(clips)
    assert after.shape == (3, 5)
    torch.testing.assert_close(after[:, :3], before)
    assert (after[:, 3:] != 0).all()
    assert {name for name, _ in model.named_parameters() if name.startswith("head")} == {"head.weight", "head.bias"}
    model.grow(5)
    with pytest.raises(ValueError, match="a head of 5 outputs can't shrink to 4"):
        model.grow(4)


# Temporal shift


def test_shifted_channels_are_those_of_the_neighbouring_frames() -> None:
    """Against a transcription, element by element."""
    features = torch.randn(2 * 3, 17, 2, 2, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros_like(features)
    for clip in range(2):
        for frame in range(3):
            for channel in range(17):
                source = frame + 1 if channel < 2 else frame - 1 if channel < 4 else frame
                if 0 <= source < 3:
                    expected[clip * 3 + frame, channel] = features[clip * 3 + source, channel]
    assert torch.equal(shift_channels(features, 3), expected)


@torch.inference_mode()
def test_the_order_of_frames_matters_to_tsm(clips: torch.Tensor) -> None:
    torch.manual_seed(0)
    plain, shift = make(5).eval(), make(5, network="tsm").eval()
    for module in plain.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)  # fresh residual branches are switched off by zeros
    shift.load_state_dict(plain.state_dict())
    assert not torch.allclose(shift(clips), plain(clips))
    assert not torch.allclose(shift(clips.flip(1)), shift(clips), rtol=1e-3)
    torch.testing.assert_close(shift(clips[1:2]), shift(clips)[1:2], rtol=1e-4, atol=1e-5)
    assert shift(clips[:, :2]).shape == (3, 5)
    with pytest.raises(SettingsError, match=r"and 'test_vit\.r160_in1k' has none"):
        make(5, network="tsm", backbone="test_vit.r160_in1k")
