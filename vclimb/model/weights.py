"""Backbones with pretrained weights, weights from a file, or none."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pickle import UnpicklingError

from safetensors import SafetensorError
from torch import nn

from vclimb.pipeline.errors import SettingsError


def make_backbone(name: str, weights: str, make: Callable[[bool], nn.Module]) -> nn.Module:
    """Make a backbone and load its weights.

    Args:
        weights: `pretrained`, `none`, or the path of a file: safetensors, or a state dict saved by torch.
        make: Makes the backbone without a classifier; its argument says whether to download the pretrained weights.

    Raises:
        SettingsError: the backbone can't be made, or the weights can't be loaded.
    """
    try:
        backbone = make(weights == "pretrained")
        if weights not in ("pretrained", "none"):
            _load(backbone, weights)
    except SettingsError:
        raise
    except (RuntimeError, OSError, ValueError, EOFError, UnpicklingError, SafetensorError) as error:
        reason = textwrap.shorten(str(error), 300)
        hint = "; without a network, give the path of their file, or none" if weights == "pretrained" else ""
        raise SettingsError(f"backbone {name!r} with weights {weights!r} can't be made: {reason}{hint}") from None
    return backbone


def _load(backbone: nn.Module, file: str) -> None:
    """Load all weights of a backbone. Other tensors in the file, such as a classifier's, are ignored."""
    import timm.models  # Takes seconds, which runs without files needn't spend.

    keys = timm.models.load_checkpoint(backbone, file, strict=False)
    if keys is not None and keys.missing_keys:  # None: a NumPy file, which the backbone has read by itself
        raise ValueError(f"{len(keys.missing_keys)} of its tensors are not in the file, {keys.missing_keys[0]!r} first")
