"""Worker processes that make batches, or parts of them, ahead of their use and in the order they were asked for.

Each worker has a pipe of its own and gets every n-th task, so that order needs no bookkeeping, nothing is locked, and a
worker that loses its pipe ends by itself. (torch's DataLoader was tried first: with workers from a fork server it
hangs when a stream is left in mid-epoch, waiting for file descriptors from a worker that has gone.)
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator
from itertools import cycle
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pickle import PicklingError
from types import ModuleType
from typing import Any, Generic, TypeVar

from pipeline.errors import SettingsError, VclimbError

Task = TypeVar("Task")
Made = TypeVar("Made")
TASKS_PER_WORKER = 2
_JOIN_SECONDS = 5.0


def checked_workers(workers: int) -> int:
    """A number of worker processes.

    Raises:
        SettingsError: it is negative.
    """
    if workers < 0:
        raise SettingsError(f"workers {workers} is out of range; allowed: 0 or more")
    return workers


class WorkerDiedError(VclimbError):
    """A worker process ended without an answer, such as when the machine is out of memory."""


class BatchWorkers(Generic[Task, Made]):
    """Runs `make` on tasks in worker processes, `TASKS_PER_WORKER` ahead in each.

    Workers start with the first epoch and live until `close`. They come from a fork server that has imported
    this package, so that no thread or CUDA context of this process is ever forked.

    Args:
        make: from a task to what is wanted of it; all three are picklable.
        workers: processes; 0 makes everything in this one, when it is asked for.
    """

    def __init__(self, make: Callable[[Task], Made], workers: int) -> None:
        self._make = make
        self._n_workers = checked_workers(workers)
        self._workers: list[tuple[ForkServerProcess, Connection]] = []
        self._asked: deque[Connection] = deque()

    def run(self, tasks: Iterator[Task]) -> Generator[Made, None, None]:
        """What `make` gives for each task, in order.

        Raises:
            VclimbError: the one that `make` raised, or `WorkerDiedError`.
        """
        if self._n_workers == 0:
            yield from map(self._make, tasks)
            return
        self._start()
        turns = cycle(pipe for _, pipe in self._workers)
        try:
            while True:
                while len(self._asked) < TASKS_PER_WORKER * self._n_workers and (task := next(tasks, None)) is not None:
                    pipe = next(turns)
                    self._ask(pipe, task)
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

    def _ask(self, pipe: Connection, task: Task) -> None:
        try:
            pipe.send(task)
        except ConnectionError:
            raise self._died() from None
        except BaseException:  # interrupted in the middle of a task: the worker can't make sense of what follows
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
        context.set_forkserver_preload(["pipeline.batch_decoder"])
        for number in range(self._n_workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, self._make), name=f"clips-{number}", daemon=True)
            _start_process(process)
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


def _start_process(process: ForkServerProcess) -> None:
    """Start a process that doesn't run the program's main module again, as multiprocessing has it do otherwise.

    Nothing in there is needed, but each worker would import all that it imports: seconds for torch and timm, minutes
    where the files lie on a slow disk. And scripts would need a guard (`if __name__ == "__main__"`).
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        process.start()
    except (PicklingError, AttributeError):  # the provider is defined in the main module: then it is needed
        sys.modules["__main__"] = main
        process.start()
    finally:
        sys.modules["__main__"] = main


def _work(pipe: Connection, make: Callable[[Any], Any]) -> None:
    """A worker's life: a task in, an answer or an error out, until the other end of the pipe is closed."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that owns the stream
    torch.set_num_threads(1)
    while True:
        try:
            task = pipe.recv()
        except (EOFError, ConnectionError):
            return
        try:
            made = make(task)
        except Exception as error:  # it goes to the process that owns the stream
            made = error
        try:
            pipe.send(made)
        except (BrokenPipeError, ConnectionError):
            return
