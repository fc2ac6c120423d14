"""How many processor cores this process may use."""

from __future__ import annotations

import os

from vclimb.pipeline.errors import SettingsError


def available_cores() -> int:
    """Cores that a scheduler or `taskset` leaves this process; all of the machine's where the system can't say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def require_workers(workers: int | None) -> int:
    """A number of worker processes: `workers`, or one for each core where that is None.

    Raises:
        SettingsError: `workers` is less than 1.
    """
    if workers is not None and workers < 1:
        raise SettingsError(f"workers {workers} is out of range; allowed: 1 or more")
    return workers or available_cores()


def cores_of_rank(world_size: int, n_gpus: int) -> int:
    """Cores for one of the processes that train together: those of a machine are shared by the ranks on its GPUs.

    Args:
        world_size: processes, on all machines.
        n_gpus: of this machine; 0: all processes are taken to be on this machine.
    """
    return max(1, available_cores() // (min(world_size, n_gpus) if n_gpus else world_size))
