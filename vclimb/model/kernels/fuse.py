"""Exchange the layers of a network for ones with kernels of vclimb's own, which compute the same."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import nn

from vclimb.model.kernels import batch_norm, depthwise
from vclimb.model.kernels.batch_norm import ACTIVATIONS, Activation, FusedBatchNorm
from vclimb.model.kernels.depthwise import DepthwiseConv

_MAX_REASON = 300  # characters

# Normalisations whose activation is another child of timm's block, and what lies between the two.
_PAIRS: dict[str, tuple[tuple[str, str, str | None], ...]] = {
    "ResNet": (("bn1", "act1", None),),
    "BasicBlock": (("bn1", "act1", "drop_block"),),
    "Bottleneck": (("bn1", "act1", None), ("bn2", "act2", "drop_block")),
}


@dataclass
class Fused:
    """Numbers of layers that were exchanged.

    Attributes:
        batch_norms: Batch normalisations.
        activations: Activations that are computed with these.
        convolutions: Depthwise convolutions.
    """

    batch_norms: int = 0
    activations: int = 0
    convolutions: int = 0

    def __str__(self) -> str:
        return (
            f"vclimb's for {self.batch_norms} batch normalisations with {self.activations} activations, and for "
            f"{self.convolutions} depthwise convolutions"
        )


@functools.cache
def missing_for_kernels(device: torch.device) -> str | None:
    """Say what a machine with a GPU lacks for the kernels; None: nothing.

    One of them is tried: Triton needs a C compiler, Python's headers, a folder for what it compiles, and a GPU that it
    knows.
    """
    if find_spec("triton") is None:
        return "the package triton isn't installed"
    layer = FusedBatchNorm(nn.BatchNorm2d(8).to(device), Activation.NONE, nn.Identity())
    try:
        if not bool(batch_norm.batch_norm(torch.ones(2, 8, 2, 2, device=device), layer).isfinite().all()):
            return "the result of one of them is wrong"
    except Exception as error:  # of compilers, drivers and file systems
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:_MAX_REASON]
        return f"Triton can't compile them on this machine ({reason})"
    return None


def fuse(network: nn.Module) -> Fused:
    """Exchange batch normalisations, the activations after them, and depthwise convolutions in place.

    Only layers of torch and timm are exchanged, not those of their subclasses, and none with hooks. The names of
    parameters and buffers stay, and so do their values. On a CPU, and in passes without training, normalisations
    compute as before.
    """
    counts = Fused()
    for parent in [*network.modules()]:
        for norm, act, between in _PAIRS.get(type(parent).__name__, ()):
            if type(parent).__module__ == "timm.models.resnet":
                _join(parent, norm, act, between, counts)
        for name, child in [*parent.named_children()]:
            made = _exchanged(child, counts)
            if made is not None:
                setattr(parent, name, made)
    return counts


def is_planned(network: nn.Module) -> bool:
    """Tell whether cuDNN compiles convolutions of a network for each size of a batch: depthwise ones, and 3-D ones."""
    return any(
        isinstance(module, nn.Conv3d)
        or (isinstance(module, nn.Conv2d) and depthwise.is_depthwise(module) and not isinstance(module, DepthwiseConv))
        for module in network.modules()
    )


def _join(parent: nn.Module, norm_name: str, act_name: str, between: str | None, counts: Fused) -> None:
    """Join a normalisation and the activation that follows it under another name."""
    norm, act = getattr(parent, norm_name), getattr(parent, act_name)
    activation = ACTIVATIONS.get(type(act), Activation.NONE)
    if type(norm) is not nn.BatchNorm2d or not batch_norm.has_kernel(norm) or _has_hooks(norm) or _has_hooks(act):
        return
    if not activation or (between is not None and type(getattr(parent, between, None)) is not nn.Identity):
        return
    setattr(parent, norm_name, FusedBatchNorm(norm, activation, nn.Identity()))
    setattr(parent, act_name, nn.Identity())
    counts.batch_norms += 1
    counts.activations += 1


def _exchanged(layer: nn.Module, counts: Fused) -> nn.Module | None:
    """Make the layer that a layer is exchanged for; None: it stays."""
    if _has_hooks(layer):
        return None
    if isinstance(layer, nn.Conv2d):
        name = type(layer).__name__
        if name not in ("Conv2d", "Conv2dSame") or not _is_known(layer) or not depthwise.has_kernel(layer):
            return None
        counts.convolutions += 1
        return DepthwiseConv(layer, same=name == "Conv2dSame")
    if not isinstance(layer, nn.BatchNorm2d) or not _is_known(layer) or not batch_norm.has_kernel(layer):
        return None
    act: nn.Module = nn.Identity()
    if type(layer).__name__ == "BatchNormAct2d":  # timm's, with an activation of its own
        if not isinstance(layer.drop, nn.Identity):
            return None
        assert isinstance(layer.act, nn.Module)
        act = layer.act
    elif type(layer) is not nn.BatchNorm2d:
        return None
    activation = ACTIVATIONS.get(type(act))
    counts.batch_norms += 1
    counts.activations += bool(activation)
    if activation is None:
        return FusedBatchNorm(layer, Activation.NONE, act)
    return FusedBatchNorm(layer, activation, nn.Identity())


def _is_known(layer: nn.Module) -> bool:
    return type(layer).__module__.partition(".")[0] in ("torch", "timm")


def _has_hooks(layer: nn.Module) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks)
