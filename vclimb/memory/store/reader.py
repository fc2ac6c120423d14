"""Reading a memory: exemplars by class and rank, each from one small file.

A `MemoryStore` is one generation of a memory. It may be read while a writer makes the next one: what that keeps is
read as before, and what it drops ends in a `MemoryChangedError`, never in pictures of something else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vclimb.memory.store.chunk_codec import ChunkDamagedError, decode_chunk
from vclimb.memory.store.class_table import ClassFacts, keys_of_rows
from vclimb.memory.store.errors import ExemplarDamagedError, MemoryChangedError
from vclimb.memory.store.exemplar import Exemplar
from vclimb.memory.store.layout import FACTS, KEY, NODE_FILE, ONLY_CHUNK, StoredClass, read_root
from vclimb.pipeline.errors import DatasetError

# How often a memory is opened anew when each time a writer drops what is just being read.
_OPENINGS = 100


@dataclass(frozen=True)
class Damage:
    """A part of a memory that can't be read.

    Attributes:
        label: label id of the class.
        class_name: its name.
        rank: of the exemplar.
        key: of its video; None where the keys are what is damaged.
        file: relative to the memory.
        reason: one sentence.
    """

    label: int
    class_name: str
    rank: int
    key: str | None
    file: str
    reason: str

    def __str__(self) -> str:
        of = f"of {self.key!r} " if self.key is not None else ""
        return f"exemplar {self.rank} {of}of class {self.class_name!r} ({self.file}): {self.reason}"


class MemoryStore:
    """One generation of a memory, opened for reading. Safe to use from several threads; can be sent to processes.

    Attributes:
        path: of the memory.
        generation: number of the update that made it.
        classes: label id -> class.
    """

    def __init__(self, path: Path, generation: int, classes: dict[int, StoredClass]) -> None:
        self.path = path
        self.generation = generation
        self.classes = classes
        self._facts: dict[int, ClassFacts] = {}
        self._damage: dict[int, tuple[str, str]] = {}
        for stored in classes.values():
            self._load_facts(stored)

    @classmethod
    def open(cls, path: Path | str) -> MemoryStore:
        """Open a memory as it is now. Changes nothing, takes no lock.

        A class whose facts are damaged stays in `classes`; reading one of its exemplars says what is wrong.

        Raises:
            DatasetError: there is none, its format version isn't known, or its index is damaged.
        """
        path = Path(path).absolute()
        for _ in range(_OPENINGS):
            generation, classes = read_root(_root_of(path), str(path / NODE_FILE))
            try:
                return cls(path, generation, classes)
            except MemoryChangedError:
                continue
        raise MemoryChangedError(f"{path} was changed each of the {_OPENINGS} times it was opened; open it later")

    def __len__(self) -> int:
        """Number of exemplars."""
        return sum(stored.n_exemplars for stored in self.classes.values())

    def n_exemplars(self, label: int) -> int:
        """Exemplars of a class, damaged ones included.

        Raises:
            DatasetError: the memory doesn't have the class.
        """
        return self._class(label).n_exemplars

    def facts(self, label: int) -> ClassFacts:
        """Keys, frame numbers and sizes of a class's exemplars, by rank.

        Raises:
            DatasetError: the memory doesn't have the class.
            ExemplarDamagedError: they can't be read.
        """
        stored = self._class(label)
        if label in self._damage:
            file, reason = self._damage[label]
            raise ExemplarDamagedError(f"the facts on class {stored.name!r} ({self.path / file}): {reason}")
        return self._facts[label]

    def where(self, label: int, rank: int) -> str:
        """Where an exemplar lies, for an error: rank, key, class and file."""
        stored = self._class(label)
        key = f"of {self._facts[label].keys[rank]!r} " if label in self._facts else ""
        return f"exemplar {rank} {key}of class {stored.name!r} ({self.path / stored.chunk(rank)})"

    def exemplar(self, label: int, rank: int) -> Exemplar:
        """An exemplar, held against its checksum.

        Raises:
            DatasetError: the memory has no such class or rank.
            MemoryChangedError: it was dropped since the memory was opened.
            ExemplarDamagedError: its bytes are not what was written; the others can be read all the same.
        """
        stored = self._class(label)
        if not 0 <= rank < stored.n_exemplars:
            raise DatasetError(
                f"class {stored.name!r} has no exemplar {rank} in {self.path}; it has {stored.n_exemplars}"
            )
        facts = self.facts(label)
        try:
            payload = self._read_chunk(stored.chunk(rank), stored.row_bytes)
        except ChunkDamagedError as error:
            raise ExemplarDamagedError(f"{self.where(label, rank)}: {error}") from None
        return facts.exemplar(rank, stored.codec, payload)

    def verify(self) -> Iterator[Damage]:
        """Read all of it and yield what is damaged, by label id and rank.

        Raises:
            MemoryChangedError: it was changed meanwhile, and what was dropped can't be told from what is missing.
        """
        for label, stored in sorted(self.classes.items()):
            if label in self._damage:
                for rank in range(stored.n_exemplars):
                    yield Damage(label, stored.name, rank, None, *self._damage[label])
                continue
            for rank, key in enumerate(self._facts[label].keys):
                try:
                    self._read_chunk(stored.chunk(rank), stored.row_bytes)
                except ChunkDamagedError as error:
                    yield Damage(label, stored.name, rank, key, stored.chunk(rank), str(error))

    def _class(self, label: int) -> StoredClass:
        if label not in self.classes:
            raise DatasetError(f"{self.path} has no class of label id {label}; it has {sorted(self.classes)}")
        return self.classes[label]

    def _load_facts(self, stored: StoredClass) -> None:
        """Read what is known of a class's exemplars, or note why it can't be read."""
        n, written = stored.n_exemplars, stored.n_written
        file = f"{stored.folder}/{FACTS}/{ONLY_CHUNK}"
        try:
            numbers = self._read_chunk(file, 8 * written * stored.n_columns)
            table = np.frombuffer(numbers, "<i8").astype(np.int64).reshape(written, stored.n_columns)
            file = f"{stored.folder}/{KEY}/{ONLY_CHUNK}"
            rows = np.frombuffer(self._read_chunk(file, written * stored.key_bytes), np.uint8)
        except ChunkDamagedError as error:
            self._damage[stored.label] = file, str(error)
            return
        keys = keys_of_rows(rows.reshape(written, stored.key_bytes)[:n])
        self._facts[stored.label] = ClassFacts(keys, table[:n], stored.n_frames, stored.n_units)

    def _read_chunk(self, file: str, n_bytes: int) -> bytes:
        """The bytes of a chunk.

        Raises:
            MemoryChangedError: it is gone, and the memory isn't the one that was opened.
            ChunkDamagedError: it can't be read.
        """
        try:
            with open(f"{self.path}/{file}", "rb", buffering=0) as handle:
                data = handle.read()
        except FileNotFoundError:
            self._check_unchanged()
            raise ChunkDamagedError("the file is missing") from None
        except OSError as error:
            raise ChunkDamagedError(f"the file can't be read: {error.strerror}") from None
        return decode_chunk(data, n_bytes)

    def _check_unchanged(self) -> None:
        try:
            generation, _ = read_root(_root_of(self.path), str(self.path / NODE_FILE))
        except DatasetError as error:
            raise MemoryChangedError(f"the memory was changed since it was opened: {error}") from None
        if generation != self.generation:
            raise MemoryChangedError(
                f"{self.path} was changed since it was opened (it is at generation {generation}, not "
                f"{self.generation}), and what was asked for was dropped; open it again"
            )


def _root_of(path: Path) -> bytes:
    try:
        return (path / NODE_FILE).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        there = "is not a folder" if path.is_file() else "is not a memory" if path.exists() else "doesn't exist"
        raise DatasetError(f"{path} {there}; give the path of a `memory.zarr`") from None
    except OSError as error:
        raise DatasetError(f"can't read {path / NODE_FILE}: {error.strerror}") from None
