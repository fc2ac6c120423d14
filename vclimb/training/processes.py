"""The processes of a run: one, or several that torchrun started, each with a GPU (NCCL) or on the cores (gloo)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from vclimb.pipeline.errors import SettingsError

# Others wait this long for rank 0, which encodes and writes the memory.
_TIMEOUT = timedelta(hours=2)
Value = TypeVar("Value")


@dataclass(frozen=True)
class Processes:
    """This process among those of a run.

    Attributes:
        rank: from 0; rank 0 writes the files.
        world_size: how many there are.
        device: of this one.
    """

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """A tensor, added up over processes, in place."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather(self, value: Value) -> list[Value]:
        """Everybody's value, by rank, on every process."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def from_first(self, value: Value | None) -> Value:
        """Rank 0's value, on every process. An error of rank 0 must be sent as a value, or all others wait for it."""
        if self.world_size > 1:
            values: list[Any] = [value]
            dist.broadcast_object_list(values, src=0)
            value = values[0]
        return value  # type: ignore[return-value]

    def copy_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Make rank 0's tensors every process's, in place."""
        if self.world_size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def barrier(self) -> None:
        """Wait for all."""
        if self.world_size > 1:
            dist.barrier()


def find_device(asked: str, local_rank: int = 0) -> torch.device:
    """The device of a process: `auto`, `cpu` or `cuda`.

    Raises:
        SettingsError: a GPU was asked for, and torch sees none for this process.
    """
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked == "cuda" and n_gpus <= local_rank:
        raise SettingsError(
            f"device cuda: torch sees {n_gpus} GPUs on this machine, and process {local_rank} needs one of its own; "
            "use cpu, auto, or fewer processes"
        )
    if asked != "cpu" and n_gpus > local_rank:
        return torch.device("cuda", local_rank)
    if asked == "auto" and n_gpus:
        raise SettingsError(
            f"process {local_rank} has no GPU: torch sees {n_gpus}; start as many processes as there are GPUs"
        )
    return torch.device("cpu")


@contextmanager
def joined(asked_device: str) -> Iterator[Processes]:
    """The processes that torchrun started this one with, or this one alone.

    Raises:
        SettingsError: the device isn't there.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = find_device(asked_device, local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world_size == 1 or "RANK" not in os.environ:
        yield Processes(0, 1, device)
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()
