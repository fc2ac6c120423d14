"""Keys: the names that videos have in the shards.

A key is ASCII without dots (WebDataset cuts a member's name at its first dot) and at most 90 bytes long (USTAR takes
100 for a name). It is a pure function of the video's name and does not depend on other videos, so adding videos never
renames one. The only exception is two files of a folder that differ in their suffix alone, see `keys_of_paths`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Sequence

from vclimb.pipeline.system.distinct import are_distinct

MAX_KEY_BYTES = 90
# 64 bits: among a million names that become the same safe name, two share a digest with probability 3e-8.
_DIGEST_HEX = 16
_UNSAFE = re.compile(r"[^A-Za-z0-9_/=+@,-]+")
# webdataset's reader ignores members in a folder of such a name.
_META_FOLDER = re.compile(r"__[^/]*__")
_PLAIN_KEY = re.compile(r"(?!__[^/]*__/)(?!-)[A-Za-z0-9_=+@,-]+(?:/(?!-)[A-Za-z0-9_=+@,-]+)*")
_DIGEST = re.compile(rf"~[0-9a-f]{{{_DIGEST_HEX}}}")


def make_key(name: str) -> str:
    """Make the key for a name, usually a path relative to the root, without its suffix.

    A name that is a valid key is kept. In other names, each run of other characters becomes `_`, and `~` and 16 digits
    of the name's SHA-256 are added, so that two names never share a key.
    """
    if len(name) <= MAX_KEY_BYTES and _PLAIN_KEY.fullmatch(name) is not None:
        return name
    parts = [part.lstrip("-") or "_" for part in _UNSAFE.sub("_", name).split("/") if part]
    if len(parts) > 1 and _META_FOLDER.fullmatch(parts[0]):
        parts[0] = parts[0].strip("_-") or "_"
    key = "/".join(parts) or "_"
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_HEX]
    return f"{key[: MAX_KEY_BYTES - _DIGEST_HEX - 1].rstrip('/')}~{digest}"


def is_key(text: str) -> bool:
    """Whether a text is a valid key, as `make_key` returns."""
    plain = text[: -_DIGEST_HEX - 1] if _DIGEST.fullmatch(text[-_DIGEST_HEX - 1 :]) else text
    return len(text) <= MAX_KEY_BYTES and _PLAIN_KEY.fullmatch(plain) is not None


def key_of_path(path: str) -> str:
    """The key of a video that is known by its path alone, made from the path without its suffix."""
    return make_key(os.path.splitext(path)[0])


def twin_key(path: str) -> str:
    """The key of a video whose `key_of_path` another file has, made from the path with its suffix.

    The `/` at the end keeps it apart from the key of a file that has two suffixes (`a.mp4.avi`).
    """
    return make_key(f"{path}/")


def keys_of_paths(paths: Sequence[str], taken: Collection[str] = ()) -> list[str]:
    """The key of each of several paths of one root, which differ. None of the keys is among those in `taken`.

    No pure function gives both `walk/a.avi` and `walk/a.mp4` a key without suffix, so among such twins the first in
    sorted order gets `key_of_path` and the others `twin_key`. A twin that is added later may therefore change the key
    of a path, but never the name of a stored video, since stored videos are known by their paths.
    """
    keys = list(map(key_of_path, paths))
    if taken or not are_distinct(keys):
        used = set(taken)
        for place in sorted(range(len(paths)), key=paths.__getitem__):
            if keys[place] in used:
                keys[place] = twin_key(paths[place])
            used.add(keys[place])
    return keys
