"""Worker processes that make batches, or parts of them, ahead of their use; what they make comes in the order asked.

Each worker has a pipe of its own, so that nothing is locked and a worker that loses its pipe ends by itself; the next
task goes to the one that has the fewest, so that a slow one (starting, or with a long video) keeps no other waiting.
Within `kept_workers`, those of a closed stream wait for the next one: starting them takes longer than a small pass over
clips. (torch's DataLoader was tried first: with workers from a fork server it hangs when a stream is left in mid-epoch,
waiting for file descriptors from a worker that has gone.)
"""

from __future__ import annotations

import multiprocessing
import selectors
import signal
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.reduction import ForkingPickler
from pickle import PicklingError
from types import ModuleType
from typing import Any, Generic, TypeVar

from vclimb.pipeline.errors import SettingsError, VclimbError
from vclimb.pipeline.system.interrupts import interrupts_held

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


@dataclass(frozen=True)
class _Worker:
    """A process, our end of its pipe, and the numbers of the tasks it has not answered yet."""

    process: ForkServerProcess
    pipe: Connection
    asked: deque[int] = field(default_factory=deque)


@dataclass(frozen=True)
class _Setup:
    """Tells a worker what to make from now on; None: nothing, while it waits for another stream."""

    make: Callable[[Any], Any] | None


_idle: list[_Worker] | None = None  # workers that wait for a stream; None: none are kept


@contextmanager
def kept_workers() -> Iterator[None]:
    """Within this block, workers whose stream is closed wait for the next stream, and end with the block."""
    global _idle
    if _idle is not None:  # a block within another: the outer one ends them
        yield
        return
    _idle = []
    try:
        yield
    finally:
        idle, _idle = _idle, None
        _end(idle)


def waiting_workers() -> int:
    """Workers that wait for a stream: the next one has that many at hardly any cost."""
    return len(_idle or ())


class BatchWorkers(Generic[Task, Made]):
    """Runs `make` on tasks in worker processes, `TASKS_PER_WORKER` ahead in each.

    Workers start with the first epoch and live until `close`, or longer within `kept_workers`. They come from a fork
    server that has imported this package, so that no thread or CUDA context of this process is ever forked. Ctrl-C is
    for this process alone.

    Args:
        make: from a task to what is wanted of it; all three are picklable.
        workers: processes; 0 makes everything in this one, when it is asked for.
    """

    def __init__(self, make: Callable[[Task], Made], workers: int) -> None:
        self._make = make
        self._n_workers = checked_workers(workers)
        self._workers: list[_Worker] = []
        # Kept for the workers' life: `multiprocessing.connection.wait` makes one each time, which takes longer than
        # all the rest of an answer, and it is the process that trains that waits.
        self._selector: selectors.BaseSelector | None = None

    def run(self, tasks: Iterator[Task]) -> Generator[Made, None, None]:
        """What `make` gives for each task, in order; at most `TASKS_PER_WORKER` a worker are ahead of what was taken.

        Raises:
            VclimbError: the one that `make` raised, or `WorkerDiedError`.
        """
        if self._n_workers == 0:
            yield from map(self._make, tasks)
            return
        self._start()
        numbered = enumerate(tasks)
        made: dict[int, Any] = {}
        n_taken, n_asked, ended = 0, 0, False
        try:
            while True:
                while not ended and n_asked - n_taken < TASKS_PER_WORKER * self._n_workers:
                    if (task := next(numbered, None)) is None:
                        ended = True
                    else:
                        self._ask(min(self._workers, key=lambda worker: len(worker.asked)), task)
                        n_asked += 1
                if n_taken == n_asked:
                    return
                while n_taken not in made:
                    made.update(self._answers())
                one = made.pop(n_taken)
                n_taken += 1
                if isinstance(one, Exception):
                    raise one
                yield one
        finally:
            while any(worker.asked for worker in self._workers):  # what was asked for and isn't wanted any more
                with suppress(WorkerDiedError):
                    self._answers()

    def _ask(self, worker: _Worker, task: tuple[int, Task]) -> None:
        try:
            _send(worker.pipe, task[1])
        except ConnectionError:
            raise self._died() from None
        except BaseException:  # interrupted in the middle of a task: the worker can't make sense of what follows
            self._abandon()
            raise
        worker.asked.append(task[0])

    def _answers(self) -> dict[int, Any]:
        """Number and answer of each task that is done; waits for one."""
        answers = {}
        assert self._selector is not None
        try:
            for key, _ in self._selector.select():
                worker: _Worker = key.data
                answer = worker.pipe.recv()
                answers[worker.asked.popleft()] = answer
        except (EOFError, OSError):  # the latter where it ended in the middle of an answer
            raise self._died() from None
        except BaseException:  # interrupted in the middle of an answer: the next one can't be told from its rest
            self._abandon()
            raise
        return answers

    def _died(self) -> WorkerDiedError:
        self._abandon()
        return WorkerDiedError("a worker process that reads clips died; is the machine out of memory?")

    def _start(self) -> None:
        if self._workers:
            return
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["vclimb.pipeline.stream.batch_decoder"])
        with interrupts_held():  # the workers get no Ctrl-C either: they inherit it from the server
            forkserver.ensure_running()
        self._selector = selectors.DefaultSelector()
        try:
            for number in range(self._n_workers):
                worker = _idle_worker(self._make) or self._started(context, number)
                self._workers.append(worker)
                self._selector.register(worker.pipe, selectors.EVENT_READ, worker)
        except BaseException:  # interrupted: else the next epoch would go on with those that there are
            self._abandon()
            raise

    def _started(self, context: ForkServerContext, number: int) -> _Worker:
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self._make), name=f"clips-{number}", daemon=True)
        _start_process(process)
        theirs.close()
        return _Worker(process, ours)

    def close(self) -> None:
        """End the workers, or let them wait for another stream. They start again if another epoch is run."""
        if _idle is not None:
            for worker in [worker for worker in self._workers if not worker.asked]:
                with suppress(ConnectionError):  # one that has died is ended with the others
                    _send(worker.pipe, _Setup(None))
                    self._workers.remove(worker)
                    _idle.append(worker)
        self._abandon()

    def _abandon(self) -> None:
        """End the workers, whatever they are doing."""
        if self._selector is not None:
            self._selector.close()
            self._selector = None
        _end(self._workers)
        self._workers.clear()


