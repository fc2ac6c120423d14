"""Messages that suggest a known name for an unknown one; a help text that lists names loads this without pydantic."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MAX_COMPARED = 200  # characters; the time to compare names grows with the square of their lengths


def suggestion(name: str, known: Iterable[str]) -> str:
    """Say which known name an unknown one may stand for, and which names are allowed."""
    names = list(known)
    near = difflib.get_close_matches(name, names, 1) if len(name) <= _MAX_COMPARED else []
    return (f"did you mean {near[0]!r}? " if near else "") + f"allowed: {', '.join(names) or 'none'}"
