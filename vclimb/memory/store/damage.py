"""What can't be read of a memory."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Damage:
    """An exemplar that can't be read.

    Attributes:
        label: Label id of the class.
        class_name: Name of the class.
        rank: Rank of the exemplar.
        key: Key of the video; None where the table of keys is damaged.
        file: Damaged file, relative to the memory.
        reason: What is wrong with the file, in one sentence.
    """

    label: int
    class_name: str
    rank: int
    key: str | None
    file: str
    reason: str

    def __str__(self) -> str:
        key = f"of {self.key!r} " if self.key is not None else ""
        return f"exemplar {self.rank} {key}of class {self.class_name!r} ({self.file}): {self.reason}"

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values, for `--json`."""
        return asdict(self)


@dataclass(frozen=True)
class ArrayDamage:
    """An array beside the exemplars that can't be read.

    Attributes:
        array: Part and name of the array, such as `statistics/importance`.
        file: Damaged file, relative to the memory.
        reason: What is wrong with the file, in one sentence.
    """

    array: str
    file: str
    reason: str

    def __str__(self) -> str:
        return f"array {self.array} ({self.file}): {self.reason}"

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values, for `--json`."""
        return asdict(self)
