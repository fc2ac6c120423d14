"""Errors of a stored memory."""

from __future__ import annotations

from vclimb.pipeline.errors import DatasetError, FrameDamagedError, VclimbError


class MemoryStoreError(DatasetError):
    """There is no memory, or its index can't be used. The message names file, field and value, and says what to do."""


class MemoryChangedError(VclimbError, RuntimeError):
    """The memory was changed since it was opened, and an exemplar was dropped. Open the memory again."""


class MemoryEmptyError(VclimbError, ValueError):
    """The memory holds no exemplar that can be replayed."""


class ExemplarDamagedError(FrameDamagedError):
    """The stored bytes of an exemplar are missing or damaged. The message names class, rank, key and file."""


class ArrayDamagedError(VclimbError, ValueError):
    """The stored bytes of an array are missing or damaged. The message names array and file."""
