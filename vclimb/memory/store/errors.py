"""What can go wrong with a stored memory, besides what can with any data set."""

from __future__ import annotations

from vclimb.pipeline.errors import FrameDamagedError, VclimbError


class MemoryChangedError(VclimbError, RuntimeError):
    """The memory was changed since it was opened, and what was asked for is no longer there. Open it again."""


class MemoryEmptyError(VclimbError, ValueError):
    """The memory holds no exemplar that can be replayed."""


class ExemplarDamagedError(FrameDamagedError):
    """The stored bytes of an exemplar are missing, or not the ones that were written. Names class, rank, key, file."""
