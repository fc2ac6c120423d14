"""Names of files as they are read from files that others may have written."""

from __future__ import annotations

import unicodedata
from typing import Annotated

from pydantic import AfterValidator

_MAX_BYTES = 200
"""Longest name: file systems take 255 bytes, and names get suffixes."""


def plain_name(name: str) -> str:
    """Return a name that names a file of the folder that it is joined to, and no other file.

    Raises:
        ValueError: The name is empty, too long, begins with a dot, or holds a separator of folders or a character
            that can't be printed or encoded.
    """
    if not name:
        raise ValueError("is empty; a plain file name is expected")
    if name[0] == "." or "/" in name or "\\" in name:
        raise ValueError(f"{name!r} is not a plain file name: no folders, and no dot at its beginning")
    categories = set() if name.isprintable() else set(map(unicodedata.category, name))
    if not categories.isdisjoint(("Cc", "Cs", "Cn", "Zl", "Zp")):
        raise ValueError(f"{name!r} is not a plain file name: it holds a character that can't be printed")
    if len(name.encode()) > _MAX_BYTES:
        raise ValueError(f"{name[:40]!r}... is not a plain file name: it is longer than {_MAX_BYTES} bytes")
    return name


PlainName = Annotated[str, AfterValidator(plain_name)]
"""A `str` field of a pydantic model that holds a plain file name; see `plain_name`."""
