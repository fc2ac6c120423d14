"""Worker processes that make batches ahead of their use: torch's DataLoader, with plans as its indices.

Batches come in the order of their plans however many workers there are. What a worker makes travels by shared memory.
An error comes back as a value, so that it is raised as itself and not wrapped in a worker's traceback.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import torch.utils.data

from pipeline.errors import SettingsError, VclimbError
from pipeline.stream import BatchPlan

Made = TypeVar("Made")
BATCHES_PER_WORKER = 2


class _Maker(torch.utils.data.Dataset[Any]):
    """What a worker holds: the function that makes a batch of a plan."""

    def __init__(self, make: Callable[[BatchPlan], Any]) -> None:
        self._make = make

    def __getitem__(self, plan: BatchPlan) -> Any:  # type: ignore[override] # a plan is our index
        try:
            return self._make(plan)
        except VclimbError as error:
            return error


class _Plans(torch.utils.data.Sampler[BatchPlan]):
    """The plans of the epoch that runs now."""

    def __init__(self) -> None:
        self.plans: Iterator[BatchPlan] = iter(())

    def __iter__(self) -> Iterator[BatchPlan]:
        return self.plans


class BatchWorkers(Generic[Made]):
    """Runs `make` on plans in worker processes, at most `BATCHES_PER_WORKER` ahead in each.

    Workers start with the first epoch and live until `close`. They come from a fork server that has imported
    this package, so that a thread or a CUDA context of this process is never forked.

    Args:
        make: from a plan to a batch of tensors; must be picklable.
        workers: processes; 0 makes batches in this one, when they are asked for.
        pin_memory: copy tensors into pinned memory, for a GPU to fetch.
    """

    def __init__(self, make: Callable[[BatchPlan], Made], workers: int, pin_memory: bool = False) -> None:
        if workers < 0:
            raise SettingsError(f"workers {workers} is out of range; allowed: 0 or more")
        self._plans = _Plans()
        context = None
        if workers:
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload(["pipeline.cpu_stream"])
        self._loader = torch.utils.data.DataLoader(
            _Maker(make),
            batch_size=None,
            sampler=self._plans,
            num_workers=workers,
            prefetch_factor=BATCHES_PER_WORKER if workers else None,
            persistent_workers=workers > 0,
            multiprocessing_context=context,
            pin_memory=pin_memory,
        )

    def run(self, plans: Iterator[BatchPlan]) -> Iterator[Made]:
        """What `make` gives for each plan, in order.

        Raises:
            VclimbError: the one that `make` raised.
        """
        self._plans.plans = plans
        for made in self._loader:
            if isinstance(made, VclimbError):
                raise made
            yield made

    def close(self) -> None:
        """End the workers."""
        iterator = getattr(self._loader, "_iterator", None)
        if iterator is not None and hasattr(iterator, "_shutdown_workers"):
            iterator._shutdown_workers()
        self._loader._iterator = None
