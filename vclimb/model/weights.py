"""Backbones with pretrained weights, weights from a file, or none."""

from __future__ import annotations

import textwrap
from argparse import Namespace
from collections.abc import Callable, Mapping
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vclimb.model.weights_file import NONE, PRETRAINED, weights_format
from vclimb.pipeline.errors import SettingsError

_SHOWN = 3
# What readers raise for damaged files. Torch asserts what it expects of files of its old format.
_DAMAGED = (
    *(SafetensorError, RuntimeError, OSError, ValueError, EOFError, LookupError, TypeError, AttributeError),
    AssertionError,
)
# Tables in which files of training programs keep the state dict, in the order of preference.
_INNER_TABLES = ("state_dict_ema", "model_ema", "state_dict", "model")


def make_backbone(name: str, weights: str, make: Callable[[bool], nn.Module]) -> nn.Module:
    """Make a backbone and load its weights.

    Args:
        weights: `pretrained`, `none`, or the path of a file: safetensors, or a state dict saved by torch.
        make: Makes the backbone without a classifier; its argument says whether to download the pretrained weights.

    Raises:
        SettingsError: the backbone can't be made, or the weights can't be loaded.
    """
    try:
        backbone = make(weights == PRETRAINED)
    except (RuntimeError, OSError, ValueError) as error:
        hint = "; without a network, give the path of their file, or none" if weights == PRETRAINED else ""
        reason = _brief(error)
        raise SettingsError(f"backbone {name!r} with weights {weights!r} can't be made: {reason}{hint}") from None
    if weights not in (PRETRAINED, NONE):
        _load(backbone, name, weights)
    return backbone


def _load(backbone: nn.Module, name: str, file: str) -> None:
    """Load all weights of a backbone. Other tensors in the file, such as a classifier's, are ignored."""
    if weights_format(file) == "numpy":
        _load_numpy(backbone, name, file)
    else:
        state = _read(file)
        _check_fit(backbone, name, file, state)
        backbone.load_state_dict(state, strict=False)
    for tensor, value in backbone.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all():
            raise SettingsError(
                f"model.weights {file!r}: tensor {tensor!r} holds NaN or infinity, from which nothing can be learned; "
                "take other weights"
            )


def _read(file: str) -> dict[str, Tensor]:
    """Read the tensors of a file, without executing code."""
    from timm.models import clean_state_dict  # Takes seconds, which runs without files needn't spend.

    try:
        stored: Any = load_file(file) if weights_format(file) == "safetensors" else _unpickled(file)
    except UnpicklingError as error:
        raise SettingsError(
            f"model.weights {file!r} holds Python objects besides tensors, which could run code and are not loaded "
            f"({_brief(error, 120)}); save the state_dict() alone by torch.save, or as safetensors"
        ) from None
    except _DAMAGED as error:
        raise SettingsError(f"model.weights {file!r} is damaged: {_brief(error)}; download it again") from None
    for inner in _INNER_TABLES:
        if isinstance(stored, Mapping) and isinstance(stored.get(inner), Mapping):
            stored = stored[inner]
    if not isinstance(stored, Mapping):
        raise SettingsError(
            f"model.weights {file!r} holds a {type(stored).__name__}, and no state dict; save the state_dict() of a "
            "module by torch.save"
        )
    tensors = {key: value for key, value in stored.items() if isinstance(key, str) and isinstance(value, Tensor)}
    return dict(clean_state_dict(tensors))


def _unpickled(file: str) -> Any:
    try:
        # Programs that train often add their arguments as a Namespace, which runs no code. Torch is given a stream,
        # since it takes files for safetensors by their names.
        with torch.serialization.safe_globals([Namespace]), open(file, "rb") as stream:
            return torch.load(stream, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        # The message advises its reader to allow code; only the name of what was met is of use here.
        names = [line for line in str(error).splitlines() if "GLOBAL" in line or "Unsupported" in line]
        raise UnpicklingError(names[0].strip().partition(" was not")[0] if names else "not allowed") from None


def _load_numpy(backbone: nn.Module, name: str, file: str) -> None:
    """Load an archive of NumPy arrays, whose names a few of timm's models know."""
    from timm.models import load_checkpoint

    try:
        load_checkpoint(backbone, file)
    except (NotImplementedError, RuntimeError, OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise SettingsError(f"model.weights {file!r} can't be loaded into {name!r}: {_brief(error)}") from None


def _check_fit(backbone: nn.Module, name: str, file: str, state: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are not the backbone's."""
    wanted = backbone.state_dict()
    # Files of old versions of torch count no batches, and nothing here needs the count.
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    if wanted.keys().isdisjoint(state):
        there = f"others, such as {_names(state)}" if state else "no tensor at all"
        raise SettingsError(
            f"model.weights {file!r} has no tensor of backbone {name!r}, which needs {_names(wanted)}: it holds "
            f"{there}; give weights of this backbone, or set model.backbone to theirs"
        )
    if missing:
        raise SettingsError(
            f"model.weights {file!r} lacks {len(missing)} of the {len(wanted)} tensors of backbone {name!r}: "
            f"{_names(missing)}; give weights of this backbone, or set model.backbone to theirs"
        )
    wrong = [key for key in wanted if key in state and _kind(state[key]) != _kind(wanted[key])]
    if wrong:
        key = wrong[0]
        raise SettingsError(
            f"model.weights {file!r} has {len(wrong)} tensors of another shape or type than backbone {name!r}: {key!r} "
            f"has {_kind_words(state[key])} in the file, and needs {_kind_words(wanted[key])}; give weights of this "
            "backbone, or set model.backbone to theirs"
        )


def _kind(tensor: Tensor) -> tuple[object, ...]:
    return tensor.shape, tensor.is_floating_point()


def _kind_words(tensor: Tensor) -> str:
    numbers = "numbers" if tensor.is_floating_point() else "whole numbers"
    return f"{'x'.join(map(str, tensor.shape)) or 1} {numbers}"


def _names(keys: Mapping[str, object] | list[str]) -> str:
    shown = [repr(textwrap.shorten(key, 80)) for key in list(keys)[:_SHOWN]]
    return ", ".join(shown) + (", ..." if len(keys) > _SHOWN else "")


def _brief(error: BaseException, length: int = 300) -> str:
    return textwrap.shorten(str(error) or type(error).__name__, length)
