"""Worker processes that run tasks ahead of the use of their answers, which come in the order of the tasks.

Each worker has a pipe of its own, so that nothing is locked, and a worker that loses its pipe ends by itself. The next
task goes to the worker with the fewest tasks, so that a slow one (starting, or with a long video) delays no other.
Within `kept_workers`, the workers of a closed stream wait for the next stream: starting them takes longer than a short
pass over clips. (torch's DataLoader was tried first: with workers from a fork server it hangs when a stream is left in
mid-epoch, waiting for file descriptors from a worker that has ended.)
"""

from __future__ import annotations

import selectors
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from pickle import PicklingError
from typing import Any, Generic, TypeVar

from vclimb.pipeline.codecs.registry import own_modules
from vclimb.pipeline.errors import SettingsError, VclimbError
from vclimb.pipeline.stream.worker_process import Assignment, Worker, end_workers, send, start_worker
from vclimb.pipeline.system.child_processes import fork_server_context
from vclimb.pipeline.system.interrupts import interrupts_held
from vclimb.pipeline.system.open_files import open_files_explained

Task = TypeVar("Task")
Answer = TypeVar("Answer")
TASKS_PER_WORKER = 2


def checked_workers(workers: int) -> int:
    """Return a number of worker processes. Raises SettingsError where it is negative."""
    if workers < 0:
        raise SettingsError(f"workers {workers} is out of range; allowed: 0 or more")
    return workers


class WorkerDiedError(VclimbError, RuntimeError):
    """A worker process ended without an answer, such as when the machine is out of memory."""


_idle: list[Worker] | None = None  # workers that wait for a stream; None outside of `kept_workers`


@contextmanager
def kept_workers() -> Iterator[None]:
    """Keep the workers of closed streams for the next streams, until the block ends."""
    global _idle
    if _idle is not None:  # the outer block ends the workers
        yield
        return
    _idle = []
    try:
        yield
    finally:
        idle, _idle = _idle, None
        end_workers(idle)


def waiting_workers() -> int:
    """Number of workers that wait for a stream, which the next stream gets at hardly any cost."""
    return len(_idle or ())


def start_fork_server() -> None:
    """Start the server that workers are forked from, unless it runs. It imports what they need meanwhile.

    Raises:
        TooManyFilesError: The system opens no more files.
    """
    fork_server_context.set_forkserver_preload(["vclimb.pipeline.stream.batch_decoder", *own_modules()])
    with open_files_explained(), interrupts_held():  # workers inherit from the server that they get no Ctrl-C
        forkserver.ensure_running()


