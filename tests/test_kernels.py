"""Kernels of vclimb's own compute what torch's layers do. On a machine without a GPU, Triton interprets them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from timm import create_model
from torch import Tensor, nn
from training_cases import TINY_BACKBONE

from vclimb.model.kernels import fuse as fusing
from vclimb.model.kernels.batch_norm import Activation, FusedBatchNorm, batch_norm
from vclimb.model.kernels.blocks import Chunks
from vclimb.model.kernels.depthwise import DepthwiseConv, depthwise
from vclimb.model.kernels.fuse import fuse, is_planned, missing_for_kernels
from vclimb.model.registry import make_network
from vclimb.model.settings import ModelConfig
from vclimb.pipeline.errors import SettingsError
from vclimb.training import learner as learner_module
from vclimb.training.config import make_config
from vclimb.training.learner import Learner, reason_for_torch_kernels
from vclimb.training.processes import Processes

ON_GPU = torch.cuda.is_available()
GPU = pytest.mark.skipif(not ON_GPU, reason="needs an NVIDIA GPU")
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
EXACT = {"rtol": 1e-4, "atol": 1e-4}
ACTIVATIONS = {Activation.NONE: nn.Identity(), Activation.RELU: nn.ReLU(), Activation.RELU6: nn.ReLU6()}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


@pytest.fixture(autouse=True)
def exact_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize("same", [False, True], ids=["own-padding", "same-padding"])
@pytest.mark.parametrize(
    ("channels", "side", "size", "stride"), [(8, 7, 3, 1), (40, 8, 5, 2), (24, 9, 3, 2), (8, 6, 5, 1)]
)
def test_depthwise_convolutions_and_their_gradients_are_torchs(
    channels: int, side: int, size: int, stride: int, same: bool
) -> None:
    frames = drawn(2, channels, side, side + 1).requires_grad_()
    layer = nn.Conv2d(channels, channels, size, stride, size // 2, groups=channels, bias=False).to(DEVICE)
    ours = DepthwiseConv(layer, same)
    assert ours.weight is layer.weight
    with torch.enable_grad():
        expected = ours.cpu()(frames.cpu())  # by torch's convolution
        if not same:
            torch.testing.assert_close(expected, layer.cpu()(frames.cpu()))
        gradient = drawn(*expected.shape, seed=1)
        wanted = torch.autograd.grad(expected, (frames, layer.weight), gradient.cpu())
        ours.to(DEVICE)
        shape = expected.shape[2:]
        pads = [max((out - 1) * stride + size - n, 0) // 2 for out, n in zip(shape, frames.shape[2:], strict=True)]
        padding = (pads[0], pads[1]) if same else (size // 2, size // 2)
        result = depthwise(frames, layer.weight, stride, padding, *shape)
        found = torch.autograd.grad(result, (frames, layer.weight), gradient)
    assert result.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(result.cpu(), expected, **EXACT)
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine.cpu(), theirs.cpu(), **EXACT)


@pytest.mark.parametrize("mean", [0.0, 100.0])
@pytest.mark.parametrize("activation", list(Activation))
def test_batch_normalisation_and_its_gradients_are_torchs(activation: Activation, mean: float) -> None:
    frames = (3 * drawn(3, 40, 5, 6) + mean).requires_grad_()
    theirs = nn.BatchNorm2d(40, eps=1e-3, momentum=0.01).to(DEVICE)
    with torch.no_grad():
        theirs.weight.copy_(drawn(40, seed=1))
        theirs.bias.copy_(1 + drawn(40, seed=2))
    ours = FusedBatchNorm(nn.BatchNorm2d(40, eps=1e-3, momentum=0.01).to(DEVICE), activation, nn.Identity())
    ours.load_state_dict(theirs.state_dict())
    gradient = drawn(3, 40, 5, 6, seed=3)
    with torch.enable_grad():
        wanted = ACTIVATIONS[activation](theirs(frames))
        result = batch_norm(frames, ours)
        for mine, expected in zip(
            torch.autograd.grad(result, (frames, ours.weight, ours.bias), gradient),
            torch.autograd.grad(wanted, (frames, theirs.weight, theirs.bias), gradient),
            strict=True,
        ):
            torch.testing.assert_close(mine, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(result, wanted, rtol=1e-3, atol=1e-3)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, **EXACT)
    theirs.eval()
    ours.eval()
    torch.testing.assert_close(ours(frames), ACTIVATIONS[activation](theirs(frames)), **EXACT)


def test_values_that_are_not_finite_stay_so() -> None:
    frames = drawn(2, 8, 3, 3)
    frames[0, 3, 1, 1] = torch.nan
    layer = FusedBatchNorm(nn.BatchNorm2d(8).to(DEVICE), Activation.RELU6, nn.Identity())
    result = batch_norm(frames, layer)
    assert result[:, 3].isnan().all()
    assert not result[:, :3].isnan().any()


@pytest.mark.parametrize(("pixels", "block", "most"), [(1, 32, 256), (128, 32, 256), (1000, 32, 7), (10**6, 16, 1056)])
def test_chunks_cover_all_pixels(pixels: int, block: int, most: int) -> None:
    chunks = Chunks.of(pixels, block, most)
    assert 1 <= chunks.count <= most
    assert not chunks.size % block
    assert (chunks.count - 1) * chunks.size < pixels <= chunks.count * chunks.size


COUNTS = {"tf_efficientnet_lite0.in1k": (49, 33, 16), "mobilenetv3_small_050.lamb_in1k": (34, 5, 11)}
COUNTS |= {"resnet18": (20, 9, 0), "resnet50": (53, 33, 0), "efficientnet_b0": (49, 0, 16), "convnext_femto": (0, 0, 0)}


@pytest.mark.parametrize("backbone", [TINY_BACKBONE, *COUNTS])
def test_a_network_computes_the_same_with_its_layers_exchanged(backbone: str) -> None:
    torch.manual_seed(0)
    plain = create_model(backbone, pretrained=False, num_classes=5)
    state = plain.state_dict()
    torch.manual_seed(0)
    fused = create_model(backbone, pretrained=False, num_classes=5)
    counts = fuse(fused)
    if backbone in COUNTS:
        assert (counts.batch_norms, counts.activations, counts.convolutions) == COUNTS[backbone]
    assert [*fused.state_dict()] == [*state]
    assert all(torch.equal(fused.state_dict()[name], value) for name, value in state.items())
    assert [name for name, _ in fused.named_parameters()] == [name for name, _ in plain.named_parameters()]
    frames = torch.randn(2, 3, 32, 32)
    for training in (True, False):
        results = []
        for network in (plain, fused):
            network.train(training)
            torch.manual_seed(1)  # of dropped paths
            results.append(network(frames))
        torch.testing.assert_close(results[0], results[1])
    assert is_planned(plain) == (counts.convolutions > 0 or backbone == "convnext_femto")
    assert is_planned(fused) == (backbone == "convnext_femto")


def test_layers_with_hooks_and_of_other_packages_stay() -> None:
    class Mine(nn.BatchNorm2d):
        pass

    network = nn.Sequential(nn.BatchNorm2d(8), Mine(8), nn.BatchNorm2d(7), nn.Conv2d(8, 8, 3, groups=8, bias=False))
    network[3].register_forward_pre_hook(lambda module, inputs: None)
    before = [type(layer) for layer in network]
    assert str(fuse(network)) == (
        "vclimb's for 1 batch normalisations with 0 activations, and for 0 depthwise convolutions"
    )
    assert [type(layer) for layer in network] == [FusedBatchNorm, *before[1:]]


def config(**compute: Any) -> Any:
    model = {"backbone": TINY_BACKBONE, "weights": "none", "size": 32}
    return make_config({"data": "none", "model": model, "training": {"batch_size": 4}, "compute": compute})


@pytest.fixture
def try_anew() -> Iterator[None]:
    missing_for_kernels.cache_clear()
    yield
    missing_for_kernels.cache_clear()


@pytest.mark.usefixtures("try_anew")
def test_why_torchs_kernels_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda", 0)
    with monkeypatch.context() as patch:
        patch.setattr(learner_module, "missing_for_kernels", lambda device: None)
        assert reason_for_torch_kernels(config(), gpu) is None
        assert reason_for_torch_kernels(config(kernels="fused"), gpu) is None
        assert reason_for_torch_kernels(config(kernels="torch"), gpu) == "compute.kernels asks for them"
        assert "compute.compile" in (reason_for_torch_kernels(config(compile=True), gpu) or "")
    assert "training is on cpu" in (reason_for_torch_kernels(config(), torch.device("cpu")) or "")
    with pytest.raises(
        SettingsError, match=r"compute\.kernels fused is not possible: training is on cpu.*auto or torch"
    ):
        reason_for_torch_kernels(config(kernels="fused"), torch.device("cpu"))
    monkeypatch.setattr(fusing, "find_spec", lambda name: None)
    assert reason_for_torch_kernels(config(), gpu) == "the package triton isn't installed"


@pytest.mark.usefixtures("try_anew")
def test_a_kernel_is_tried_before_a_network_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing_for_kernels(DEVICE) is None
    missing_for_kernels.cache_clear()

    def without_compiler(*_: object) -> Tensor:
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC environment variable.")

    monkeypatch.setattr(fusing.batch_norm, "batch_norm", without_compiler)
    assert missing_for_kernels(DEVICE) == (
        "Triton can't compile them on this machine (RuntimeError: Failed to find C compiler. Please specify via CC "
        "environment variable.)"
    )


def test_a_learner_says_which_kernels_it_has() -> None:
    learner = Learner(config(device="cpu"), Processes(0, 1, torch.device("cpu")), 2)
    assert learner.kernels == "kernels: torch's, since training is on cpu, and the others are for GPUs"


@GPU
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("backbone", ["tf_efficientnet_lite0", "resnet34"])
def test_gradients_of_networks_are_as_near_to_exact_ones_as_torchs(backbone: str, precision: torch.dtype) -> None:
    pixels = torch.randint(0, 256, (8, 2, 64, 64, 3), dtype=torch.uint8, device=DEVICE).permute(0, 1, 4, 2, 3)
    gradients = {}
    for kind in ("exact", "torch", "fused"):
        torch.manual_seed(0)
        network = make_network(ModelConfig(backbone=backbone, weights="none", size=64, dropout=0.0), 5).to(DEVICE)
        if kind == "fused":
            fuse(network)
        inputs: Tensor = network.normalise(pixels.flatten(0, 1))
        if kind == "exact":
            network, inputs = network.double(), inputs.double()
        mixed = kind != "exact" and precision != torch.float32
        with torch.autocast("cuda", precision, enabled=mixed):
            logits = network.classify(network.backbone(inputs).view(8, 2, -1).mean(1))
            loss = nn.functional.cross_entropy(logits, torch.arange(8, device=DEVICE) % 5)
        loss.backward()  # type: ignore[no-untyped-call]
        gradients[kind] = torch.cat([value.grad.double().flatten() for value in network.parameters()])
    errors = {kind: float((found - gradients["exact"]).norm()) for kind, found in gradients.items()}
    norm = float(gradients["exact"].norm())
    assert errors["fused"] <= 1.2 * errors["torch"] + 0.02 * norm, (
        errors
    )  # rounding decides on which side of 0 some lie
