"""Reading the files of a data set, whole or in byte ranges, from a local folder or any URL that fsspec opens.

`open_storage` is the border: code above it sees a `Storage` and never asks where the files lie. Only the requested
ranges are read: the file system reads nothing ahead, and on a remote store two neighbouring ranges are merged only
where the gap is less than a tenth of the second range.
"""

from __future__ import annotations

import io
import itertools
import mmap
import os
import tempfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from io import BufferedIOBase
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from vclimb.pipeline.dataset.shard_cache import ShardCache
from vclimb.pipeline.errors import DatasetError, TooManyFilesError
from vclimb.pipeline.system.bucket import Bucket
from vclimb.pipeline.system.open_files import OPEN_FILES, open_files_explained, open_regular
from vclimb.pipeline.system.paths import is_url, local_path

DEFAULT_CACHE_BYTES = 2**30
MAX_GAP_SHARE = 0.1


class Storage(Protocol):
    """Read access to the files of a data set. Safe to use from several threads."""

    bytes_read: int  # Number of bytes read from the disk or the network so far.

    def read(self, name: str) -> bytes:
        """Read a whole file. Raises FileNotFoundError, and an OSError for what isn't a regular file."""
        ...

    def open(self, name: str) -> BufferedIOBase:
        """Open a whole file, with the errors of `read`. The content stays the same where the file is replaced."""
        ...

    def view(self, name: str) -> memoryview:
        """The content of a file that is kept in use: mapped, without an open file, where it is on this machine."""
        ...

    def read_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Read the bytes of each (offset, size), in order. Raises DatasetError where the file is too short."""
        ...

    def names(self) -> list[str]:
        """Names of the files and folders at the top of the data set, in order."""
        ...

    def fetched(self, names: Sequence[str]) -> AbstractContextManager[Path]:
        """A folder of this machine that holds these files, as far as they are there, until the block ends."""
        ...

    def fetch_ahead(self, names: Sequence[str]) -> None:
        """Prepare for reading ranges of these files, in order, without waiting for it."""
        ...

    def close(self) -> None: ...


_owners = itertools.count()


class LocalStorage:
    """A folder of this machine, whose files are read by `pread`, frame by frame, and stay open while they may."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bytes_read = 0
        self._owner = next(_owners)
        weakref.finalize(self, OPEN_FILES.close, self._owner).atexit = False

    def __str__(self) -> str:
        return str(self.folder)

    def read(self, name: str) -> bytes:
        with self.open(name) as file:
            return file.read()

    def open(self, name: str) -> BufferedIOBase:
        file = os.fdopen(open_regular(self.folder / name), "rb")
        self.bytes_read += os.fstat(file.fileno()).st_size
        return file

    def view(self, name: str) -> memoryview:
        os.close(open_regular(self.folder / name))
        with open_files_explained(), pa.memory_map(str(self.folder / name)) as file:
            return memoryview(file.read_buffer())  # the mapping stays, the file is closed

    def read_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        try:
            file = OPEN_FILES.get(self._owner, self.folder / name)
        except TooManyFilesError:
            raise
        except OSError as error:
            raise DatasetError(f"can't open {self.folder / name}: {error.strerror}") from None
        for offset, size in ranges:
            if offset + size > file.n_bytes:
                raise DatasetError(
                    f"{self.folder / name} ends within the {size} bytes at byte {offset}; run vclimb verify"
                )
        try:
            pieces = [os.pread(file.descriptor, size, offset) for offset, size in ranges]
        except OSError as error:  # of the disk, or of the network that it is mounted over
            raise DatasetError(f"{self.folder / name} can't be read: {error.strerror}") from None
        self.bytes_read += sum(map(len, pieces))
        if any(len(piece) != size for piece, (_, size) in zip(pieces, ranges, strict=True)):
            raise DatasetError(f"{self.folder / name} was cut off while it was read; run vclimb verify")
        return pieces

    def names(self) -> list[str]:
        return sorted(os.listdir(self.folder))

    def fetched(self, names: Sequence[str]) -> AbstractContextManager[Path]:
        return nullcontext(self.folder)

    def fetch_ahead(self, names: Sequence[str]) -> None:
        """Do nothing: the files are on this machine."""

    def close(self) -> None:
        OPEN_FILES.close(self._owner)

    def __reduce__(self) -> tuple[type[LocalStorage], tuple[Path]]:
        return LocalStorage, (self.folder,)  # open files don't travel between processes


