"""Whole shards of a bucket on a disk of this machine, within a limit of bytes, shared by all of its processes.

Files are named by the SHA-256 that the catalog has of them, so that runs, and copies of a data set, share them. A shard
is copied once, by the process that holds its lock, and has its name once it is whole and its bytes are those of the
catalog. To make room, the shards that were used longest ago are removed.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from vclimb.pipeline.dataset.cache_settings import CacheSettings
from vclimb.pipeline.dataset.shard import ShardFiles
from vclimb.pipeline.errors import DatasetError, SettingsError, TargetBusyError, VclimbError
from vclimb.pipeline.system.bucket import Bucket
from vclimb.pipeline.system.folders import held_file, make_folder, writable

_DOWNLOADS = 8  # shards that a process copies at a time
_USED_EVERY_SECONDS = 10.0  # a shard in use is marked as such this often
_UNFINISHED = ".part"


class ShardCache:
    """The shards of a bucket, through a cache. Safe to use from several threads and to pickle.

    Args:
        group: Number of shards that are read in any order, before those of the next group; 0: all of them.

    Raises:
        SettingsError: The cache is too small for the shards of two groups, those in use and those that come next.
        TargetError: The folder can't be made.
    """

    def __init__(self, bucket: Bucket, shards: Iterable[ShardFiles], settings: CacheSettings, group: int = 0) -> None:
        self.settings = settings
        self._bucket = bucket
        self._shards: Mapping[str, ShardFiles] = {files.tar: files for files in shards}
        sizes = sorted((files.tar_bytes for files in self._shards.values()), reverse=True)
        needed = sum(sizes[: 2 * group] if group else sizes)
        if needed > settings.max_bytes:
            what = f"two groups of {group} shards" if group else f"its {len(sizes)} shards, all shuffled together"
            raise SettingsError(
                f"reading {bucket} needs copies of {needed:,} bytes, {what}, and compute.cache_bytes is "
                f"{settings.max_bytes:,}; allow more, or take a smaller training.shard_group"
            )
        make_folder(settings.folder)
        self._start()

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._used: dict[str, float] = {}
        self._requested: set[str] = set()
        self._downloads: ThreadPoolExecutor | None = None

    def __contains__(self, name: str) -> bool:
        return name in self._shards

    def open(self, name: str) -> int:
        """Open a shard for reading, after copying it where needed. The descriptor stays good if the shard is removed.

        Raises a DatasetError where the shard can't be read or is not the one of the catalog, and a TargetError where
        the disk can't take it.
        """
        path = self._path(name)
        while True:
            with suppress(FileNotFoundError):
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                self._mark_used(name, path)
                return descriptor
            self._copy(name)

    def fetch_ahead(self, names: Sequence[str]) -> None:
        """Begin to copy shards, in order, beside whatever this process does. What fails is met again by `open`."""
        with self._lock:
            if self._downloads is None:
                self._downloads = ThreadPoolExecutor(_DOWNLOADS, thread_name_prefix="shards")
            for name in names:
                if name in self._shards and name not in self._requested:
                    self._requested.add(name)
                    self._downloads.submit(self._fetch, name)

    def close(self) -> None:
        """Give up what isn't copied yet."""
        with self._lock:
            downloads, self._downloads = self._downloads, None
            self._requested.clear()
        if downloads is not None:
            downloads.shutdown(wait=True, cancel_futures=True)

    def __getstate__(self) -> tuple[CacheSettings, Bucket, Mapping[str, ShardFiles]]:
        return self.settings, self._bucket, self._shards

    def __setstate__(self, state: tuple[CacheSettings, Bucket, Mapping[str, ShardFiles]]) -> None:
        self.settings, self._bucket, self._shards = state
        self._start()

    def _path(self, name: str) -> Path:
        return self.settings.folder / f"{self._shards[name].tar_sha256}.tar"

    def _fetch(self, name: str) -> None:
        try:
            path = self._path(name)
            if path.exists():
                self._mark_used(name, path)
            else:
                self._copy(name)
        except (VclimbError, OSError):
            pass  # the process that reads the shard meets the same, and says it
        finally:
            with self._lock:
                self._requested.discard(name)

    def _mark_used(self, name: str, path: Path) -> None:
        now = time.monotonic()
        if now - self._used.get(name, -_USED_EVERY_SECONDS) >= _USED_EVERY_SECONDS:
            self._used[name] = now
            with suppress(FileNotFoundError):
                os.utime(path)

    def _copy(self, name: str) -> None:
        """Copy a shard into the cache, unless another process or thread does so first."""
        files, path = self._shards[name], self._path(name)
        folder = self.settings.folder
        with writable(folder), held_file(path.with_suffix(".lock"), "", waits=True):
            if path.exists():  # it was copied while this process waited
                return
            unfinished = folder / f"{files.tar_sha256}-{files.tar_bytes}{_UNFINISHED}"
            self._make_room(files.tar_bytes, unfinished)
            try:
                self._bucket.download(name, unfinished)
            except FileNotFoundError:
                raise DatasetError(f"{self._bucket}/{name} is not there; run vclimb verify {self._bucket}") from None
            except OSError as error:
                if not str(error.filename).startswith(str(self._bucket)):  # an error of the disk
                    raise
                raise DatasetError(f"can't read {self._bucket}/{name}: {error.strerror}") from None
            with open(unfinished, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != files.tar_sha256:
                unfinished.unlink()
                raise DatasetError(
                    f"{self._bucket}/{name} is damaged: its SHA-256 is {digest}, and that of its record "
                    f"{files.tar_sha256}; run vclimb verify {self._bucket}"
                )
            unfinished.rename(path)

    def _make_room(self, n_bytes: int, unfinished: Path) -> None:
        """Make an unfinished file, after removing the shards used longest ago until it keeps within the limit.

        What killed processes left is removed too. The bytes of an unfinished file are in its name, so that processes
        that copy at the same time know of each other's.
        """
        folder = self.settings.folder
        with held_file(folder / "cache.lock", "", waits=True):
            found = []
            for path in folder.iterdir():
                if path.suffix == _UNFINISHED and path != unfinished:
                    n_bytes += self._bytes_of_unfinished(path)
                elif path.suffix == ".tar":
                    facts = path.stat()
                    found.append((facts.st_mtime, facts.st_size, path))
            total = n_bytes + sum(size for _, size, _ in found)
            for _, size, path in sorted(found):
                if total <= self.settings.max_bytes:
                    break
                path.unlink()
                total -= size
            unfinished.touch()

    def _bytes_of_unfinished(self, path: Path) -> int:
        """Bytes that a process has reserved; 0 where it was killed, and the file is removed."""
        digest, _, n_bytes = path.stem.partition("-")
        try:
            with held_file(path.with_name(f"{digest}.lock"), "another process copies it"):
                path.unlink(missing_ok=True)
        except TargetBusyError:
            return int(n_bytes)
        return 0
