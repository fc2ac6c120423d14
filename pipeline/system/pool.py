"""Worker processes for prepare and verify: they outlive a crash or a hang of one call, and end with this process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

from pebble import ProcessExpired, ProcessPool

from vclimb.pipeline.errors import WorkersStoppedError
from vclimb.pipeline.system.child_processes import spawn_context
from vclimb.pipeline.system.interrupts import interrupts_held
from vclimb.pipeline.system.parent import STOPPED, die_with_parent

Key = TypeVar("Key")
Result = TypeVar("Result")

_IN_FLIGHT_PER_WORKER = 2
# Longest wait at the end for workers that are still starting.
_START_SECONDS = 10.0
# How often the pool checks that its workers are alive while it waits for a result.
_CHECK_SECONDS = 1.0


@dataclass(frozen=True)
class Call(Generic[Key, Result]):
    key: Key  # Name of the call for the caller.
    function: Callable[..., Result]  # Module-level function, since it is pickled.
    arguments: tuple[Any, ...]  # Positional arguments.
    timeout_seconds: float | None = None  # Time after which the worker is killed. None: no limit.


@dataclass(frozen=True)
class LostCall:
    timed_out: bool  # Whether the worker was killed because the call's time was over; otherwise the worker died.
    reason: str  # How the worker ended.


class WorkerPool:
    """Worker processes that are started by the first calls, reused by later ones, and stopped by `close`.

    At most `workers` processes run at a time. Each runs `initialize` with its arguments first.
    """

    def __init__(
        self, workers: int, initialize: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()
    ) -> None:
        self.workers = workers
        self._initialize = (initialize, arguments)
        self._pool: ProcessPool | None = None
        self._size = 0

    def run(
        self, calls: deque[Call[Key, Result]]
    ) -> Generator[tuple[Call[Key, Result], Result | LostCall], None, None]:
        """Run calls, to which the caller may add while it takes results. Closing the generator stops the workers.

        Yields:
            Each call with its result, in any order.

        Raises:
            WorkersStoppedError: The workers were ended from outside, such as by a scheduler's SIGTERM.
            Exception: Any exception that a call raised.
        """
        if not calls:
            return
        try:
            pool = self._started(min(self.workers, len(calls)))
            pending: dict[Future[Result], Call[Key, Result]] = {}
            while calls or pending:
                while calls and len(pending) < self.workers * _IN_FLIGHT_PER_WORKER:
                    call = calls.popleft()
                    try:
                        scheduled: Future[Result] = pool.schedule(
                            call.function, args=call.arguments, timeout=call.timeout_seconds
                        )
                    except RuntimeError:  # the pool broke since the last check
                        raise WorkersStoppedError from None
                    pending[scheduled] = call
                for future in _wait_for_any(pool, pending):
                    call, outcome = pending.pop(future), _result(future)
                    yield call, outcome
        except BaseException:
            self.close()
            raise

    def _started(self, size: int) -> ProcessPool:
        """The running pool, or a new one where that has less than `size` workers."""
        if self._pool is None or self._size < size:
            self.close()
            self._other_children = {child.pid for child in multiprocessing.active_children()}
            self._ready, self._report = spawn_context.Pipe(duplex=False)
            initargs = (self._report, *self._initialize)
            self._pool = ProcessPool(size, initializer=_start_worker, initargs=initargs, context=spawn_context)
            self._size = size
            with interrupts_held():
                _ = self._pool.active  # starts the workers, and the threads that start further ones
        return self._pool

    def close(self) -> None:
        """Stop the workers at once. Later calls start new ones."""
        if self._pool is None:
            return
        pool, self._pool = self._pool, None
        try:
            pool.stop()  # type: ignore[no-untyped-call]
        finally:
            _wait_for_starting(self._ready, self._other_children)
            pool.join()
            self._ready.close()
            self._report.close()


def _start_worker(report: Connection, initialize: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    """Make a new worker end with this run and leave Ctrl-C to it, then report that it is ready."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(STOPPED))
    parent = multiprocessing.parent_process()
    die_with_parent(parent=parent.pid if parent else None)
    if initialize is not None:
        initialize(*arguments)
    report.send(os.getpid())


def _wait_for_any(pool: ProcessPool, pending: dict[Future[Result], Call[Key, Result]]) -> set[Future[Result]]:
    """Wait for finished futures, at least one. A pool that breaks forgets the calls it had not handed out."""
    while True:
        done = wait(pending, timeout=_CHECK_SECONDS, return_when=FIRST_COMPLETED).done
        if done:
            return done
        if not pool.active:
            raise WorkersStoppedError


def _result(future: Future[Result]) -> Result | LostCall:
    """The result of a finished call.

    A scheduler that stops a job may signal the workers before this process, so a worker that SIGTERM ended stops the
    run. If it reaches workers that hold no call yet, the pool is broken once all have ended that way.
    """
    try:
        return future.result()
    except TimeoutError as error:
        return LostCall(timed_out=True, reason=str(error))
    except ProcessExpired as error:
        if error.exitcode == STOPPED:
            raise WorkersStoppedError from None
        return LostCall(timed_out=False, reason=str(error))
    except BrokenProcessPool:
        raise WorkersStoppedError from None


def _wait_for_starting(ready: Connection, other_children: set[int | None]) -> None:
    """Let living workers finish their start: a worker that finds the pool gone meanwhile prints a traceback."""
    deadline = time.monotonic() + _START_SECONDS
    started = other_children
    while time.monotonic() < deadline:
        while ready.poll():
            started = started | {ready.recv()}
        if all(child.pid in started for child in multiprocessing.active_children()):
            return
        time.sleep(0.02)
