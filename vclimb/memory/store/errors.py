"""What can go wrong with a stored memory, besides what can with any data set."""

from __future__ import annotations

from vclimb.pipeline.errors import DatasetError, FrameDamagedError


class MemoryChangedError(DatasetError):
    """The memory was changed since it was opened, and what was asked for is no longer there. Open it again."""


class ExemplarDamagedError(FrameDamagedError):
    """The stored bytes of an exemplar are missing, or not the ones that were written. Names class, rank, key, file."""
