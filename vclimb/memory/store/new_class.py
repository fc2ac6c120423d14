"""A class on its way into a memory: its exemplars are files already, but no index names them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vclimb.memory.store.chunk_codec import encode_chunk
from vclimb.memory.store.class_table import ClassFacts
from vclimb.memory.store.exemplar import Exemplar
from vclimb.memory.store.layout import ARRAYS, CLASSES, FACTS, KEY, NODE_FILE, ONLY_CHUNK, StoredClass, node_bytes
from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.system.durable import replace_file, sync, sync_all

# What readers of zarr bear in one chunk.
MAX_EXEMPLAR_BYTES = 2**31 - 1


@dataclass(frozen=True)
class NewClass:
    """A class to add to a memory.

    Attributes:
        label: label id.
        name: of the class; any characters.
        encoding: how the exemplars were encoded, such as `jpeg:75@128`.
        exemplars: by rank, the most important first. All of one codec.
    """

    label: int
    name: str
    encoding: str
    exemplars: Sequence[Exemplar]

    def __post_init__(self) -> None:
        what = f"class {self.name!r} (label id {self.label})"
        if self.label < 0:
            raise SettingsError(f"{what} can't be stored: a label id is 0 or more")
        if not self.exemplars:
            raise SettingsError(f"{what} has no exemplars to store; leave it out")
        codecs = sorted({exemplar.clip.codec for exemplar in self.exemplars})
        if len(codecs) > 1:
            raise SettingsError(f"{what} has exemplars of the codecs {', '.join(codecs)}; a class is stored in one")
        if (largest := max(exemplar.payload_bytes for exemplar in self.exemplars)) > MAX_EXEMPLAR_BYTES:
            raise SettingsError(
                f"{what} has an exemplar of {largest} bytes; allowed: {MAX_EXEMPLAR_BYTES}. Keep fewer frames of it"
            )


@dataclass
class StagedClass:
    """What was written of a new class.

    Attributes:
        path: of the memory.
        written: the class if all of it is kept.
        facts: on all of its exemplars.
        exemplar_bytes: on disk, of each exemplar's frames, by rank.
    """

    path: Path
    written: StoredClass
    facts: ClassFacts
    exemplar_bytes: list[int] = field(default_factory=list)
    # The facts' chunks by the number of exemplars kept: whoever fits a budget asks for the sizes of many.
    _encoded: dict[int, dict[str, bytes]] = field(default_factory=dict, repr=False)

    @classmethod
    def write(cls, path: Path, new: NewClass, generation: int) -> StagedClass:
        """Write the exemplars' frames into a memory's folder. A failure leaves nothing behind.

        Raises:
            SettingsError: exemplars that can't be stored.
            OSError: the disk is full, or the like.
        """
        facts = ClassFacts.of(new.exemplars)
        stored = StoredClass(
            label=new.label,
            name=new.name,
            encoding=new.encoding,
            codec=new.exemplars[0].clip.codec,
            generation=generation,
            n_exemplars=len(facts),
            n_written=len(facts),
            row_bytes=max(1, int(facts.payload_bytes.max())),  # no chunk of zarr's is empty
            n_frames=facts.n_frames,
            n_units=facts.n_units,
            key_bytes=facts.key_rows().shape[1],
        )
        staged = cls(path, stored, facts)
        try:
            for array in ARRAYS:
                (path / stored.folder / array).mkdir(parents=True)
            for rank, exemplar in enumerate(new.exemplars):
                chunk = encode_chunk(b"".join(exemplar.clip.units).ljust(stored.row_bytes, b"\0"))
                (path / stored.chunk(rank)).write_bytes(chunk)
                staged.exemplar_bytes.append(len(chunk))
        except BaseException:
            shutil.rmtree(path / stored.folder, ignore_errors=True)
            raise
        return staged

    def stored(self, n_exemplars: int) -> StoredClass:
        """The class if its first exemplars are kept."""
        return replace(self.written, n_exemplars=n_exemplars, n_written=n_exemplars)

    def facts_bytes(self, n_exemplars: int) -> int:
        """Bytes of the files that hold the facts on its first exemplars."""
        return sum(map(len, self._facts_chunks(n_exemplars).values()))

    def seal(self, n_exemplars: int) -> StoredClass:
        """Bring the class's files to the disk as they are to be if its first exemplars are kept.

        Raises:
            OSError: the disk is full, or the like.
        """
        stored, folder = self.stored(n_exemplars), self.path / self.written.folder
        for rank in range(n_exemplars, self.written.n_exemplars):
            (self.path / stored.chunk(rank)).unlink()
        files = {f"{place}/{NODE_FILE}": node_bytes(node) for place, node in stored.nodes().items()}
        files |= {f"{stored.folder}/{array}/{ONLY_CHUNK}": c for array, c in self._facts_chunks(n_exemplars).items()}
        # A folder is a zarr group once it has this file: readers that look for groups find it whole or not at all.
        group = files.pop(f"{stored.folder}/{NODE_FILE}")
        for name, data in files.items():
            (self.path / name).write_bytes(data)
        sync_all(self.path / name for name in [*files, *map(stored.chunk, range(n_exemplars))])
        sync_all(folder / array for array in ARRAYS)
        replace_file(folder / NODE_FILE, group)
        sync(self.path / CLASSES)
        return stored

    def _facts_chunks(self, n_exemplars: int) -> dict[str, bytes]:
        if n_exemplars not in self._encoded:
            self._encoded[n_exemplars] = {
                FACTS: encode_chunk(self.facts.table[:n_exemplars].astype("<i8").tobytes()),
                KEY: encode_chunk(self.facts.key_rows()[:n_exemplars].tobytes()),
            }
        return self._encoded[n_exemplars]
