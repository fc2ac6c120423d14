"""Checkpoints: the state that a run needs to go on, one safetensors file each. Loading one executes no code.

A file holds a tree of dicts and lists: tensors as tensors, all other values as JSON in the file's metadata. A file is
written under another name and renamed after its last byte is synced, so that a kill leaves the previous checkpoint.
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

_NAME = re.compile(r"checkpoint-(\d{6,})\.safetensors")
_TENSOR = "tensor:"
_STATE = "state"


class CheckpointError(VclimbError, ValueError):
    """A checkpoint is missing, damaged, or belongs to other data."""


def save_checkpoint(folder: Path, step: int, tree: dict[str, Any], kept: int = 2) -> Path:
    """Write a checkpoint, and remove all but the newest.

    Args:
        step: Number of the checkpoint, greater than all before.
        tree: Dicts with keys of text or whole numbers, lists, tensors, numbers, text, booleans and None.
        kept: Number of checkpoints to keep, this one included; the one before serves where the newest is damaged.

    Raises:
        TargetError: the file can't be written, as on a full disk; earlier checkpoints stay.
        TypeError: the tree holds another type.
    """
    tensors: dict[str, torch.Tensor] = {}
    state = json.dumps(_packed(tree, tensors), allow_nan=True)
    path = folder / f"checkpoint-{step:06d}.safetensors"
    draft = path.with_suffix(".new")
    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, draft, {_STATE: state})
        move_synced(draft, path)
        for old in checkpoints(folder)[:-kept]:
            old.unlink(missing_ok=True)
        for stray in folder.glob("checkpoint-*.new"):
            stray.unlink(missing_ok=True)
    return path


def checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints of a run, oldest first."""
    numbered = [(int(match[1]), path) for path in folder.glob("*") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(numbered)]


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Load the tree of a checkpoint, with its tensors on the CPU; errors are CheckpointErrors."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # `file` is no dict
        tree = _unpacked(json.loads(metadata[_STATE]), tensors)
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}") from None
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"the checkpoint {path} is damaged: {type(error).__name__}: {error}") from None
    if not isinstance(tree, dict):
        raise CheckpointError(f"the checkpoint {path} is damaged: it holds a {type(tree).__name__}")
    return tree


def newest_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Load the newest checkpoint that can be read; None if there is none, an error if none can be read."""
    errors = []
    for path in reversed(checkpoints(folder)):
        try:
            return load_checkpoint(path)
        except CheckpointError as error:
            log.warning("%s; trying the one before", error)
            errors.append(str(error))
    if errors:
        raise CheckpointError(f"no checkpoint in {folder} can be read; {errors[0]}")
    return None


def _packed(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Convert a tree to JSON and move its tensors to `tensors`. Dicts become lists of pairs."""
    if isinstance(value, torch.Tensor):
        name = f"{len(tensors):06d}"
        # Cloned, since safetensors takes no tensors that share memory.
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


def rng_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Read the states of torch's random number generators, which dropout draws from: the CPU's and the device's."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_rng_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    """Restore states that `rng_state` returned. A state saved without a GPU leaves the GPU's generator as it is."""
    torch.set_rng_state(state["cpu"].cpu())
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