class BatchWorkers(Generic[Task, Answer]):
    """Runs a function on tasks in worker processes, `TASKS_PER_WORKER` ahead in each.

    Workers start with the first epoch and live until `close`, or longer within `kept_workers`. They come from a fork
    server that has imported what decoding needs, so that no thread or CUDA context of this process is ever forked.
    Ctrl-C reaches this process alone.

    Args:
        work: Function from a task to its answer. All three must be picklable.
        workers: Number of processes; 0 runs each task in this process, when its answer is taken.
    """

    def __init__(self, work: Callable[[Task], Answer], workers: int) -> None:
        self._work = work
        self._n_workers = checked_workers(workers)
        self._workers: list[Worker] = []
        # In a cycle that is collected, pipes may be finalised before the generator that waits for their answers, and it
        # would wait for ever. This keeps the pipes out of the cycle, and ends the workers before anything is finalised.
        weakref.finalize(self, _end_all, self._workers).atexit = False
        # Kept for the workers' life: `multiprocessing.connection.wait` makes one each time, which takes longer than
        # all the rest of an answer, while the training process waits.
        self._selector: selectors.BaseSelector | None = None

    def run(self, tasks: Iterator[Task], ahead: int | None = None) -> Generator[Answer, None, None]:
        """Yield the answers to all tasks in order, at most `ahead` tasks or `TASKS_PER_WORKER` tasks a worker ahead.

        Raises:
            TooManyFilesError: The system opens no more files for the workers' pipes.
            VclimbError: The error that the function raised, or `WorkerDiedError`.
        """
        if self._n_workers == 0:
            yield from map(self._work, tasks)
            return
        self._start()
        numbered = enumerate(tasks)
        answers: dict[int, Any] = {}
        n_taken, n_sent, ended = 0, 0, False
        most = TASKS_PER_WORKER * self._n_workers
        most = most if ahead is None else min(most, ahead)
        try:
            while True:
                while not ended and n_sent - n_taken < most:
                    if (task := next(numbered, None)) is None:
                        ended = True
                    else:
                        self._send_task(min(self._workers, key=lambda worker: len(worker.pending)), *task)
                        n_sent += 1
                if n_taken == n_sent:
                    return
                while n_taken not in answers:
                    answers.update(self._receive())
                answer = answers.pop(n_taken)
                n_taken += 1
                if isinstance(answer, Exception):
                    raise answer
                yield answer
        finally:
            while any(worker.pending for worker in self._workers):  # answers that are no longer needed
                with suppress(WorkerDiedError):
                    self._receive()

    def _send_task(self, worker: Worker, number: int, task: Task) -> None:
        try:
            send(worker.pipe, task)
        except ConnectionError:
            raise self._worker_died() from None
        except BaseException:  # interrupted in the middle of a task: the worker can't read what follows
            self._abandon()
            raise
        worker.pending.append(number)

    def _receive(self) -> dict[int, Any]:
        """Wait for at least one answer, and return the answers that are there by task number."""
        answers = {}
        assert self._selector is not None
        try:
            for key, _ in self._selector.select():
                worker: Worker = key.data
                answer = worker.pipe.recv()
                answers[worker.pending.popleft()] = answer
        except (EOFError, OSError):  # the latter where the worker ended in the middle of an answer
            raise self._worker_died() from None
        except BaseException:  # interrupted in the middle of an answer: the next one can't be told from its rest
            self._abandon()
            raise
        return answers

    def _worker_died(self) -> WorkerDiedError:
        self._abandon()
        return WorkerDiedError("a worker process that reads clips died; is the machine out of memory?")

    def _start(self) -> None:
        if self._workers:
            return
        try:
            start_fork_server()
            with open_files_explained():
                self._selector = selectors.DefaultSelector()
                for number in range(self._n_workers):
                    worker = _idle_worker(self._work) or start_worker(fork_server_context, number, self._work)
                    self._workers.append(worker)
                    self._selector.register(worker.pipe, selectors.EVENT_READ, worker)
        except BaseException:  # interrupted: else the next epoch would go on with the workers that are there
            self._abandon()
            raise

    def close(self) -> None:
        """End the workers, or let them wait for another stream. They start again with another epoch."""
        if _idle is not None:
            for worker in [worker for worker in self._workers if not worker.pending]:
                with suppress(ConnectionError):  # a dead worker is ended with the others
                    send(worker.pipe, Assignment(None))
                    self._workers.remove(worker)
                    _idle.append(worker)
        self._abandon()

    def _abandon(self) -> None:
        """End the workers in whatever state they are."""
        if self._selector is not None:
            self._selector.close()
            self._selector = None
        end_workers(self._workers)
        self._workers.clear()


def _end_all(workers: list[Worker]) -> None:
    end_workers(workers)
    workers.clear()


def _idle_worker(work: Callable[[Any], Any]) -> Worker | None:
    """Assign a waiting worker; None where a new one is needed."""
    while _idle:
        worker = _idle.pop()
        try:
            send(worker.pipe, Assignment(work))
        except ConnectionError:  # it has died meanwhile
            end_workers([worker])
        except (PicklingError, AttributeError):  # defined in the main module, which the worker didn't run
            _idle.append(worker)
            return None
        except BaseException:
            end_workers([worker])
            raise
        else:
            return worker
    return None
