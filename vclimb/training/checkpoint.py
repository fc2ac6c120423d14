"""Checkpoints: what a run needs to go on, in one safetensors file each. Loading one executes no code.

A file holds a tree of dicts and lists: its tensors as tensors, all else as JSON in the file's metadata. It is written
beside its place and renamed after the last byte is synced, so that a kill leaves the one before.
"""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from vclimb.pipeline.errors import VclimbError
from vclimb.pipeline.system.durable import move_synced
from vclimb.pipeline.system.folders import writable

log = logging.getLogger(__name__)

KEPT = 2
"""Checkpoints of a run: the newest, and one before in case that is damaged."""

_NAME = re.compile(r"checkpoint-(\d{6,})\.safetensors")
_TENSOR = "tensor:"
_STATE = "state"


class CheckpointError(VclimbError, ValueError):
    """A checkpoint is missing, or isn't as it was written."""


def save_checkpoint(folder: Path, step: int, tree: dict[str, Any], kept: int | None = None) -> Path:
    """Write the checkpoint of a step, and remove all but the newest.

    Args:
        folder: of the run's checkpoints.
        step: a number that grows.
        tree: of dicts with text keys, lists, tensors, numbers, text, booleans and None.
        kept: checkpoints that are left, this one included; None: `KEPT`.

    Returns:
        the file.

    Raises:
        TargetError: the disk is full, or the like; the checkpoints that were there are.
        TypeError: the tree holds something else.
    """
    tensors: dict[str, torch.Tensor] = {}
    state = json.dumps(_packed(tree, tensors), allow_nan=True)
    path = folder / f"checkpoint-{step:06d}.safetensors"
    draft = path.with_suffix(".new")
    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, draft, {_STATE: state})
        move_synced(draft, path)
        for old in checkpoints(folder)[: -(KEPT if kept is None else kept)]:
            old.unlink(missing_ok=True)
        for stray in folder.glob("checkpoint-*.new"):
            stray.unlink(missing_ok=True)
    return path


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    found = [(int(match[1]), path) for path in folder.glob("*") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The tree that was saved, its tensors on a device.

    Raises:
        CheckpointError: it isn't there, is damaged, or is no checkpoint of ours.
    """
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 # it is no dict
        tree = _unpacked(json.loads(metadata[_STATE]), tensors)
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}") from None
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"the checkpoint {path} is damaged: {type(error).__name__}: {error}") from None
    if not isinstance(tree, dict):
        raise CheckpointError(f"the checkpoint {path} is damaged: it holds a {type(tree).__name__}")
    return tree


def newest_checkpoint(folder: Path, device: torch.device | str = "cpu") -> dict[str, Any] | None:
    """The newest checkpoint that can be read; None if there is none at all.

    Raises:
        CheckpointError: there are some, and none of them can be read.
    """
    errors = []
    for path in reversed(checkpoints(folder)):
        try:
            return load_checkpoint(path, device)
        except CheckpointError as error:
            log.warning("%s; trying the one before", error)
            errors.append(str(error))
    if errors:
        raise CheckpointError(f"no checkpoint in {folder} can be read; {errors[0]}")
    return None


def _packed(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """A tree as JSON, its tensors moved out. A number as a key is marked, as JSON only has text."""
    if isinstance(value, torch.Tensor):
        name = f"{len(tensors):06d}"
        # A copy: safetensors takes no tensors that share memory.
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return _TENSOR + name
    if isinstance(value, dict):
        return {"dict": [[_key(key), _packed(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_packed(item, tensors) for item in value]
    if isinstance(value, str):
        return "text:" + value
    if value is None or isinstance(value, bool | int | float):
        return value
    raise TypeError(f"a checkpoint takes no {type(value).__name__}: {value!r}")


def _key(key: Any) -> str | int:
    if isinstance(key, str | int) and not isinstance(key, bool):
        return key
    raise TypeError(f"a checkpoint takes text and whole numbers as keys, not {key!r}")


def _unpacked(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, str):
        kind, _, rest = value.partition(":")
        return tensors[rest] if kind + ":" == _TENSOR else rest
    if isinstance(value, dict):
        return {key: _unpacked(item, tensors) for key, item in value["dict"]}
    if isinstance(value, list):
        return [_unpacked(item, tensors) for item in value]
    return value
