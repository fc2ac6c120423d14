"""Paths that users give, which are of this machine unless a data set is read."""

from __future__ import annotations

import os
from pathlib import Path

from vclimb.pipeline.errors import SettingsError

_SCHEME_END = "://"


def is_url(location: Path | str) -> bool:
    """Whether a location is a URL, rather than a path of this machine."""
    return isinstance(location, str) and _SCHEME_END in location


def local_path(path: Path | str) -> Path:
    """The path of a file or folder of this machine.

    Raises a SettingsError for a URL (only prepared data sets are read from URLs), for an empty text, and for a zero
    byte.
    """
    text = str(path)
    if is_url(text):
        raise SettingsError(
            f"{text!r} is a URL; give a file or folder of this machine (a URL names a data set to read)"
        )
    refuse_mangled_url(path)
    if not text:
        raise SettingsError("the path is empty; give a file or folder, such as ./NAME")
    if "\0" in text:
        raise SettingsError(f"path {text!r} holds a zero byte, which no file name can")
    return Path(path)


def refuse_mangled_url(path: Path | str) -> None:
    """Raise a SettingsError for a URL that was made a `Path`, which drops one of its slashes: `s3:/bucket/name`."""
    if not isinstance(path, Path) or len(path.parts) < 2:
        return
    first = path.parts[0]
    if len(first) > 2 and first.endswith(":") and first[:-1].replace("+", "").isalnum() and not Path(first).exists():
        url = f"{first}//{'/'.join(path.parts[1:])}"
        raise SettingsError(f"the path {str(path)!r} was made from a URL, {url!r}; give a URL as text (str)")


def user_cache(name: str) -> Path:
    """The folder of a kind of vclimb's caches of this user, in XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vclimb" / name
