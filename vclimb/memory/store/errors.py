"""Errors of a stored memory."""

from __future__ import annotations

from vclimb.pipeline.errors import FrameDamagedError, VclimbError


class MemoryChangedError(VclimbError, RuntimeError):
    """The memory was changed since it was opened, and an exemplar was dropped. Open the memory again."""


class MemoryEmptyError(VclimbError, ValueError):
    """The memory holds no exemplar that can be replayed."""


class ExemplarDamagedError(FrameDamagedError):
    """The stored bytes of an exemplar are missing or damaged. The message names class, rank, key and file."""
