"""Checkpoints: the state that a run needs to go on, one safetensors file each. Loading one executes no code.

A file holds a tree of dicts and lists: tensors as tensors, all other values as JSON in the file's metadata, with a
digest of both. A file is written under another name and renamed after its last byte is synced, so that a kill leaves
the previous checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from vclimb.pipeline.errors import VclimbError
from vclimb.pipeline.system.durable import move_synced
from vclimb.pipeline.system.folders import writable

log = logging.getLogger(__name__)

_NAME = re.compile(r"checkpoint-(\d{6,20})\.safetensors")
_TENSOR, _TEXT, _FLOAT = "tensor", "text", "float"
_STATE, _DIGEST, _FORMAT = "state", "digest", "format"
_FORMAT_NAME = "vclimb-checkpoint 4"
_MAX_SHOWN = 300  # characters of a message
_SYSTEM_ERROR = re.compile(r"os error (\d+)")


class CheckpointError(VclimbError, ValueError):
    """A checkpoint is missing, damaged, or belongs to other data."""


def save_checkpoint(folder: Path, step: int, tree: dict[str, Any], kept: int = 2) -> Path:
    """Write a checkpoint, and remove all but the newest. The folder of the run must be there.

    Args:
        step: Number of the checkpoint, greater than all before.
        tree: Dicts with keys of text or whole numbers, lists, tensors, numbers, text, booleans and None.
        kept: Number of checkpoints to keep, this one included; the one before serves where the newest is damaged.

    Raises:
        TargetError: the file can't be written, as on a full disk; earlier checkpoints stay.
        TypeError: the tree holds another type.
    """
    path = folder / f"checkpoint-{step:06d}.safetensors"
    with writable(folder):
        folder.mkdir(exist_ok=True)
        write_tree(path, tree)
    keep_newest(folder, kept)
    return path


def write_tree(path: Path, tree: dict[str, Any]) -> None:
    """Write the file of a tree, whole or not at all, for `load_checkpoint`; an OSError where it can't be written."""
    tensors: dict[str, torch.Tensor] = {}
    state = json.dumps(_packed(tree, tensors), allow_nan=False)
    draft = path.with_suffix(".new")
    try:
        _write(draft, tensors, {_FORMAT: _FORMAT_NAME, _STATE: state, _DIGEST: _digest(state, tensors)})
        move_synced(draft, path)
    except OSError:
        draft.unlink(missing_ok=True)  # which gives a full disk its space back
        raise


def keep_newest(folder: Path, kept: int) -> None:
    """Remove all but the newest checkpoints of a run, and what a kill left half written."""
    with writable(folder):
        for old in [*checkpoints(folder)[:-kept], *folder.glob("checkpoint-*.new")]:
            old.unlink(missing_ok=True)


def checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints of a run, oldest first."""
    numbered = [(int(match[1]), path) for path in folder.glob("*") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(numbered)]


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Load the tree of a checkpoint, with its tensors on the CPU; errors are CheckpointErrors."""
    if not path.exists():
        raise CheckpointError(f"there is no checkpoint {path}")
    if not path.is_file():
        raise _damaged(path, "it is not a regular file")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            if metadata.get(_FORMAT) != _FORMAT_NAME:
                found = repr(metadata.get(_FORMAT, "none"))[:_MAX_SHOWN]
                raise _damaged(path, f"its format is {found}, and this version of vclimb reads {_FORMAT_NAME!r}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # `file` is no dict
        state = metadata[_STATE]
        if _digest(state, tensors) != metadata[_DIGEST]:
            raise _damaged(path, "its content has changed since it was written")
        tree = _unpacked(json.loads(state, parse_constant=_refuse_constant), tensors)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RecursionError, MemoryError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise _damaged(path, f"{type(error).__name__}: {error}"[:_MAX_SHOWN]) from None
    if not isinstance(tree, dict):
        raise _damaged(path, f"it holds a {type(tree).__name__}")
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
        raise CheckpointError(
            f"no checkpoint in {folder} can be read; {errors[0]}; train the run anew in another folder, or delete "
            "these checkpoints and the memory beside them"
        )
    return None


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"the checkpoint {path} is damaged: {reason}")


def _write(draft: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    try:
        save_file(tensors, draft, metadata)
    except SafetensorError as error:
        # Errors of the system come as text.
        if number := _SYSTEM_ERROR.search(str(error)):
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(draft)) from None
        raise


def _digest(state: str, tensors: Mapping[str, torch.Tensor]) -> str:
    """Compute the SHA-256 of a state and its tensors: names, types, shapes and bytes."""
    digest = hashlib.sha256(state.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if tensor.numel():
            digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _packed(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Convert a tree to JSON and move its tensors to `tensors`. Dicts become lists of pairs."""
    if isinstance(value, torch.Tensor):
        name = f"{len(tensors):06d}"
        # Cloned, since safetensors takes no tensors that share memory.
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return f"{_TENSOR}:{name}"
    if isinstance(value, dict):
        return {"dict": [[_key(key), _packed(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_packed(item, tensors) for item in value]
    if isinstance(value, str):
        return f"{_TEXT}:{value}"
    if isinstance(value, float) and not math.isfinite(value):  # JSON has no NaN
        return f"{_FLOAT}:{value}"
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
        if kind == _TENSOR:
            return tensors[rest]
        if kind == _FLOAT:
            return float(rest)
        if kind == _TEXT:
            return rest
        raise ValueError(f"no kind of value is named {kind[:_MAX_SHOWN]!r}")
    if isinstance(value, dict):
        return {key: _unpacked(item, tensors) for key, item in value["dict"]}
    if isinstance(value, list):
        return [_unpacked(item, tensors) for item in value]
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"JSON has no {name}")


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
