"""Reading a memory: exemplars by class and rank, each from one small file.

A `MemoryStore` is one generation of a memory. It may be read while a writer makes the next one: what that keeps is
read as before, and what it drops ends in a `MemoryChangedError`, never in pictures of something else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vclimb.memory.store.errors import ArrayDamagedError, ExemplarDamagedError, MemoryChangedError
from vclimb.memory.store.exemplar import Exemplar
from vclimb.memory.store.exemplar_table import ExemplarTable
from vclimb.memory.store.memory_index import MemoryIndex, read_index
from vclimb.memory.store.stored_array import AnyArray, StoredArray
from vclimb.memory.store.stored_class import ChunkDamagedError, ChunkedRows, StoredClass
from vclimb.pipeline.errors import DatasetError

# How often a memory is opened anew when each time a writer drops what is just being read.
_OPENINGS = 100


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
        return f"exemplar {rank} {key}of class {stored.name!r} ({self.path / stored.frames.files[rank]})"

    def exemplar(self, label: int, rank: int) -> Exemplar:
        """Read an exemplar and compare its bytes with their checksum.

        Raises:
            DatasetError: the memory has no such class or rank.
            MemoryChangedError: the exemplar was dropped since the memory was opened.
            ExemplarDamagedError: the bytes are not what was written. Other exemplars can still be read.
        """
        stored = self._class(label)
        if not 0 <= rank < stored.n_exemplars:
            raise DatasetError(
                f"class {stored.name!r} has no exemplar {rank} in {self.path}; it has {stored.n_exemplars}"
            )
        table = self.table(label)
        try:
            payload = self._read_chunk(stored.frames, rank)
        except ChunkDamagedError as error:
            raise ExemplarDamagedError(f"{self.where(label, rank)}: {error}") from None
        return table.exemplar(rank, stored.codec, payload)

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
                try:
                    self._read_chunk(stored.frames, rank)
                except ChunkDamagedError as error:
                    yield Damage(label, stored.name, rank, key, stored.frames.files[rank], str(error))

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
                stored.read_chunk(self.path, file)
            except ChunkDamagedError as error:
                yield ArrayDamage(stored.name, file, str(error))
            except FileNotFoundError:
                self._check_unchanged()
                yield ArrayDamage(stored.name, file, "the file is missing")

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
