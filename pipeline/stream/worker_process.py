"""One worker process of a stream: how it is started and ended, and what it does."""

from __future__ import annotations

import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.reduction import ForkingPickler
from pickle import PicklingError
from types import ModuleType
from typing import Any

_JOIN_SECONDS = 5.0


@dataclass(frozen=True)
class Worker:
    """A worker process.

    Attributes:
        process: The process.
        pipe: This process' end of the pipe.
        pending: Numbers of the tasks that are not answered yet, in order.
    """

    process: ForkServerProcess
    pipe: Connection
    pending: deque[int] = field(default_factory=deque)


@dataclass(frozen=True)
class Assignment:
    """Message that assigns a worker to a stream.

    Attributes:
        work: Function of the following tasks; None while the worker waits for another stream.
    """

    work: Callable[[Any], Any] | None


def start_worker(context: ForkServerContext, number: int, work: Callable[[Any], Any]) -> Worker:
    """Start a worker with a pipe of its own."""
    ours, theirs = context.Pipe()
    process = context.Process(target=_answer_tasks, args=(theirs, work), name=f"clips-{number}", daemon=True)
    _start_process(process)
    theirs.close()
    return Worker(process, ours)


def send(pipe: Connection, message: object) -> None:
    """Send a message as `pipe.send` does, but as a copy, not as a view of a buffer.

    Where the other end has died, the traceback of the error keeps the view, and both would be collected as a cycle:
    that crashes Python 3.12.1, and in later versions is an error that nobody can catch (gh-77894, gh-111331).
    """
    pipe.send_bytes(bytes(ForkingPickler.dumps(message)))


def end_workers(workers: Sequence[Worker]) -> None:
    """Close the workers' pipes, and wait for the processes; those that don't end are killed."""
    for worker in workers:
        worker.pipe.close()
    for worker in workers:
        worker.process.join(_JOIN_SECONDS)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def _start_process(process: ForkServerProcess) -> None:
    """Start a process that doesn't run the program's main module again, as multiprocessing has it do.

    The workers need nothing in there, but each would import all that the program imports: seconds for torch and timm,
    minutes from a slow disk. And scripts would need a guard (`if __name__ == "__main__"`).
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        process.start()
    except (PicklingError, AttributeError):  # the provider is defined in the main module, so the worker needs it
        sys.modules["__main__"] = main
        process.start()
    finally:
        sys.modules["__main__"] = main


def _answer_tasks(pipe: Connection, work: Callable[[Any], Any] | None) -> None:
    """Answer tasks until the other end of the pipe is closed. Runs in a worker."""
    os.environ["OMP_NUM_THREADS"] = "1"  # for what a codec or provider of the user imports: the workers share the cores
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it isn't blocked where another program started the fork server
    while True:
        try:
            message = pipe.recv()
        except (EOFError, ConnectionError):
            return
        except Exception as error:  # an assignment that can't be unpickled: each of its tasks is answered by the error
            message = Assignment(partial(_fail, error))
        if isinstance(message, Assignment):
            work = message.work
            continue
        try:
            assert work is not None, "a task was sent to a worker without an assignment"
            answer = work(message)
        except Exception as error:  # the main process raises it
            answer = error
        try:
            pipe.send(answer)
        except (BrokenPipeError, ConnectionError):
            return


def _fail(error: Exception, task: object) -> None:
    raise error
