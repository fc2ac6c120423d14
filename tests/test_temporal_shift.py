"""TSM's shift in inverted residuals: where it is, what it shifts, and that methods can take gradients through it."""

from __future__ import annotations

import pytest
import torch
from timm.models._efficientnet_blocks import DepthwiseSeparableConv, EdgeResidual, InvertedResidual
from torch import Tensor, nn

from vclimb.methods.importance import output_sensitivity
from vclimb.model.clip_model import ClipModel
from vclimb.model.registry import NETWORKS, make_network
from vclimb.model.settings import ModelConfig
from vclimb.pipeline.errors import SettingsError

LITE0 = "tf_efficientnet_lite0.in1k"
N_FRAMES = 4
FIRST = {InvertedResidual: "conv_pw", EdgeResidual: "conv_exp", DepthwiseSeparableConv: "conv_dw"}
"""Kind of block -> its first convolution."""


def make(network: str, backbone: str = LITE0) -> ClipModel:
    torch.manual_seed(0)
    return make_network(ModelConfig(network=network, backbone=backbone, weights="none"), 3).eval()


@pytest.fixture(scope="module")
def tsm() -> ClipModel:
    return make("tsm")


@pytest.fixture(scope="module")
def clips() -> Tensor:
    """(2, 4, 3, 32, 32) uint8."""
    return torch.randint(
        0, 256, (2, N_FRAMES, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def shifted_by_hand(features: Tensor) -> Tensor:
    """Shift by the paper's words, frame by frame: an eighth from the next frame, an eighth from the one before."""
    clips, eighth = features.unflatten(0, (-1, N_FRAMES)), features.shape[1] // 8
    frames = []
    for t in range(N_FRAMES):
        after = clips[:, t + 1, :eighth] if t + 1 < N_FRAMES else torch.zeros_like(clips[:, 0, :eighth])
        before = clips[:, t - 1, eighth : 2 * eighth] if t else torch.zeros_like(clips[:, 0, :eighth])
        frames.append(torch.cat([after, before, clips[:, t, 2 * eighth :]], dim=1))
    return torch.stack(frames, dim=1).flatten(0, 1)


def inputs_of_blocks(model: ClipModel, clips: Tensor) -> list[tuple[nn.Module, Tensor, Tensor]]:
    """List each inverted residual, its input, and the input of its first convolution."""
    seen: dict[nn.Module, Tensor] = {}
    pairs: list[tuple[nn.Module, nn.Module]] = []
    hooks = []
    for block in model.backbone.modules():
        if isinstance(block, InvertedResidual | EdgeResidual | DepthwiseSeparableConv):
            (name,) = [name for kind, name in FIRST.items() if isinstance(block, kind)]
            first = block.get_submodule(name)
            pairs.append((block, first))
            for module in (block, first):
                hooks.append(
                    module.register_forward_hook(lambda module, inputs, _: seen.update({module: inputs[0].clone()}))
                )
    with torch.inference_mode():
        model(clips)
    for hook in hooks:
        hook.remove()
    return [(block, seen[block], seen[first]) for block, first in pairs]


@pytest.mark.parametrize("backbone", [LITE0, "efficientnet_es.ra_in1k", "tf_efficientnet_cc_b0_4e.in1k"])
def test_blocks_with_a_shortcut_shift_the_input_of_their_branch(backbone: str, clips: Tensor) -> None:
    shifted = 0
    for block, features, first in inputs_of_blocks(make("tsm", backbone), clips):
        is_shifted = block.has_skip and not isinstance(block, DepthwiseSeparableConv)
        assert torch.equal(first, shifted_by_hand(features) if is_shifted else features)
        shifted += is_shifted
    assert shifted >= 5


def test_equal_frames_give_the_features_of_tsn_but_for_zeros_at_the_ends(tsm: ClipModel, clips: Tensor) -> None:
    equal = clips[:, :1].expand_as(clips)
    blocks = zip(inputs_of_blocks(tsm, equal), inputs_of_blocks(make("tsn"), equal), strict=True)
    (_, _, first), (_, _, plain) = next(pair for pair in blocks if getattr(pair[0][0], "has_skip", False))
    first, plain = first.unflatten(0, (-1, N_FRAMES)), plain.unflatten(0, (-1, N_FRAMES))
    eighth = first.shape[2] // 8
    assert eighth
    assert torch.equal(first[:, 1:-1], plain[:, 1:-1])
    assert torch.equal(first[:, :, 2 * eighth :], plain[:, :, 2 * eighth :])
    for end, zeros, kept in ((0, slice(eighth, 2 * eighth), slice(eighth)), (-1, slice(eighth), slice(eighth, None))):
        assert not first[:, end, zeros].any()
        assert torch.equal(first[:, end, kept], plain[:, end, kept])


@torch.inference_mode()
def test_order_of_frames_changes_the_scores_and_clips_are_independent(tsm: ClipModel, clips: Tensor) -> None:
    scores = tsm.features(clips)
    assert not torch.allclose(tsm.features(clips.flip(1)), scores, rtol=1e-3)
    torch.testing.assert_close(tsm.features(clips[1:]), scores[1:], rtol=1e-3, atol=1e-4)
    assert tsm.state_dict().keys() == make("tsn").state_dict().keys()


def test_importances_are_those_of_one_clip_at_a_time(tsm: ClipModel, clips: Tensor) -> None:
    labels = torch.zeros(2, dtype=torch.int64)
    together = output_sensitivity(tsm, [(clips, labels)]).mean()
    one = [output_sensitivity(tsm, [(clips[i : i + 1], labels[:1])]).mean() for i in range(2)]
    assert together.keys() == dict(tsm.named_parameters()).keys()
    for name, value in together.items():
        torch.testing.assert_close(value, (one[0][name] + one[1][name]) / 2, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("backbone", ["test_vit.r160_in1k", "densenet121", "mobilenetv4_conv_small"])
def test_networks_without_such_blocks_are_refused_before_they_are_made(backbone: str) -> None:
    state = torch.get_rng_state()
    with pytest.raises(SettingsError, match=f"network tsm shifts .*, and '{backbone}' has none; take") as raised:
        NETWORKS.find("tsm").check(ModelConfig(network="tsm", backbone=backbone))
    assert "\n" not in str(raised.value)
    assert torch.equal(torch.get_rng_state(), state)