class RemoteStorage:
    """A URL that fsspec opens (`s3://`, `gs://`, `memory://`, ...), with a bounded cache of the latest ranges.

    With `shards`, ranges of shards are read from whole copies on a disk of this machine.
    """

    def __init__(self, url: str, cache_bytes: int = DEFAULT_CACHE_BYTES, shards: ShardCache | None = None) -> None:
        self.bucket = Bucket(url)
        self.shards = shards
        self.url = self.bucket.url
        self.bytes_read = 0
        self._cache_bytes = cache_bytes
        self._cached_bytes = 0
        self._cache: OrderedDict[tuple[str, int, int], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return self.url

    def read(self, name: str) -> bytes:
        data: bytes = self.bucket.read(name)
        self.bytes_read += len(data)
        return data

    def open(self, name: str) -> BufferedIOBase:
        return io.BytesIO(self.read(name))

    def view(self, name: str) -> memoryview:
        if self.shards is None or name not in self.shards:
            return memoryview(self.read(name))
        descriptor = self.shards.open(name)
        try:
            return memoryview(mmap.mmap(descriptor, 0, prot=mmap.PROT_READ))
        finally:
            os.close(descriptor)

    def read_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        if self.shards is not None and name in self.shards:
            return self._read_copy(self.shards, name, ranges)
        pieces_by_range = {range_: self._cached(name, range_) for range_ in ranges}
        missing = sorted(range_ for range_, data in pieces_by_range.items() if data is None)
        spans = merge_ranges(missing)
        starts, ends = [start for start, _ in spans], [end for _, end in spans]
        try:
            pieces = self.bucket.read_spans(name, spans)
        except OSError as error:
            raise DatasetError(f"can't read {self.url}/{name}: {error.strerror or error}") from None
        self.bytes_read += sum(map(len, pieces))
        span = 0
        for offset, size in missing:
            while offset >= ends[span]:
                span += 1
            data = pieces[span][offset - starts[span] : offset - starts[span] + size]
            if len(data) != size:
                raise DatasetError(
                    f"{self.url}/{name} ends within the {size} bytes at byte {offset}; run vclimb verify"
                )
            pieces_by_range[offset, size] = data
            self._keep((name, offset, size), data)
        return [piece for range_ in ranges if (piece := pieces_by_range[range_]) is not None]

    def names(self) -> list[str]:
        return sorted({name.partition("/")[0] for name in self.bucket.list()})

    @contextmanager
    def fetched(self, names: Sequence[str]) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="vclimb-") as folder:
            for name in names:
                with suppress(FileNotFoundError):
                    self.bucket.download(name, Path(folder) / name)
            yield Path(folder)

    def fetch_ahead(self, names: Sequence[str]) -> None:
        if self.shards is not None:
            self.shards.fetch_ahead(names)

    def _read_copy(self, shards: ShardCache, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        descriptor = shards.open(name)
        try:
            pieces = [os.pread(descriptor, size, offset) for offset, size in ranges]
        except OSError as error:
            raise DatasetError(f"the copy of {self.url}/{name} can't be read: {error.strerror}") from None
        finally:
            os.close(descriptor)
        if any(len(piece) != size for piece, (_, size) in zip(pieces, ranges, strict=True)):
            raise DatasetError(f"{self.url}/{name} ends within a frame; run vclimb verify")
        return pieces

    def _cached(self, name: str, range_: tuple[int, int]) -> bytes | None:
        with self._lock:
            key = (name, *range_)
            if key in self._cache:
                self._cache.move_to_end(key)
            return self._cache.get(key)

    def _keep(self, key: tuple[str, int, int], data: bytes) -> None:
        with self._lock:
            if key not in self._cache:
                self._cache[key] = data
                self._cached_bytes += len(data)
            while self._cached_bytes > self._cache_bytes:
                _, oldest = self._cache.popitem(last=False)
                self._cached_bytes -= len(oldest)

    def close(self) -> None:
        if self.shards is not None:
            self.shards.close()
        with self._lock:
            self._cache.clear()
            self._cached_bytes = 0

    def __reduce__(self) -> tuple[type[RemoteStorage], tuple[str, int, ShardCache | None]]:
        # Locks and cached bytes don't travel between processes.
        return RemoteStorage, (self.url, self._cache_bytes, self.shards)


def merge_ranges(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Merge sorted (offset, size) ranges into spans (start, end): fewer requests for at most a tenth more bytes."""
    spans: list[list[int]] = []
    for offset, size in ranges:
        if spans and offset - spans[-1][1] <= MAX_GAP_SHARE * size:
            spans[-1][1] = max(spans[-1][1], offset + size)
        else:
            spans.append([offset, offset + size])
    return [(start, end) for start, end in spans]


def open_storage(location: Path | str) -> Storage:
    """Open the storage of a data set, by its folder or URL. Raises a SettingsError where neither can be meant."""
    if is_url(location):
        return RemoteStorage(str(location))
    return LocalStorage(local_path(location))
