"""The names of splits, and how data sets spell them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from vclimb.pipeline.errors import SourceError
from vclimb.pipeline.sources.builder import TableBuilder
from vclimb.pipeline.sources.layout import SourceRequest

SPLITS = ("train", "val", "test")
_SPELLINGS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def split_named(name: str) -> str | None:
    """The split that a name means, in any case; None if the name is not that of a split."""
    return _SPELLINGS.get(name.strip().lower())


def split_in_file_name(stem: str) -> str | None:
    """The only split in a file name (`kinetics-400_val`); None if there is none or more than one."""
    splits = {split for word in re.split(r"[^A-Za-z]+", stem) if (split := split_named(word))}
    return splits.pop() if len(splits) == 1 else None


def parse_split(text: str, where: str) -> str | None:
    """Parse the field at `where` (file and row) that names a split; None where the field is empty."""
    if not text.strip():
        return None
    if (split := split_named(text)) is None:
        raise SourceError(f"{where}: split {text!r} is not known; allowed: {', '.join(_SPELLINGS)}, or nothing")
    return split


def official_split_files(
    request: SourceRequest, builder: TableBuilder, pattern: re.Pattern[str], subfolders: Sequence[str], expected: str
) -> tuple[int, list[tuple[str, Path]]]:
    """Find the files of a data set's numbered splits, and choose the split of the lowest number.

    The names of the files match `pattern`, with the groups `name` and `number`; errors describe them by `expected`.

    Returns:
        The number, and the name and path of each of its files. No files: the source has no splits.
    """
    files = request.named_files(pattern, subfolders)
    request.refuse_unused_annotations([file for _, file in files], expected)
    if not files and request.annotations:
        raise SourceError(f"no {expected} in {request.places()}")
    numbers = sorted({int(match["number"]) for match, _ in files})
    if not files:
        builder.notes.append(f"no {expected} in {request.places(subfolders)}: no splits")
        return 0, []
    if len(numbers) > 1:
        listed = ", ".join(map(str, numbers))
        builder.notes.append(
            f"found splits {listed}: using split {numbers[0]} (give the files of another by --annotations)"
        )
    return numbers[0], [(match["name"], file) for match, file in files if int(match["number"]) == numbers[0]]
