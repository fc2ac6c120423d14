"""A zarr store whose changes become part of the hierarchy in one atomic, durable step."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype

from vclimb.pipeline.system.durable import replace_file, sync_all

NODE_FILE = "zarr.json"
"""Name of the file that holds the metadata of a group or an array."""


def folders_of(files: Iterable[str]) -> set[str]:
    """The folders that some files lie in, and the folders of these, up to the top, which is empty."""
    folders: set[str] = set()
    for folder in {os.path.dirname(file) for file in files}:
        while folder not in folders:
            folders.add(folder)
            folder = os.path.dirname(folder)  # up to the top
    return folders


class AtomicStore(Store):
    """A folder, which need not exist yet, that holds a zarr hierarchy, one file for each key.

    The root's `zarr.json`, with the consolidated metadata of all nodes, says what the hierarchy holds. Replacing it is
    what changes the hierarchy, all of it at once. Until `publish` does that, new chunks lie in files that no metadata
    names, new metadata is held in memory, and deletions are only noted. Readers by this class or by any other see the
    hierarchy as it was.

    A published chunk can't be written again: a reader of the published hierarchy would get bytes of two generations.
    Write it under another name, and delete the old one.

    Attributes:
        sizes: Key -> bytes, of all keys as they will be published.
    """

    supports_writes: bool = True
    supports_deletes: bool = True
    supports_listing: bool = True

    def __init__(self, root: Path | str, *, read_only: bool = False) -> None:
        super().__init__(read_only=read_only)
        self.root = Path(root)
        files = [f"{place}/{name}" for place, _, names in os.walk(self.root) for name in names]
        self.sizes = {file[len(str(self.root)) + 1 :]: os.lstat(file).st_size for file in files}
        self._metadata: dict[str, bytes] = {}  # set since the last publication
        self._chunks: set[str] = set()  # written since the last publication
        self._folders: set[str] = set()  # that chunks were written to
        self._changed: set[str] = set()  # set or deleted since the last publication
        self._lock = threading.Lock()
        self._is_ended = False

    def with_read_only(self, read_only: bool = False) -> AtomicStore:
        return AtomicStore(self.root, read_only=read_only)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AtomicStore) and self.root == other.root

    def __hash__(self) -> int:
        return hash(self.root)

    def __repr__(self) -> str:
        return f"AtomicStore({str(self.root)!r})"

    def __str__(self) -> str:
        return f"file://{self.root.as_posix()}"

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(AtomicStore, read_only=self.read_only), (self.root,)

    def is_changed_beside(self, folder: str) -> bool:
        """Whether keys outside of a folder were set or deleted."""
        return any(not key.startswith(f"{folder}/") for key in self._changed)

    def publish(self) -> None:
        """Bring all changes to the disk and let the hierarchy be what they make of it. Ends this store.

        Files of deleted keys stay, and so does the metadata of nodes other than the root where it has changed:
        `tidy` brings both in line with the root.

        Raises:
            OSError: the disk is full, or the like. The hierarchy is the old one, or, where the last sync failed, the
                new one.
        """
        new_nodes = {key: data for key, data in self._metadata.items() if not (self.root / key).exists()}
        root = self._metadata[NODE_FILE]
        new_nodes.pop(NODE_FILE, None)
        # A folder is a zarr node once it has its metadata: readers that list folders find a new node whole or not.
        tops = {key for key in new_nodes if f"{os.path.dirname(os.path.dirname(key))}/{NODE_FILE}" not in new_nodes}
        for key in new_nodes:
            (self.root / key).parent.mkdir(parents=True, exist_ok=True)
        for key in new_nodes.keys() - tops:
            (self.root / key).write_bytes(new_nodes[key])
        files = self._chunks | (new_nodes.keys() - tops)
        sync_all(f"{self.root}/{key}" for key in sorted(files))
        sync_all(f"{self.root}/{folder}" for folder in folders_of(files | tops))
        for key in sorted(tops):
            replace_file(self.root / key, new_nodes[key])
        replace_file(self.root / NODE_FILE, root)
        self.end()

    def end(self) -> None:
        """Refuse further changes, also those of zarr's threads that are still at work after an error."""
        with self._lock:
            self._is_ended = True

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        await self._ensure_open()
        if key not in self.sizes:
            return None
        try:
            data = self._metadata[key] if key in self._metadata else (self.root / key).read_bytes()
        except FileNotFoundError:  # a writer has removed it since
            return None
        match byte_range:
            case None:
                pass
            case RangeByteRequest(start, end):
                data = data[start:end]
            case OffsetByteRequest(offset):
                data = data[offset:]
            case SuffixByteRequest(suffix):
                data = data[max(0, len(data) - suffix) :]
            case _:
                raise TypeError(f"Unexpected byte_range, got {byte_range}.")
        buffer: Buffer = prototype.buffer.from_bytes(data)
        return buffer

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def exists(self, key: str) -> bool:
        return key in self.sizes

    async def set(self, key: str, value: Buffer) -> None:
        await self._ensure_open()
        self._check_writable()
        self.write(key, value.to_bytes())

    def write(self, key: str, data: bytes) -> None:
        """Set a key.

        Raises:
            ValueError: the store has ended, or the key is that of a published chunk.
        """
        with self._lock:
            if self._is_ended:
                raise ValueError(f"the changes of {self.root} were published or given up; open the store again")
            if os.path.basename(key) == NODE_FILE:
                self._metadata[key] = data
            else:
                self._write_chunk(key, data)
            self._changed.add(key)
            self.sizes[key] = len(data)

    def _write_chunk(self, key: str, data: bytes) -> None:
        folder = os.path.dirname(key)
        if folder not in self._folders:
            os.makedirs(f"{self.root}/{folder}", exist_ok=True)
            self._folders.add(folder)
        try:
            with open(f"{self.root}/{key}", "wb" if key in self._chunks else "xb") as file:
                self._chunks.add(key)
                file.write(data)
        except FileExistsError:
            raise ValueError(f"chunk {key} of {self.root} is published; write another one and delete this") from None

    def drop_files(self, keys: Iterable[str]) -> None:
        """Remove the files of chunks that were written since the last publication. They still count in `sizes`.

        The keys must be deleted before the changes are published.
        """
        with self._lock:
            for key in keys:
                if key in self._chunks:
                    (self.root / key).unlink(missing_ok=True)

    async def delete(self, key: str) -> None:
        await self._ensure_open()
        self._check_writable()
        with self._lock:
            self._metadata.pop(key, None)
            self.sizes.pop(key, None)
            self._changed.add(key)
            if key in self._chunks:
                self._chunks.remove(key)
                (self.root / key).unlink(missing_ok=True)

    async def list(self) -> AsyncIterator[str]:
        for key in sorted(self.sizes):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        for key in sorted(self.sizes):
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        start = f"{folder}/" if (folder := prefix.rstrip("/")) else ""
        for name in sorted({key[len(start) :].split("/")[0] for key in self.sizes if key.startswith(start)}):
            yield name
