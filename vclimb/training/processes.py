"""The processes of a run: one, or several that torchrun started, each with a GPU (NCCL) or on CPU cores (gloo)."""

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

# Other ranks wait this long for rank 0, which encodes and writes the memory.
_TIMEOUT = timedelta(hours=2)
Value = TypeVar("Value")


@dataclass(frozen=True)
class Processes:
    """This process among all processes of a run; rank 0 writes the files."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over ranks, in place."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather(self, value: Value) -> list[Value]:
        """Gather the value of every rank, in the order of ranks, on all ranks."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def broadcast(self, value: Value | None) -> Value:
        """Return rank 0's value on all ranks. Rank 0 must send its errors as values, or all other ranks wait."""
        if self.world_size > 1:
            values: list[Any] = [value]
            dist.broadcast_object_list(values, src=0)
            value = values[0]
        return value  # type: ignore[return-value]

    def broadcast_tensors(self, tensors: Iterable[Tensor]) -> None:
        """Broadcast rank 0's tensors to all ranks, in place."""
        if self.world_size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def barrier(self) -> None:
        if self.world_size > 1:
            dist.barrier()


@contextmanager
def distributed(device_name: str) -> Iterator[Processes]:
    """Join the processes that torchrun started with this one, or run alone; `find_device` says on which device."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = find_device(device_name, local_rank)
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


def find_device(name: str, local_rank: int = 0) -> torch.device:
    """Find the device of a process for `auto`, `cpu` or `cuda`; `local_rank` counts processes of a machine from 0."""
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cuda" and n_gpus <= local_rank:
        raise SettingsError(
            f"device cuda: torch sees {n_gpus} GPUs on this machine, and process {local_rank} needs one of its own; "
            "use cpu, auto, or fewer processes"
        )
    if name != "cpu" and n_gpus > local_rank:
        return torch.device("cuda", local_rank)
    if name == "auto" and n_gpus:
        raise SettingsError(
            f"process {local_rank} has no GPU: torch sees {n_gpus}; start as many processes as there are GPUs"
        )
    return torch.device("cpu")
