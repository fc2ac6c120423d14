"""Contexts of child processes that don't run the user's script again.

Python's start methods `spawn` and `forkserver` import the parent's main module in every child, so that a script which
calls `vclimb.prepare` outside of `if __name__ == "__main__":` would call it again in each worker.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext, ForkServerProcess, SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from pickle import PicklingError
from types import ModuleType

_lock = threading.Lock()


@contextmanager
def _without_main_module() -> Iterator[None]:
    with _lock:
        main_module = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main_module


class _PlainStart(BaseProcess):
    def start(self) -> None:
        try:
            with _without_main_module():
                super().start()
        except (PicklingError, AttributeError):  # an object whose class the main module defines needs that module
            super().start()


class _SpawnProcess(_PlainStart, SpawnProcess):
    pass


class _ForkServerProcess(_PlainStart, ForkServerProcess):
    pass


class _SpawnContext(SpawnContext):
    Process = _SpawnProcess


class _ForkServerContext(ForkServerContext):
    Process = _ForkServerProcess


spawn_context = _SpawnContext()
"""Context whose processes start with a new interpreter."""

fork_server_context = _ForkServerContext()
"""Context whose processes are forked from a server that has imported what `set_forkserver_preload` names."""
