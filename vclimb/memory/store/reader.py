"""Reading a memory: exemplars by class and rank, each from small files of its own.

A `MemoryStore` is one generation of a memory. It may be read while a writer makes the next one: what that keeps is
read as before, and what it drops ends in a `MemoryChangedError`, never in pictures of something else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from vclimb.memory.store.chunks import ChunkDamagedError, ChunkedRows
from vclimb.memory.store.damage import ArrayDamage, Damage
from vclimb.memory.store.errors import ArrayDamagedError, ExemplarDamagedError, MemoryChangedError
from vclimb.memory.store.exemplar import Exemplar
from vclimb.memory.store.exemplar_table import ExemplarTable
from vclimb.memory.store.memory_index import MemoryIndex, read_index
from vclimb.memory.store.stored_array import AnyArray, StoredArray
from vclimb.memory.store.stored_class import StoredClass
from vclimb.pipeline.errors import DatasetError

# How often a memory is opened anew when each time a writer drops what is just being read.
_OPENINGS = 100


class MemoryStore:
    """One generation of a memory, opened for reading. Safe to use from several threads; can be sent to processes.

    Attributes:
        generation: Number of the update that made this generation.
        classes: Label id -> class.
        arrays: Part and name, such as `statistics/importance` -> array that a method keeps beside the exemplars.
    """

    def __init__(self, path: Path, index: MemoryIndex) -> None:
        self.path = path
        self.generation = index.generation
        self.classes = index.classes
        self.arrays = index.arrays
        self._tables: dict[int, ExemplarTable] = {}
        self._damage: dict[int, tuple[str, str]] = {}  # label id -> file and reason
        for stored in self.classes.values():
            self._read_table(stored)

    @classmethod
    def open(cls, path: Path | str) -> MemoryStore:
        """Open a memory as it is now. Changes nothing, takes no lock.

        A class whose table is damaged stays in `classes`; reading one of its exemplars raises an error.

        Raises:
            DatasetError: there is no memory, its format version isn't known, or its index is damaged.
        """
        path = Path(path).absolute()
        for _ in range(_OPENINGS):
            index = read_index(path)
            try:
                return cls(path, index)
            except MemoryChangedError:
                continue
        raise MemoryChangedError(f"{path} was changed each of the {_OPENINGS} times it was opened; open it later")

    def __len__(self) -> int:
        """Number of exemplars."""
        return sum(stored.n_exemplars for stored in self.classes.values())

    def table(self, label: int) -> ExemplarTable:
        """Get the keys, frame numbers and sizes of a class's exemplars.

        Raises:
            DatasetError: the memory doesn't have the class.
            ExemplarDamagedError: the table can't be read.
        """
        stored = self._class(label)
        if label in self._damage:
            file, reason = self._damage[label]
            raise ExemplarDamagedError(f"the table of class {stored.name!r} ({self.path / file}): {reason}")
        return self._tables[label]

    def where(self, label: int, rank: int) -> str:
        """Name an exemplar for an error: rank, key, class and file."""
        stored = self._class(label)
        key = f"of {self._tables[label].key(rank)!r} " if label in self._tables else ""
        return f"exemplar {rank} {key}of class {stored.name!r} ({self.path / stored.own_files(rank)[0]})"

    def exemplar(self, label: int, rank: int) -> Exemplar:
        """Read an exemplar and compare its bytes with their checksum.

        Raises:
            DatasetError: the memory has no such class or rank.
            MemoryChangedError: the exemplar was dropped since the memory was opened.
            ExemplarDamagedError: the bytes are not what was written. Other exemplars can still be read.
        """
        exemplar = self.encoded(label, rank)
        stored = self.classes[label]
        rows = {}
        for name, array in stored.arrays.items():
            number, place = divmod(rank, array.chunk_rows)
            rows[name] = self._array_rows(label, array, [number])[place]
        return replace(exemplar, arrays=rows)

    def encoded(self, label: int, rank: int) -> Exemplar:
        """Read an exemplar as `exemplar` does, without the numbers that are kept beside its frames."""
        stored = self._class(label)
        if not 0 <= rank < stored.n_exemplars:
            raise DatasetError(
                f"class {stored.name!r} has no exemplar {rank} in {self.path}; it has {stored.n_exemplars}"
            )
        table = self.table(label)
        try:
            payload = self._read_chunk(stored.frames, rank) if stored.frames.files else b""
        except ChunkDamagedError as error:
            raise ExemplarDamagedError(f"{self.where(label, rank)}: {error}") from None
        return table.exemplar(rank, stored.codec, payload)

    def rows(self, label: int, name: str) -> AnyArray:
        """Read the numbers, such as `features`, that a class keeps with its exemplars: (n, ...), by rank.

        Raises:
            DatasetError: the memory has no such class, or the class no such array.
            MemoryChangedError: exemplars were dropped since the memory was opened.
            ExemplarDamagedError: the bytes are not what was written.
        """
        stored = self._class(label)
        if name not in stored.arrays:
            kept = ", ".join(sorted(stored.arrays)) or "none"
            raise DatasetError(f"class {stored.name!r} keeps no {name!r} in {self.path}; it keeps {kept}")
        array = stored.arrays[name]
        return self._array_rows(label, array, range(len(array.files)))[: stored.n_exemplars]

    def _array_rows(self, label: int, array: StoredArray, numbers: Iterable[int]) -> AnyArray:
        """Read some chunks of an array that a class keeps with its exemplars."""
        chunks = []
        for number in numbers:
            file = array.files[number]
            try:
                chunks.append(self._read_numbers(array, file))
            except ChunkDamagedError as error:
                rank, name = number * array.chunk_rows, self.classes[label].name
                raise ExemplarDamagedError(
                    f"{array.name} of exemplar {rank} of class {name!r} ({self.path / file}): {error}"
                ) from None
        return array.rows_of(b"".join(chunks))

    def verify(self) -> Iterator[Damage]:
        """Read all exemplars and yield the damaged ones, by label id and rank.

        Raises:
            MemoryChangedError: the memory was changed meanwhile, and exemplars were dropped.
        """
        for label, stored in sorted(self.classes.items()):
            if label in self._damage:
                for rank in range(stored.n_exemplars):
                    yield Damage(label, stored.name, rank, None, *self._damage[label])
                continue
            for rank, key in enumerate(self._tables[label].keys):
                if found := self._exemplar_damage(stored, rank):
                    yield Damage(label, stored.name, rank, key, *found)

    def _exemplar_damage(self, stored: StoredClass, rank: int) -> tuple[str, str] | None:
        """Find the first file of an exemplar that can't be read, and why."""
        file = ""
        try:
            if stored.frames.files:
                file = stored.frames.files[rank]
                self._read_chunk(stored.frames, rank)
            for array in stored.arrays.values():
                file = array.files[rank // array.chunk_rows]
                self._read_numbers(array, file)
        except ChunkDamagedError as error:
            return file, str(error)
        return None

    def array(self, name: str) -> AnyArray:
        """Read an array that a method keeps beside the exemplars, and compare its bytes with their checksums.

        Args:
            name: Part and name of the array, such as `statistics/importance`.

        Raises:
            DatasetError: the memory has no such array.
            MemoryChangedError: the array was replaced since the memory was opened.
            ArrayDamagedError: the bytes are not what was written.
        """
        if name not in self.arrays:
            raise DatasetError(f"{self.path} has no array {name!r}; it has {', '.join(sorted(self.arrays)) or 'none'}")
        if damage := next(self._array_damage(self.arrays[name]), None):
            raise ArrayDamagedError(f"{self.path}: {damage}")
        try:
            return self.arrays[name].read(self.path)
        except FileNotFoundError:  # it was there a moment ago
            raise MemoryChangedError(f"{self.path} is being changed; open it again") from None

    def verify_arrays(self) -> Iterator[ArrayDamage]:
        """Read all arrays beside the exemplars and yield the damaged files, by name.

        Raises:
            MemoryChangedError: the memory was changed meanwhile, and arrays were replaced.
        """
        for _, stored in sorted(self.arrays.items()):
            yield from self._array_damage(stored)

    def _array_damage(self, stored: StoredArray) -> Iterator[ArrayDamage]:
        for file in stored.files:
            try:
                self._read_numbers(stored, file)
            except ChunkDamagedError as error:
                yield ArrayDamage(stored.name, file, str(error))

    def _read_numbers(self, array: StoredArray, file: str) -> bytes:
        """Read a chunk of numbers. A missing file is damage only where the memory is still the one that was opened."""
        try:
            return array.read_chunk(self.path, file)
        except FileNotFoundError:
            self._check_unchanged()
            raise ChunkDamagedError("the file is missing") from None

    def _class(self, label: int) -> StoredClass:
        if label not in self.classes:
            raise DatasetError(f"{self.path} has no class of label id {label}; it has {sorted(self.classes)}")
        return self.classes[label]

    def _read_table(self, stored: StoredClass) -> None:
        """Read the table of a class, or note why it can't be read."""
        chunks = []
        for number, file in enumerate(stored.table.files):
            try:
                chunk = self._read_chunk(stored.table, number)
                n_rows = stored.n_exemplars - number * stored.table.chunk_rows
                if problem := ExemplarTable.from_bytes(chunk, stored.row_fields, n_rows).problem(
                    stored.frames.row_bytes
                ):
                    raise ChunkDamagedError(f"{problem}, so it is not what vclimb wrote")
            except ChunkDamagedError as error:
                self._damage[stored.label] = file, str(error)
                return
            chunks.append(chunk)
        self._tables[stored.label] = ExemplarTable.from_bytes(b"".join(chunks), stored.row_fields, stored.n_exemplars)

    def _read_chunk(self, rows: ChunkedRows, number: int) -> bytes:
        """Read a chunk. A missing file is damage only where the memory is still the one that was opened."""
        try:
            return rows.read_chunk(self.path, number)
        except FileNotFoundError:
            self._check_unchanged()
            raise ChunkDamagedError("the file is missing") from None

    def is_current(self) -> bool:
        """Whether the memory on the disk is still this generation.

        Raises:
            DatasetError: there is no memory any more, or its index is damaged.
        """
        return read_index(self.path).generation == self.generation

    def _check_unchanged(self) -> None:
        try:
            generation = read_index(self.path).generation
        except DatasetError as error:
            raise MemoryChangedError(f"the memory was changed since it was opened: {error}") from None
        if generation != self.generation:
            raise MemoryChangedError(
                f"{self.path} was changed since it was opened (it is at generation {generation}, not "
                f"{self.generation}), and what was asked for was dropped; open it again"
            )
