"""Parts of a study, each computed by another process, such as the tasks of an array job.

A part `i/n` has every n-th cell from the i-th on. Processes that compute parts of the same n share the study's
folder. A process that computes the whole study, a part of another n, or a part of other runs is refused meanwhile.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from vclimb.pipeline.errors import SettingsError, TargetBusyError
from vclimb.pipeline.system.folders import held_file, is_held

Item = TypeVar("Item")
_FOLDER, _REGISTER = "study.lock", "register.lock"


@dataclass(frozen=True)
class Part:
    """A part of a study: the `number`-th of `count`, counted from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a part such as `2/4`.

        Raises:
            SettingsError: The text is none, or there is no such part.
        """
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip(), re.ASCII)
        if match is None:
            raise SettingsError(
                f"only {text!r:.60} is no part of a study; write i/n, such as 1/4 for the first of four"
            )
        number, count = int(match[1]), int(match[2])
        if count < 1:
            raise SettingsError(f"only {text!r} has no parts; allowed: n of 1 or more in i/n")
        if not 1 <= number <= count:
            raise SettingsError(f"only {text!r}: there is no part {number}; allowed: 1/{count} to {count}/{count}")
        return cls(number, count)

    def of(self, items: Sequence[Item]) -> list[Item]:
        """Choose the items of this part."""
        return list(items[self.number - 1 :: self.count])

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


@contextmanager
def held_part(locks: Path, part: Part | None, run_ids: Collection[str], place: str) -> Iterator[None]:
    """Hold a part of a study for this process within a block.

    Args:
        locks: Folder of the study's locks.
        part: Part to hold; None: the whole study.
        run_ids: Runs of the whole study.
        place: Name of the study's folder for messages.

    Raises:
        TargetBusyError: Another process holds the part, the whole study, or a part that shares runs with this one.
    """
    busy = f"another study is running in {place}; wait for it to end, or choose another folder"
    if part is None:
        with held_file(locks / _FOLDER, busy):
            yield
        return
    study = hashlib.sha256("\n".join(sorted(run_ids)).encode()).hexdigest()[:12]
    suffix = f"-of-{part.count}-{study}"
    with ExitStack() as held:
        held.enter_context(held_file(locks / _FOLDER, busy, shared=True))
        with registering(locks):
            others = sorted(path for path in locks.glob("*-of-*.lock") if not path.stem.endswith(suffix))
            if running := next((path.stem for path in others if is_held(path)), None):
                number, _, count, _ = running.split("-")
                raise TargetBusyError(
                    f"part {number}/{count} of a study is running in {place}, and part {part} of this study may have "
                    "the same runs; wait for it to end, or run the same study in the same number of parts"
                )
            same = f"part {part} of the study is running in {place} already; wait for it to end"
            held.enter_context(held_file(locks / f"{part.number}{suffix}.lock", same))
        yield


@contextmanager
def registering(locks: Path) -> Iterator[None]:
    """Wait until no other process begins or ends with a part, and hold them off within a block."""
    with held_file(locks / _REGISTER, "", waits=True):
        yield