def _idle_worker(make: Callable[[Any], Any]) -> _Worker | None:
    """A worker that waits, and has been told what to make; None: a new one is needed."""
    while _idle:
        worker = _idle.pop()
        try:
            _send(worker.pipe, _Setup(make))
        except ConnectionError:  # it has died meanwhile
            _end([worker])
        except (PicklingError, AttributeError):  # defined in the main module, which it didn't run
            _idle.append(worker)
            return None
        except BaseException:
            _end([worker])
            raise
        else:
            return worker
    return None


def _send(pipe: Connection, what: object) -> None:
    """As `pipe.send`, but for what the frames of an error hold on to: a copy, not a view of a buffer.

    Where the other end has died, the error and the view would be collected as a cycle, which crashes Python 3.12.1, and
    in later ones is an error that nobody can catch (CPython's gh-77894, gh-111331).
    """
    pipe.send_bytes(bytes(ForkingPickler.dumps(what)))


def _end(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.pipe.close()
    for worker in workers:
        worker.process.join(_JOIN_SECONDS)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


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


def _work(pipe: Connection, make: Callable[[Any], Any] | None) -> None:
    """A worker's life: a task in, an answer or an error out, until the other end of the pipe is closed."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it isn't blocked where somebody else started the fork server
    torch.set_num_threads(1)
    while True:
        try:
            task = pipe.recv()
        except (EOFError, ConnectionError):
            return
        except Exception as error:  # what it is to make can't be unpickled: it says so when it is asked for something
            task = _Setup(partial(_fail, error))
        if isinstance(task, _Setup):
            make = task.make
            continue
        try:
            assert make is not None, "a worker that waits for a stream was given a task"
            made = make(task)
        except Exception as error:  # it goes to the process that owns the stream
            made = error
        try:
            pipe.send(made)
        except (BrokenPipeError, ConnectionError):
            return


def _fail(error: Exception, task: object) -> None:
    raise error
