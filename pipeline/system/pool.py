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
    """A function call for a worker.

    Attributes:
        key: Name of the call for the caller.
        function: Module-level function, since it is pickled.
        arguments: Positional arguments.
        timeout_seconds: Time after which the worker is killed. None: no limit.
    """

    key: Key
    function: Callable[..., Result]
    arguments: tuple[Any, ...]
    timeout_seconds: float | None = None


@dataclass(frozen=True)
class LostCall:
    """A call without a result.

    Attributes:
        timed_out: Whether the worker was killed because the call's time was over; otherwise the worker died.
        reason: How the worker ended.
    """

    timed_out: bool
    reason: str


def run_calls(
    calls: deque[Call[Key, Result]],
    workers: int,
    initialize: Callable[..., None] | None = None,
    arguments: tuple[Any, ...] = (),
) -> Generator[tuple[Call[Key, Result], Result | LostCall], None, None]:
    """Run calls in worker processes; close the generator to stop the workers at once.

    Args:
        calls: Calls in order. The caller may add calls while it takes results.
        workers: Greatest number of processes.
        initialize: Function that each worker runs first.
        arguments: Arguments of `initialize`.

    Yields:
        Each call with its result, in any order.

    Raises:
        WorkersStoppedError: The workers were ended from outside, such as by a scheduler's SIGTERM.
        Exception: Any exception that a call raised.
    """
    if not calls:
        return
    ready, report = spawn_context.Pipe(duplex=False)
    other_children = {child.pid for child in multiprocessing.active_children()}
    pool = ProcessPool(
        min(workers, len(calls)),
        initializer=_start_worker,
        initargs=(report, initialize, arguments),
        context=spawn_context,
    )
    try:
        with interrupts_held():
            _ = pool.active  # starts the workers, and the threads that start further ones
        pending: dict[Future[Result], Call[Key, Result]] = {}
        while calls or pending:
            while calls and len(pending) < workers * _IN_FLIGHT_PER_WORKER:
                call = calls.popleft()
                pending[_schedule(pool, call)] = call
            for future in _wait_for_any(pool, pending):
                call, outcome = pending.pop(future), _result(future)
                yield call, outcome
        pool.close()  # type: ignore[no-untyped-call]
    except BaseException:
        pool.stop()  # type: ignore[no-untyped-call]
        raise
    finally:
        _wait_for_starting(ready, other_children)
        pool.join()
        ready.close()
        report.close()


def _start_worker(report: Connection, initialize: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    """Make a new worker end with this run and leave Ctrl-C to it, then report that it is ready."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(STOPPED))
    parent = multiprocessing.parent_process()
    die_with_parent(parent=parent.pid if parent else None)
    if initialize is not None:
        initialize(*arguments)
    report.send(os.getpid())


def _schedule(pool: ProcessPool, call: Call[Key, Result]) -> Future[Result]:
    try:
        future: Future[Result] = pool.schedule(call.function, args=call.arguments, timeout=call.timeout_seconds)
    except RuntimeError:  # the pool broke since the last check
        raise WorkersStoppedError from None
    return future


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
