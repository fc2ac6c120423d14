"""Keys: the names that videos have in the shards.

A key is ASCII without dots (WebDataset cuts a member's name at its first dot), at most 90 bytes (USTAR
takes 100 for a name), and a pure function of the name it is made from: it does not depend on which other
videos are there, so that adding videos never renames one.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import PurePosixPath

MAX_KEY_BYTES = 90
_DIGEST_HEX = 10
_UNSAFE = re.compile(r"[^A-Za-z0-9_/=+@,-]+")


def make_key(name: str) -> str:
    """The key for a name, usually a path relative to the root, without its suffix.

    A name that is already a valid key is kept. In any other, each run of other characters becomes `_`,
    and `~` and ten digits of the name's SHA-256 are added, so that two names never share a key.

    Args:
        name: any file name or path, with `/` between folders.
    """
    key = _UNSAFE.sub("_", name)
    parts = [part for part in PurePosixPath(key).parts if part not in ("/", "..")]
    key = "/".join(part.lstrip("-") or "_" for part in parts)
    if key == name and 0 < len(key) <= MAX_KEY_BYTES:
        return key
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:_DIGEST_HEX]
    return f"{key[: MAX_KEY_BYTES - _DIGEST_HEX - 1].rstrip('/')}~{digest}"


def key_of_path(path: str) -> str:
    """The key of a video known by its path alone: the path without its suffix.

    The suffix returns when another file of the folder shares the stem; that is the reader's business
    (`with_suffix=True` in `folder`), since only it sees the folder.
    """
    return make_key(str(PurePosixPath(path).with_suffix("")))
