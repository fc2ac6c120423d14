"""Worker processes that make batches ahead of their use, in the order of their plans.

Each worker has a pipe of its own and gets every n-th plan, so that order needs no bookkeeping, nothing is locked, and a
worker that loses its pipe ends by itself. (torch's DataLoader was tried first: with workers from a fork server it
hangs when a stream is left in mid-epoch, waiting for file descriptors from a worker that has gone.)
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator
from itertools import cycle
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any, Generic, TypeVar

from pipeline.errors import SettingsError, VclimbError
from pipeline.stream import BatchPlan

Made = TypeVar("Made")
PLANS_PER_WORKER = 2
_JOIN_SECONDS = 5.0


class WorkerDiedError(VclimbError):
    """A worker process ended without an answer, such as when the machine is out of memory."""


class BatchWorkers(Generic[Made]):
    """Runs `make` on plans in worker processes, `PLANS_PER_WORKER` ahead in each.

    Workers start with the first epoch and live until `close`. They come from a fork server that has imported
    this package, so that no thread or CUDA context of this process is ever forked.

    Args:
        make: from a plan to a batch of numpy arrays; it and the batch are picklable.
        workers: processes; 0 makes batches in this one, when they are asked for.
    """

    def __init__(self, make: Callable[[BatchPlan], Made], workers: int) -> None:
        if workers < 0:
            raise SettingsError(f"workers {workers} is out of range; allowed: 0 or more")
        self._make = make
        self._n_workers = workers
        self._workers: list[tuple[ForkServerProcess, Connection]] = []
        self._asked: deque[Connection] = deque()

    def run(self, plans: Iterator[BatchPlan]) -> Generator[Made, None, None]:
        """What `make` gives for each plan, in order.

        Raises:
            VclimbError: the one that `make` raised, or `WorkerDiedError`.
        """
        if self._n_workers == 0:
            yield from map(self._make, plans)
            return
        self._start()
        turns = cycle(pipe for _, pipe in self._workers)
        try:
            while True:
                while len(self._asked) < PLANS_PER_WORKER * self._n_workers and (plan := next(plans, None)) is not None:
                    pipe = next(turns)
                    self._ask(pipe, plan)
                    self._asked.append(pipe)
                if not self._asked:
                    return
                made = self._answer()
                if isinstance(made, Exception):
                    raise made
                yield made
        finally:
            while self._asked:  # what was asked for and isn't wanted any more
                self._answer()

    def _ask(self, pipe: Connection, plan: BatchPlan) -> None:
        try:
            pipe.send(plan)
        except ConnectionError:
            raise self._died() from None
        except BaseException:  # interrupted in the middle of a plan: the worker can't make sense of what follows
            self.close()
            raise

    def _answer(self) -> Any:
        try:
            return self._asked.popleft().recv()
        except (EOFError, ConnectionError):
            return self._died()
        except BaseException:  # interrupted in the middle of an answer: the next one can't be told from its rest
            self.close()
            raise

    def _died(self) -> WorkerDiedError:
        self.close()
        return WorkerDiedError("a worker process that reads clips died; is the machine out of memory?")

    def _start(self) -> None:
        if self._workers:
            return
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["pipeline.cpu_stream"])
        for number in range(self._n_workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, self._make), name=f"clips-{number}", daemon=True)
            process.start()
            theirs.close()
            self._workers.append((process, ours))

    def close(self) -> None:
        """End the workers. They start again if another epoch is run."""
        self._asked.clear()
        for _, pipe in self._workers:
            pipe.close()
        for process, _ in self._workers:
            process.join(_JOIN_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
        self._workers.clear()


def _work(pipe: Connection, make: Callable[[BatchPlan], Any]) -> None:
    """A worker's life: a plan in, a batch or an error out, until the other end of the pipe is closed."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that owns the stream
    torch.set_num_threads(1)
    while True:
        try:
            plan = pipe.recv()
        except (EOFError, ConnectionError):
            return
        try:
            made = make(plan)
        except Exception as error:  # it goes to the process that owns the stream
            made = error
        try:
            pipe.send(made)
        except (BrokenPipeError, ConnectionError):
            return
