"""Networks that see the order of frames: the temporal convolutions of `tcn`, and what tsn, tsm and tcn can learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from training_cases import TINY_BACKBONE, tiny_config

from vclimb.methods.importance import fisher_diagonal
from vclimb.model.clip_model import ClipModel
from vclimb.model.registry import make_network
from vclimb.model.settings import ModelConfig, parse_frozen
from vclimb.model.tcn import DILATIONS, TCN, WIDTH
from vclimb.training.optimizer import FACTOR, parameter_groups
from vclimb.training.run import train
from vclimb.training.schedule import TrainingConfig


def make(network: str = "tcn", **settings: Any) -> ClipModel:
    torch.manual_seed(0)
    config = ModelConfig(**{"network": network, "backbone": TINY_BACKBONE, "weights": "none", "dropout": 0, **settings})
    return make_network(config, 2)


def drawn(n: int, n_frames: int = 4, seed: int = 0) -> Tensor:
    shape = (n, n_frames, 3, 32, 32)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def convolved(features: np.ndarray[Any, Any], weight: np.ndarray[Any, Any], bias: Any, dilation: int) -> Any:
    """Convolve (T, C) features in time, element by element; frames beyond the ends are zeros."""
    n_frames = len(features)
    result = np.tile(bias, (n_frames, 1))
    for t in range(n_frames):
        for tap in range(3):
            if 0 <= (source := t + (tap - 1) * dilation) < n_frames:
                result[t] += weight[:, :, tap] @ features[source]
    return result


@torch.inference_mode()
def test_feature_is_the_mean_frame_joined_by_convolutions_in_time() -> None:
    model, clips = make().eval(), drawn(2, n_frames=6)
    assert isinstance(model, TCN)
    frames = model.frame_features(clips)
    features = model.features(clips)
    assert features.shape == (2, model.n_features) == (2, frames.shape[2] + WIDTH)
    assert model.head.in_features == model.n_features
    assert torch.equal(features[:, :-WIDTH], frames.mean(1))
    for clip, expected in zip(frames.numpy(), features[:, -WIDTH:].numpy(), strict=True):
        normed = (clip - clip.mean(1, keepdims=True)) / np.sqrt(clip.var(1, keepdims=True) + 1e-5)
        values = normed @ model.temporal.project.weight.numpy().T + model.temporal.project.bias.numpy()
        for convolution, dilation in zip(model.temporal.convolutions, DILATIONS, strict=True):
            weight, bias = (parameter.numpy() for parameter in convolution.parameters())
            values = values + np.maximum(convolved(values, weight, bias, dilation), 0)
        np.testing.assert_allclose(values.mean(0), expected, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_order_counts_clips_are_independent_and_any_number_of_frames_fits() -> None:
    model, clips = make().eval(), drawn(3)
    features = model.features(clips)
    assert not torch.allclose(model.features(clips.flip(1)), features, rtol=1e-3)
    torch.testing.assert_close(model.features(clips[1:2]), features[1:2], rtol=1e-4, atol=1e-5)
    assert model(clips[:, :1]).shape == (3, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert model(clips).dtype == torch.bfloat16


def test_importances_are_those_of_one_clip_at_a_time() -> None:
    model, clips = make(), drawn(2)
    labels = torch.tensor([0, 1])
    together = fisher_diagonal(model, [(clips, labels)]).mean()
    assert together.keys() == dict(model.named_parameters()).keys()
    one = [fisher_diagonal(model, [(clips[i : i + 1], labels[i : i + 1])]).mean() for i in range(2)]
    for name, value in together.items():
        torch.testing.assert_close(value, (one[0][name] + one[1][name]) / 2, rtol=1e-3, atol=1e-6)


def test_a_frozen_backbone_leaves_the_temporal_layers_free_at_the_rate_of_the_head() -> None:
    model = make()
    model.freeze(parse_frozen("all"))
    trained = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {"temporal", "head"}
    groups = parameter_groups(make(), TrainingConfig(backbone_rate=0.1))
    counts = {group[FACTOR]: len(group["params"]) for group in groups}
    assert counts[1.0] == 2 + 2 + 2 * len(DILATIONS) + 2


@pytest.mark.parametrize("method", ["naive", "ewc"])
def test_a_run_of_two_tasks(method: str, synth_shards: Path, tmp_path: Path) -> None:
    budget = ["memory.budget=600kB"] if method == "naive" else []
    config = tiny_config(synth_shards, method, "model.network=tcn", "scenario.tasks=2", *budget)
    metrics = train(config, tmp_path / "run")
    assert metrics.complete
    assert metrics.matrix.shape == (2, 2)


def brightening_clips(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw clips that brighten, and the same frames from the last to the first: labels 0 and 1."""
    rng = np.random.default_rng(seed)
    levels = np.sort(rng.integers(20, 230, (n, 4)), axis=1)[:, :, None, None, None]
    frames = torch.from_numpy(np.clip(levels + rng.integers(-20, 20, (n, 4, 3, 32, 32)), 0, 255).astype(np.uint8))
    return torch.cat([frames, frames.flip(1)]), torch.tensor([0] * n + [1] * n)


def learned_accuracy(network: str, epochs: int) -> float:
    """Train a network on clips that brighten or darken, and measure it on others."""
    model = make(network)
    clips, labels = brightening_clips(16, seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(clips), generator=generator).split(8):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(clips[batch]), labels[batch]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    model.eval()
    clips, labels = brightening_clips(32, seed=1)
    with torch.inference_mode():
        return float((model(clips).argmax(1) == labels).double().mean())


def test_tsm_and_tcn_learn_the_order_of_frames_and_tsn_cannot() -> None:
    assert learned_accuracy("tsn", 2) == pytest.approx(0.5, abs=0.05)  # a pair of clips gets the same scores
    assert learned_accuracy("tsm", 16) > 0.9
    assert learned_accuracy("tcn", 16) > 0.9
