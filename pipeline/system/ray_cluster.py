"""Connection to a Ray cluster, for the executors that place work on it."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Collection, Generator, Iterable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from vclimb.pipeline.errors import SettingsError, VclimbError

Key = TypeVar("Key")

LOST_NODES = 20
"""Number of times that a task is started again because its node or its process was lost."""
_POLL_SECONDS = 0.2
# Time for a task that was told to stop.
_STOP_SECONDS = 15.0


def connect(address: str | None = None) -> Any:
    """Connect this process to a Ray cluster, unless it is connected already, and return the module `ray`.

    Args:
        address: Address of the cluster. None: the one that RAY_ADDRESS or `ray start` names, else a cluster of this
            machine that ends with this process.

    Raises:
        SettingsError: Ray isn't installed, or no cluster answers at the address.
    """
    try:
        ray = importlib.import_module("ray")
    except ImportError:
        raise SettingsError("executor 'ray' needs Ray, which is not installed; pip install 'vclimb[ray]'") from None
    if not ray.is_initialized():
        try:
            ray.init(
                address=address,
                log_to_driver=False,
                include_dashboard=False if address == "local" else None,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            first = next(iter(str(error).splitlines()), type(error).__name__)
            raise SettingsError(
                f"no Ray cluster answers at {address or 'the address in RAY_ADDRESS'!r} ({first}); start one by "
                "`ray start --head`, or name another by --ray-address"
            ) from None
    return ray


class RayTasks(Generic[Key]):
    """Calls of a function on a cluster, a bounded number at a time.

    Args:
        function: Remote function with its resources.
        calls: Key and arguments of each call. They are taken as the cluster takes them.
        at_once: Number of calls that are handed to the cluster at a time. More than it can run, so that no node waits.
        waits: Whether the call of a key has to wait for one of those that run, given their keys.
    """

    def __init__(
        self,
        ray: Any,
        function: Any,
        calls: Iterable[tuple[Key, tuple[Any, ...]]],
        at_once: int,
        waits: Callable[[Key, Collection[Key]], bool] = lambda _key, _running: False,
    ) -> None:
        self._ray, self._function, self._at_once, self._waits = ray, function, at_once, waits
        self._calls = iter(calls)
        self._held_back: list[tuple[Key, tuple[Any, ...]]] = []
        self._running: dict[Any, Key] = {}

    def results(self, on_wait: Callable[[], None] = lambda: None) -> Generator[tuple[Key, Any], None, None]:
        """Yield the key and the result of each call, in any order. Closing the iterator stops the calls.

        Args:
            on_wait: Called several times a second while calls run.

        Raises:
            VclimbError: A node was lost too often, or what the function raised.
        """
        try:
            while True:
                while len(self._running) < self._at_once and (call := self._next()) is not None:
                    key, arguments = call
                    self._running[self._function.remote(*arguments)] = key
                if not self._running:
                    return
                running = list(self._running)
                self._ray.wait(running, timeout=_POLL_SECONDS)
                # All that have ended: to look for one at a time takes as long for each.
                ended, _ = self._ray.wait(running, num_returns=len(running), timeout=0)
                on_wait()
                for reference in ended:
                    key = self._running.pop(reference)
                    yield key, self._result(reference)
        finally:
            self._stop()

    def _next(self) -> tuple[Key, tuple[Any, ...]] | None:
        """Take the first call that doesn't have to wait; None where there is none."""
        running = tuple(self._running.values())
        for place, (key, _) in enumerate(self._held_back):
            if not self._waits(key, running):
                return self._held_back.pop(place)
        for call in self._calls:
            if not self._waits(call[0], running):
                return call
            self._held_back.append(call)
        return None

    def _result(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self._ray.exceptions.RayError as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise VclimbError(
                f"Ray gave up on a task after {LOST_NODES} lost nodes or processes ({reason}); what is finished is "
                "kept: look at the nodes with `ray status`, and run the same command again"
            ) from None

    def _stop(self) -> None:
        for reference in self._running:
            with suppress(Exception):  # a cluster that is gone can't be told
                self._ray.cancel(reference)
        if self._running:
            with suppress(Exception):
                self._ray.wait(list(self._running), num_returns=len(self._running), timeout=_STOP_SECONDS)
        self._running.clear()
