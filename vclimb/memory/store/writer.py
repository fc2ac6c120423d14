"""Writing a memory: classes are staged as files, and one rename makes them, and the shrinking of others, the memory.

with MemoryWriter.open(path) as writer:
    writer.stage(NewClass(7, "diving", "jpeg:75", exemplars))   # nobody sees them yet
    writer.size_if_kept({7: 12, 3: 12})                         # bytes on disk that this would give, exactly
    writer.commit({7: 12, 3: 12})                               # the new memory, or after a kill the old one
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import TracebackType

from vclimb.memory.store.layout import (
    FACTS,
    KEY,
    NODE_FILE,
    ONLY_CHUNK,
    StoredClass,
    empty_bytes,
    root_bytes,
)
from vclimb.memory.store.new_class import NewClass, StagedClass
from vclimb.memory.store.reader import MemoryStore
from vclimb.memory.store.tidy import refuse_foreign_files, tidy
from vclimb.pipeline.errors import DatasetError, SettingsError, TargetError
from vclimb.pipeline.system.durable import replace_file, sync
from vclimb.pipeline.system.folders import lock_folder, unlock_folder, writable


class MemoryWriter:
    """The one writer of a memory, while it is open. Not for several threads at a time.

    Attributes:
        path: of the memory.
        memory: as it is now, to read from.
    """

    def __init__(self, path: Path, lock: int) -> None:
        """Use `open`."""
        self.path = path
        self._lock: int | None = lock
        self._staged: dict[int, StagedClass] = {}
        self._is_settled = False
        self._settle()

    @classmethod
    def open(cls, path: Path | str) -> MemoryWriter:
        """Open a memory for writing, and make an empty one where there is none.

        What a killed writer left is brought in order. Close it, or use it as a context manager.

        Raises:
            TargetBusyError: another writer has it open.
            TargetError: it can't be written, or the folder holds something else.
            DatasetError: its format version isn't known, or its index is damaged.
        """
        path = Path(path).absolute()
        lock = lock_folder(path)
        try:
            refuse_foreign_files(path)
            with writable(path):
                if not (path / NODE_FILE).exists():
                    replace_file(path / NODE_FILE, root_bytes(0, []))
                    sync(path.parent)
                return cls(path, lock)
        except BaseException:
            unlock_folder(lock)
            raise

    def __enter__(self) -> MemoryWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove what is staged, and let go of the memory. It may be called twice."""
        if self._lock is None:
            return
        try:
            if self._staged:
                self.rollback()
        finally:
            unlock_folder(self._lock)
            self._lock = None

    def stage(self, new: NewClass) -> StagedClass:
        """Write a class's exemplars, in the order of their ranks, without making them part of the memory.

        Returns:
            what it takes on disk, exemplar by exemplar.

        Raises:
            SettingsError: it has no exemplars, ones that don't go together, or is in the memory already.
            TargetError: the disk is full, or the like; nothing of it stays.
        """
        self._check_settled()
        there = [*self.memory.classes.values(), *(staged.written for staged in self._staged.values())]
        for other in there:
            if new.label == other.label or new.name == other.name:
                raise SettingsError(
                    f"class {new.name!r} (label id {new.label}) can't be added to {self.path}, which has class "
                    f"{other.name!r} (label id {other.label}); drop that first: keep 0 of it"
                )
        with writable(self.path):
            staged = StagedClass.write(self.path, new, self.memory.generation + 1)
        self._staged[new.label] = staged
        return staged

    @property
    def labels(self) -> set[int]:
        """Label ids of all classes in the memory and staged."""
        return {*self.memory.classes, *self._staged}

    def kept_frames(self, label: int) -> Sequence[int]:
        """How many frames are kept of each exemplar, by rank, of a class in the memory or staged.

        Raises:
            ExemplarDamagedError: the class's facts can't be read.
        """
        facts = self._staged[label].facts if label in self._staged else self.memory.facts(label)
        counts: list[int] = facts.n_kept_frames.tolist()
        return counts

    def exemplar_bytes(self, label: int) -> Sequence[int]:
        """Bytes on disk of each exemplar's frames, by rank, of a class in the memory or staged."""
        if label in self._staged:
            return self._staged[label].exemplar_bytes
        if label in self.memory.classes:
            return self._exemplar_bytes[label]
        raise SettingsError(f"label id {label} is neither in {self.path} nor staged")

    def class_bytes(self, label: int, n_exemplars: int) -> int:
        """Bytes on disk that a class takes, its part of the index included, if the first exemplars are kept of it.

        They add up: `empty_bytes` and the `class_bytes` of all classes are `size_if_kept`.
        """
        sizes = self.exemplar_bytes(label)
        n = _checked_count(label, n_exemplars, len(sizes))
        if n == 0:
            return 0
        if label in self._staged:
            staged = self._staged[label]
            return staged.stored(n).metadata_bytes() + staged.facts_bytes(n) + sum(sizes[:n])
        stored = _shrunk(self.memory.classes[label], n)
        return stored.metadata_bytes() + self._facts_bytes[label] + sum(sizes[:n])

    def costs(self, label: int) -> tuple[int, list[int]]:
        """What a budget of bytes counts for a class: once it has an exemplar, and for each exemplar, by rank.

        The first number and the first n of the others add up to `class_bytes(label, n)`, for n of 1 or more. (An
        exemplar whose file damage has taken away counts as a byte.)
        """
        sizes = self.exemplar_bytes(label)
        totals = [self.class_bytes(label, n + 1) for n in range(len(sizes))]
        first = max(1, sizes[0])
        return totals[0] - first, [first, *(max(1, after - before) for before, after in pairwise(totals))]

    @property
    def empty_bytes(self) -> int:
        """Bytes on disk that the next generation takes besides its classes."""
        return empty_bytes(self.memory.generation + 1)

    def size_if_kept(self, keep: Mapping[int, int] | None = None) -> int:
        """Bytes of all files, exactly, that `commit(keep)` would leave.

        Apparent bytes, as `du --apparent-size` counts them; folders are not counted, for each file system has
        sizes of its own for these.
        """
        counts = self._counts(keep or {})
        of_index = self.empty_bytes if self._changes(counts) else empty_bytes(self.memory.generation)
        return of_index + sum(self.class_bytes(label, n) for label, n in counts.items())

    def commit(self, keep: Mapping[int, int] | None = None) -> MemoryStore:
        """Let the staged classes join the memory and all of its classes keep their first exemplars: one step, durably.

        Args:
            keep: label id -> how many exemplars to keep at most, of classes in the memory and staged ones. 0 drops
                the class; one that isn't named keeps all.

        Returns:
            the new memory.

        Raises:
            SettingsError: `keep` names a class that there is not, or a negative number; what is staged stays so.
            TargetError: the disk is full, or the like. The memory is the old one, and nothing is staged any more;
                or it is the new one, and only the removal of what was dropped is not done, which `rollback` and
                the next writer do.
        """
        counts = self._counts(keep or {})
        if not self._changes(counts):
            self.rollback()
            return self.memory
        with writable(self.path):
            try:
                classes = [_shrunk(stored, counts[label]) for label, stored in self.memory.classes.items()]
                for label, staged in self._staged.items():
                    if counts[label]:
                        classes.append(staged.seal(counts[label]))
                kept = [stored for stored in classes if stored.n_exemplars]
                replace_file(self.path / NODE_FILE, root_bytes(self.memory.generation + 1, kept))
            except BaseException:
                self._give_up()
                raise
            self.rollback()
        return self.memory

    def update(self, add: Sequence[NewClass], keep: Mapping[int, int] | None = None) -> MemoryStore:
        """`stage` classes and `commit`."""
        try:
            for new in add:
                self.stage(new)
            return self.commit(keep)
        except BaseException:
            self._give_up()
            raise

    def rollback(self) -> None:
        """Remove what is staged, and bring the files in line with what the memory is."""
        self._check_open()
        self._is_settled = False
        self._staged.clear()
        with writable(self.path):
            self._settle()

    def _give_up(self) -> None:
        """`rollback` after an error, which is told rather than what may go wrong here.

        Whether the rename that commits came about isn't known: the disk says which memory it is.
        """
        with suppress(DatasetError, TargetError, OSError):
            self.rollback()

    def _settle(self) -> None:
        """Take the memory as it is on disk, and bring its files in order."""
        self.memory = MemoryStore.open(self.path)
        self._exemplar_bytes: dict[int, list[int]] = {}
        self._facts_bytes: dict[int, int] = {}
        for label, stored in self.memory.classes.items():
            self._exemplar_bytes[label] = [self._size(stored.chunk(rank)) for rank in range(stored.n_exemplars)]
            chunks = [f"{stored.folder}/{array}/{ONLY_CHUNK}" for array in (FACTS, KEY)]
            self._facts_bytes[label] = sum(map(self._size, chunks))
        tidy(self.path, self.memory.classes.values())
        self._is_settled = True

    def _size(self, file: str) -> int:
        """Bytes of a file; none where damage has taken it away."""
        try:
            return os.stat(f"{self.path}/{file}").st_size
        except FileNotFoundError:
            return 0

    def _counts(self, keep: Mapping[int, int]) -> dict[int, int]:
        """How many exemplars of each class, in the memory or staged, `keep` leaves."""
        self._check_settled()
        there = {label: len(self.exemplar_bytes(label)) for label in (*self.memory.classes, *self._staged)}
        if unknown := keep.keys() - there.keys():
            raise SettingsError(
                f"label id {min(unknown)} is neither in {self.path} nor staged; allowed: {sorted(there)}"
            )
        return {label: _checked_count(label, keep.get(label, n), n) for label, n in there.items()}

    def _changes(self, counts: Mapping[int, int]) -> bool:
        shrinks = any(counts[label] < stored.n_exemplars for label, stored in self.memory.classes.items())
        return shrinks or any(counts[label] for label in self._staged)

    def _check_open(self) -> None:
        if self._lock is None:
            raise ValueError(f"the writer of {self.path} is closed")

    def _check_settled(self) -> None:
        """After an error that even `rollback` failed with, which memory is on the disk has still to be looked up."""
        self._check_open()
        if not self._is_settled:
            self.rollback()


def _shrunk(stored: StoredClass, n_exemplars: int) -> StoredClass:
    return replace(stored, n_exemplars=n_exemplars)


def _checked_count(label: int, count: int, there: int) -> int:
    """At most as many exemplars as a class has."""
    if count < 0:
        raise SettingsError(f"can't keep {count} exemplars of label id {label}; allowed: 0 or more")
    return min(count, there)
