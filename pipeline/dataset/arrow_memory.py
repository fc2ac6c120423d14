"""Where pyarrow gets its memory from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa


@contextmanager
def system_memory() -> Iterator[None]:
    """Let pyarrow use the memory of the C library in the block, which goes back to the machine as it is freed.

    pyarrow's own allocator keeps a quarter of what reading a catalog takes, and takes fresh memory for each large
    array, which the kernel clears: half of the time of matching a scenario. Arrays of either can be used together.
    """
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        release_memory()
        pa.set_memory_pool(before)


def release_memory() -> None:
    """Give the memory that pyarrow has freed back to the machine."""
    pa.default_memory_pool().release_unused()
