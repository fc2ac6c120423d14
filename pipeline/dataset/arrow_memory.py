"""Where pyarrow gets its memory from."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

_lock = threading.Lock()
_before: list[pa.MemoryPool] = []
"""For each block that is being run, of any thread, the pool that was the default before the first one."""


@contextmanager
def system_memory() -> Iterator[None]:
    """Let pyarrow use the memory of the C library in the block, which goes back to the machine as it is freed.

    pyarrow's own allocator keeps a quarter of what reading a catalog takes, and takes fresh memory for each large
    array, which the kernel clears: half of the time of matching a scenario. Arrays of either can be used together.
    """
    with _lock:
        _before.append(_before[0] if _before else pa.default_memory_pool())
        pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        release_memory()
        with _lock:
            pool = _before.pop()
            if not _before:
                pa.set_memory_pool(pool)


def release_memory() -> None:
    """Give the memory that pyarrow has freed back to the machine."""
    pa.default_memory_pool().release_unused()
