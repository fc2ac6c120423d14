"""The plain values of a run's checkpoint, checked when a run is resumed, and the border for its tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from vclimb.pipeline.errors import VclimbError
from vclimb.pipeline.stream.clip_stream import ClipStream
from vclimb.training.checkpoint import CheckpointError, checkpoints
from vclimb.training.figures import Count, Phases, Text
from vclimb.training.run_context import RunContext, TaskState

TRAIN, MEMORY, COMPLETE = "train", "memory", "complete"
_MAX_SHOWN = 300  # characters of a message
# What code that restores a state may raise where the state is another one's.
_MISFITS = (KeyError, ValueError, TypeError, IndexError, AttributeError, RuntimeError, OverflowError, VclimbError)


class _Stored(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class StreamPosition(_Stored):
    """Place in the training clips of a task: an epoch, and a batch of it."""

    epoch: Count
    position: Count


class StoredState(_Stored):
    """Plain values of a checkpoint. Others in the tree, such as the network, are checked where they are restored.

    Attributes:
        data: Digest of the videos, classes and instances that the run trains on.
        task: Number of the task that is under way, from 0.
        phase: Phase that is resumed.
        stream: Place in the training clips; None before training begins.
        replayed: Number of exemplars that are trained on.
        steps: Number of training steps of the task so far.
        skipped: Number of clips of the task that were replaced, since their bytes are damaged.
        taken_from: Beginning that the task's training was taken from; None: this run trains the task.
        seconds: Phase -> wall time.
    """

    data: str
    task: Count
    phase: Literal["train", "memory", "complete"]
    stream: StreamPosition | None
    replayed: Count
    steps: Count
    skipped: Count
    taken_from: Text | None
    seconds: Phases


def state_tree(run: RunContext, state: TaskState, phase: str, stream: ClipStream | None) -> dict[str, Any]:
    """Make the tree of a checkpoint, without the random state and what was measured.

    Args:
        phase: Phase that a resumed run begins with.
        stream: Stream of the task's clips, within its training.
    """
    position = None if stream is None else stream.state_dict()
    return {
        "data": run.data.digest,
        "task": state.info.number,
        "phase": phase,
        "stream": position and {"epoch": position["epoch"], "position": position["position"]},
        "replayed": state.replayed,
        "steps": state.steps,
        "skipped": state.skipped + (0 if stream is None else stream.skipped),
        "taken_from": state.taken_from,
        "seconds": state.clock.seconds,
        "best": state.best,
        "method": {} if phase == COMPLETE else run.method.state_dict(),
        **run.learner.state_dict(with_optimizer=stream is not None),
    }


@contextmanager
def restoring(folder: Path) -> Iterator[None]:
    """Turn the errors of a block that restores the newest checkpoint of a folder into a `CheckpointError`.

    A checkpoint that is not damaged may still be one of another network, another method, or other code.
    """
    try:
        yield
    except (CheckpointError, torch.OutOfMemoryError):
        raise
    except _MISFITS as error:
        newest = checkpoints(folder)[-1:]
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:_MAX_SHOWN]
        raise CheckpointError(
            f"the checkpoint {newest[0] if newest else folder} does not fit this run ({reason}); delete it, and "
            "--resume goes on from the one before, or begins anew where there is none"
        ) from None


def check_optimizer(state: Mapping[str, Any], parameters: Iterable[nn.Parameter]) -> None:
    """Refuse the state of an optimiser whose tensors don't fit its parameters, in their order, by a ValueError."""
    for number, parameter in enumerate(parameters):
        for name, value in state["state"].get(number, {}).items():
            if isinstance(value, torch.Tensor) and value.ndim and value.shape != parameter.shape:
                raise ValueError(
                    f"{name} of parameter {number} has the shape {tuple(value.shape)}, not {tuple(parameter.shape)}"
                )
