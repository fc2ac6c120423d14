"""Sizes in bytes as people write them: `256MB`, `1.5GiB`."""

from __future__ import annotations

import re
from fractions import Fraction

from vclimb.pipeline.errors import SettingsError

_FACTORS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}
_WRITTEN = {"GiB": 2**30, "GB": 10**9, "MiB": 2**20, "MB": 10**6, "KiB": 2**10, "kB": 10**3, "B": 1}


def parse_size(text: str | int) -> int:
    """Number of bytes in a size such as `256MB`, `1.5GiB` or `1000000`.

    Raises:
        SettingsError: The text is not a size, or the size is zero.
    """
    match = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([KMG]I?)?B?", str(text).strip(), re.IGNORECASE)
    size = int(Fraction(match[1]) * _FACTORS[(match[2] or "").upper()]) if match else 0
    if size < 1:
        raise SettingsError(f"size {text!r} is not understood; write a number and a unit, e.g. 256MB or 1GiB")
    return size


def size_text(size: int) -> str:
    """Write a size in the largest unit of which it is a whole number. `parse_size` returns it exactly."""
    unit = next(unit for unit, factor in _WRITTEN.items() if size % factor == 0)
    return f"{size // _WRITTEN[unit]}{unit}"
