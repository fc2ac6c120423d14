"""How many processor cores this process may use."""

from __future__ import annotations

import os

from vclimb.pipeline.errors import SettingsError


def available_cores() -> int:
    """Number of cores that this process may use, or of the machine's cores where the system doesn't tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def require_workers(workers: int | None) -> int:
    """`workers`, or one for each core where that is None. Raises a SettingsError where `workers` is less than 1."""
    if workers is not None and workers < 1:
        raise SettingsError(f"workers {workers} is out of range; allowed: 1 or more")
    return workers or available_cores()


def cores_of_rank(world_size: int, n_gpus: int) -> int:
    """Number of cores for one training process: the ranks of a machine share its cores.

    `n_gpus` is the number of GPUs of this machine; where it is 0, all training processes run on this machine.
    """
    return max(1, available_cores() // (min(world_size, n_gpus) if n_gpus else world_size))
