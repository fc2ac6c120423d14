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
    """The split that a name means, in any case; None if the name is not that of a split."""
    return _SPELLINGS.get(name.strip().lower())


def split_in_file_name(stem: str) -> str | None:
    """The only split in a file name (`kinetics-400_val`); None if there is none or more than one."""
    splits = {split for word in re.split(r"[^A-Za-z]+", stem) if (split := split_named(word))}
    return splits.pop() if len(splits) == 1 else None


def parse_split(text: str, where: str) -> str | None:
    """Parse a field of an annotation file that names a split; None where the field is empty.

    Args:
        text: Content of the field.
        where: File and row, for the error.

    Raises:
        SourceError: The field names no split.
    """
    if not text.strip():
        return None
    if (split := split_named(text)) is None:
        raise SourceError(f"{where}: split {text!r} is not known; allowed: {', '.join(_SPELLINGS)}, or nothing")
    return split


def choose_split_number(numbers: Collection[int]) -> tuple[int, str | None]:
    """Choose the lowest of a data set's numbered splits; return it with a note if there are others."""
    chosen = min(numbers)
    if len(numbers) == 1:
        return chosen, None
    listed = ", ".join(str(number) for number in sorted(numbers))
    return chosen, f"found splits {listed}: using split {chosen} (give the files of another by --annotations)"
