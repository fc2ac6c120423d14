"""Arrays of an object that worker processes receive, in memory that they share with this process."""

from __future__ import annotations

import io
import mmap
import os
import pickle
import weakref
from collections.abc import Callable
from multiprocessing.reduction import DupFd, ForkingPickler
from typing import Any

from vclimb.pipeline.stream.memory import nameless_file
from vclimb.pipeline.system.open_files import open_files_explained

_LEAST_BYTES = 2**16


class SharedArrays:
    """The large arrays of one object, written once; the workers that it is sent to map them.

    A worker that changes such an array gets pages of its own.

    Args:
        value: Object, which doesn't change.
    """

    def __init__(self, value: Any) -> None:
        self._value = value
        self._fd: int | None = None

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Pickle the rest of the object, to be loaded as the object itself."""
        arrays: list[memoryview] = []

        def is_small(buffer: pickle.PickleBuffer) -> bool:
            data = buffer.raw()
            if data.nbytes >= _LEAST_BYTES:
                arrays.append(data)
            return data.nbytes < _LEAST_BYTES

        rest = io.BytesIO()
        ForkingPickler(rest, 5, True, is_small).dump(self._value)
        if not arrays:
            return pickle.loads, (rest.getvalue(),)
        if self._fd is None:
            self._fd = self._written(arrays)
        return _loaded, (rest.getvalue(), DupFd(self._fd), [array.nbytes for array in arrays])

    def _written(self, arrays: list[memoryview]) -> int:
        with open_files_explained():
            fd = nameless_file()
        weakref.finalize(self, os.close, fd)
        with os.fdopen(fd, "wb", closefd=False) as file:
            for array in arrays:
                file.write(array)
        return fd


def _loaded(rest: bytes, file: Any, sizes: list[int]) -> Any:
    """Load an object with its arrays, in the process that receives it."""
    fd = file.detach()
    try:
        mapped = memoryview(mmap.mmap(fd, sum(sizes), access=mmap.ACCESS_COPY))
    finally:
        os.close(fd)
    arrays, start = [], 0
    for size in sizes:
        arrays.append(mapped[start : start + size])
        start += size
    return pickle.loads(rest, buffers=arrays)  # noqa: S301 - by this process' parent
