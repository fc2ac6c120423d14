"""The names of splits, and how data sets spell them."""

from __future__ import annotations

import re
from collections.abc import Collection

from vclimb.pipeline.errors import SourceError

SPLITS = ("train", "val", "test")
_SPELLINGS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def split_named(name: str) -> str | None:
    """The split that a name stands for, whatever its case; None if it is not the name of a split."""
    return _SPELLINGS.get(name.strip().lower())


def split_in_file_name(stem: str) -> str | None:
    """The one split that stands in a file name (`kinetics-400_val`); None if there is none or more than one."""
    found = {split for word in re.split(r"[^A-Za-z]+", stem) if (split := split_named(word))}
    return found.pop() if len(found) == 1 else None


def parse_split(text: str, where: str) -> str | None:
    """The split that a field of an annotation file names; None where it is empty.

    Args:
        text: the field.
        where: file and row, for the error.
    """
    if not text.strip():
        return None
    if (split := split_named(text)) is None:
        raise SourceError(f"{where}: split {text!r} is not known; allowed: {', '.join(_SPELLINGS)}, or nothing")
    return split


def choose_split_number(numbers: Collection[int]) -> tuple[int, str | None]:
    """Which of a data set's numbered splits to read, the lowest, and a note if there were others."""
    chosen = min(numbers)
    if len(numbers) == 1:
        return chosen, None
    listed = ", ".join(str(number) for number in sorted(numbers))
    return chosen, f"found splits {listed}: using split {chosen} (give the files of another by --annotations)"
