"""Writing a memory: classes are staged as files, then one rename adds them and shrinks the others.

with MemoryWriter.open(path) as writer:
    writer.stage(NewClass(7, "diving", "jpeg:75", exemplars))   # readers don't see them yet
    writer.class_bytes(7, 12)                                   # bytes on disk of 12 exemplars, exactly
    writer.commit({7: 12, 3: 12})                               # the new memory; after a kill before, the old one
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import zarr

from vclimb.memory.store.atomic_store import NODE_FILE, AtomicStore
from vclimb.memory.store.class_nodes import stored_class
from vclimb.memory.store.counting import class_totals, nodes_bytes
from vclimb.memory.store.exemplar_table import ExemplarTable
from vclimb.memory.store.index_file import write_index, writing_settings
from vclimb.memory.store.index_nodes import EXEMPLARS, Node
from vclimb.memory.store.memory_index import read_index
from vclimb.memory.store.new_array import check_array, replace_arrays
from vclimb.memory.store.new_class import NewClass
from vclimb.memory.store.reader import MemoryStore
from vclimb.memory.store.stored_array import AnyArray
from vclimb.memory.store.stored_class import StoredClass
from vclimb.memory.store.tidy import refuse_foreign_files, tidy
from vclimb.pipeline.errors import DatasetError, SettingsError, TargetError
from vclimb.pipeline.system.durable import sync
from vclimb.pipeline.system.folders import lock_folder, unlock_folder, writable


class MemoryWriter:
    """The one writer of a memory, while it is open. Not for several threads at a time.

    Attributes:
        path: Path of the memory.
        memory: The memory as it is now, to read from.
        root: The memory's zarr group with the changes to be committed.
    """

    def __init__(self, path: Path, lock: int) -> None:
        """Use `open`."""
        self.path = path
        self._lock: int | None = lock
        self._settle()

    @classmethod
    def open(cls, path: Path | str) -> MemoryWriter:
        """Open a memory for writing, and make an empty one where there is none.

        Files that a killed writer left are removed. Close it, or use it as a context manager.

        Raises:
            TargetBusyError: another writer has it open.
            TargetError: it can't be written, or the folder holds something else.
            DatasetError: its format version isn't known, or its index is damaged.
        """
        path = Path(path).absolute()
        lock = lock_folder(path)
        try:
            if (path / NODE_FILE).exists():
                read_index(path)
            refuse_foreign_files(path)
            with writable(path):
                if not (path / NODE_FILE).exists():
                    store = AtomicStore(path)
                    with writing_settings():
                        zarr.create_group(store).require_group(EXEMPLARS)  # a killed writer may have left it
                        write_index(store, 0)
                    store.publish()
                    sync(path.parent)
                return cls(path, lock)
        except BaseException:
            unlock_folder(lock)
            raise

    def __enter__(self) -> MemoryWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove what is staged, and release the memory. It may be called twice."""
        if self._lock is None:
            return
        try:
            if self._staged:
                self.rollback()
        finally:
            unlock_folder(self._lock)
            self._lock = None

    def stage(self, new: NewClass) -> None:
        """Write a class's exemplars, in the order of their ranks, without making them part of the memory.

        Raises:
            SettingsError: it has no exemplars, ones that don't go together, or is in the memory already.
            TargetError: the disk is full, or the like; none of the class's files stay.
        """
        self._check_settled()
        for other in self._classes.values():
            if new.label == other.label or new.name == other.name:
                raise SettingsError(
                    f"class {new.name!r} (label id {new.label}) can't be added to {self.path}, which has class "
                    f"{other.name!r} (label id {other.label}); drop that first: keep 0 of it"
                )
        table = ExemplarTable.of(new.exemplars)
        folder = f"{EXEMPLARS}/c{new.label:04d}g{self.memory.generation + 1}"
        with writable(self.path), writing_settings():
            try:
                nodes = new.write(self._store, self.root, folder, table)
                stored = stored_class(folder, nodes, self.memory.generation + 1, str(self.path / NODE_FILE))
            except BaseException:
                self._give_up()
                raise
        self._add_class(stored, nodes)
        self._staged[new.label] = table

    def keep(self, arrays: Mapping[str, AnyArray]) -> None:
        """Let arrays, by part and name, be all that the memory keeps beside exemplars. Call it once before a commit.

        Raises:
            SettingsError: the name, the type or the shape of an array isn't allowed.
            TargetError: the disk is full, or the like; nothing is staged any more.
        """
        self._check_settled()
        for name, array in arrays.items():
            check_array(name, array.dtype.name, array.shape)
        with writable(self.path), writing_settings():
            try:
                replace_arrays(self._store, self.root, self.memory, self._part_nodes, arrays)
            except BaseException:
                self._give_up()
                raise

    def trim(self, label: int, n_exemplars: int) -> None:
        """Remove the files of a staged class beyond `trimmed_count`, which `commit` can't keep; `costs` counts them."""
        self._trimmed[label] = min(n_exemplars, self.trimmed_count(label))
        with writable(self.path):
            for rank in range(self._trimmed[label], self._classes[label].n_exemplars):
                self._store.drop_files(self._classes[label].own_files(rank))

    def trimmed_count(self, label: int) -> int:
        """Number of a class's exemplars whose files are there, in the memory or staged."""
        return self._trimmed.get(label, self._classes[label].n_exemplars)

    @property
    def labels(self) -> set[int]:
        """Label ids of all classes in the memory and staged."""
        return {*self._classes}

    def kept_frames(self, label: int) -> Sequence[int]:
        """Count the frames of each exemplar, by rank, of a class in the memory or staged.

        Raises:
            ExemplarDamagedError: the class's table can't be read.
        """
        table = self._staged.get(label) or self.memory.table(label)
        counts: list[int] = table.n_frames.tolist()
        return counts

    def class_bytes(self, label: int, n_exemplars: int) -> int:
        """Count the bytes on disk of a class, its part of the index included, if its first exemplars are kept.

        `empty_bytes` and the `class_bytes` of all classes add up to the bytes of all files after `commit`.
        """
        return self._class_totals(label)[self._checked_count(label, n_exemplars)]

    def costs(self, label: int) -> tuple[int, list[int]]:
        """Split `class_bytes` into what a class costs once it has an exemplar, and what each exemplar costs, by rank.

        The first number and the first n of the others add up to `class_bytes(label, n)`, for n of 1 or more. (An
        exemplar whose file is missing counts as a byte.)
        """
        totals = self._class_totals(label)
        first = max(1, sum(self._store.sizes.get(file, 0) for file in self._classes[label].own_files(0)))
        return totals[1] - first, [first, *(max(1, after - before) for before, after in pairwise(totals[1:]))]

    @property
    def empty_bytes(self) -> int:
        """Bytes on disk of the next generation besides its classes; the arrays beside the exemplars are included."""
        digits = len(str(self.memory.generation + 1)) - len(str(self.memory.generation))
        return self._root_bytes + nodes_bytes(self._part_nodes, self._store.sizes) + digits

    def commit(self, keep: Mapping[int, int] | None = None) -> MemoryStore:
        """Add the staged classes to the memory and shrink all classes to their first exemplars: one step, durably.

        Args:
            keep: Label id -> most exemplars to keep, of classes in the memory and staged ones. 0 drops the class; a
                class that isn't named keeps all.

        Raises:
            SettingsError: `keep` names an unknown class, or a negative number; what is staged stays so.
            TargetError: the disk is full, or the like. The memory is the old one, and nothing is staged any more; or
                it is the new one, with files of what was dropped, which `rollback` and the next writer remove.
        """
        self._check_settled()
        counts = {label: stored.n_exemplars for label, stored in self._classes.items()}
        counts |= {label: self._checked_count(label, count) for label, count in (keep or {}).items()}
        if wanting := [label for label, count in counts.items() if count > self.trimmed_count(label)]:
            raise ValueError(f"files of label id {wanting[0]} that are to be kept were trimmed")
        shrinks = any(counts[label] < stored.n_exemplars for label, stored in self.memory.classes.items())
        adds = any(counts[label] for label in self._staged)
        if not shrinks and not adds and not self._store.is_changed_beside(EXEMPLARS):
            self.rollback()
            return self.memory
        with writable(self.path), writing_settings():
            try:
                for label, stored in self._classes.items():
                    self._shrink(stored, counts[label])
                write_index(self._store, self.memory.generation + 1)
                self._store.publish()
            except BaseException:
                self._give_up()
                raise
            self.rollback()
        return self.memory

    def rollback(self) -> None:
        """Remove what is staged, and bring the files in line with the index."""
        self._check_open()
        self._is_settled = False
        self._store.end()
        self._staged.clear()
        with writable(self.path):
            self._settle()

    def _give_up(self) -> None:
        """Roll back after an error, and leave that error to be raised rather than a second one.

        Whether the rename that commits took place isn't known: the disk says which memory it is.
        """
        self._store.end()  # zarr's threads may still be writing
        with suppress(DatasetError, TargetError, OSError):
            self.rollback()

    def _settle(self) -> None:
        """Read the memory from the disk, bring its files in line with the index, and begin a new set of changes."""
        index = read_index(self.path)
        self.memory = MemoryStore(self.path, index)
        tidy(self.path, index.nodes)
        self._classes: dict[int, StoredClass] = {}
        self._totals: dict[int, list[int]] = {}  # label id -> bytes of the first 0, 1, ... exemplars
        self._staged: dict[int, ExemplarTable] = {}
        self._trimmed: dict[int, int] = {}  # label id -> exemplars of a staged class whose files are there
        self._store = AtomicStore(self.path)
        self.root = zarr.open_group(self._store, mode="r+", use_consolidated=False)
        for stored in index.classes.values():
            self._add_class(stored, index.nodes)
        self._part_nodes: dict[str, Node] = {
            place: node for place, node in index.nodes.items() if place.split("/")[0] != EXEMPLARS
        }
        sizes = self._store.sizes
        counted = sum(totals[-1] for totals in self._totals.values()) + nodes_bytes(self._part_nodes, sizes)
        self._root_bytes = sum(sizes.values()) - counted
        self._is_settled = True

    def _add_class(self, stored: StoredClass, nodes: Mapping[str, Node]) -> None:
        """Add a class that nodes describe, and count its bytes for each number of exemplars."""
        totals = class_totals(stored, nodes, self._store.sizes)
        self._classes[stored.label], self._totals[stored.label] = stored, totals

    def _shrink(self, stored: StoredClass, n_exemplars: int) -> None:
        """Keep the first exemplars of a class, in the changes to be published."""
        if n_exemplars == 0:
            del self.root[stored.folder]
        elif n_exemplars < stored.n_exemplars:
            for place in stored.places:
                rows = self.root[place]
                assert isinstance(rows, zarr.Array)
                rows.resize((n_exemplars, *rows.shape[1:]))

    def _class_totals(self, label: int) -> list[int]:
        self._check_settled()
        if label not in self._totals:
            raise SettingsError(
                f"label id {label} is neither in {self.path} nor staged; allowed: {sorted(self._totals)}"
            )
        return self._totals[label]

    def _checked_count(self, label: int, count: int) -> int:
        """Limit a number of exemplars to keep to what the class has."""
        if count < 0:
            raise SettingsError(f"can't keep {count} exemplars of label id {label}; allowed: 0 or more")
        return min(count, len(self._class_totals(label)) - 1)

    def _check_open(self) -> None:
        if self._lock is None:
            raise ValueError(f"the writer of {self.path} is closed")

    def _check_settled(self) -> None:
        """After an error that even `rollback` failed with, look up which memory is on the disk."""
        self._check_open()
        if not self._is_settled:
            self.rollback()
