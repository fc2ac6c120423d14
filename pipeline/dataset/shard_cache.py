"""Whole shards of a bucket on a disk of this machine, within a limit of bytes, shared by all of its processes.

Of each shard, the tar and the frame index are copied. Files are named by the SHA-256 that the catalog has of them, so
that runs, and copies of a data set, share them. One is copied once, by the process that holds its lock, and has its
name once it is whole and its bytes are those of the catalog. To make room, those used longest ago are removed.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from vclimb.pipeline.dataset.cache_settings import CacheSettings
from vclimb.pipeline.dataset.shard import ShardFiles, shard_paths
from vclimb.pipeline.errors import DatasetError, SettingsError, TargetBusyError, VclimbError
from vclimb.pipeline.system.bucket import Bucket
from vclimb.pipeline.system.folders import held_file, is_held, make_folder, writable

_DOWNLOADS = 8  # shards that a process copies at a time
_USED_EVERY_SECONDS = 10.0  # a shard in use is marked as such this often
_SUFFIXES, _UNFINISHED, _COMING = (".tar", ".npy"), ".part", ".coming"
_LONGEST_WAIT_SECONDS = 10.0
_LOOK_EVERY_SECONDS = 0.005


class _Object(NamedTuple):
    sha256: str
    n_bytes: int


def index_name(tar: str) -> str:
    """Name of the frame index of a shard, by that of its tar."""
    return shard_paths(Path(), tar.removesuffix(".tar"))[2].name


def index_bytes(files: ShardFiles) -> int:
    """Size of a shard's frame index: three int64 a frame, and a header of 128 bytes."""
    return 24 * files.n_frames + 128


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
        self._objects: dict[str, _Object] = {}
        sizes = []
        for files in shards:
            tar, index = _Object(files.tar_sha256, files.tar_bytes), _Object(files.frames_sha256, index_bytes(files))
            self._objects |= {files.tar: tar, index_name(files.tar): index}
            sizes.append(tar.n_bytes + index.n_bytes)
        sizes.sort(reverse=True)
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
        return name in self._objects

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
            self._wait_for_another(path)
            if not path.exists():
                self._copy(name)

    def fetch_ahead(self, names: Sequence[str]) -> None:
        """Begin to copy shards, in order, beside whatever this process does. What fails is met again by `open`."""
        with self._lock:
            if self._downloads is None:
                self._downloads = ThreadPoolExecutor(_DOWNLOADS, thread_name_prefix="shards")
            for name in names:
                if name in self._objects and name not in self._requested:
                    self._requested.add(name)
                    with writable(self.settings.folder):
                        self._path(name).with_suffix(_COMING).touch()
                    self._downloads.submit(self._fetch, name)

    def close(self) -> None:
        """Give up what isn't copied yet."""
        with self._lock:
            downloads, self._downloads = self._downloads, None
        if downloads is not None:
            downloads.shutdown(wait=True, cancel_futures=True)
        for name in self._requested:
            self._path(name).with_suffix(_COMING).unlink(missing_ok=True)
        self._requested.clear()

    def __getstate__(self) -> tuple[CacheSettings, Bucket, dict[str, _Object]]:
        return self.settings, self._bucket, self._objects

    def __setstate__(self, state: tuple[CacheSettings, Bucket, dict[str, _Object]]) -> None:
        self.settings, self._bucket, self._objects = state
        self._start()

    def _path(self, name: str) -> Path:
        return self.settings.folder / f"{self._objects[name].sha256}{Path(name).suffix}"

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
            self._path(name).with_suffix(_COMING).unlink(missing_ok=True)
            with self._lock:
                self._requested.discard(name)

    def _wait_for_another(self, path: Path) -> None:
        """Wait for a shard that another process has said it copies: it need not connect to the bucket for that.

        Not for ever, since that process may have been killed; then this one copies the shard.
        """
        coming, until = path.with_suffix(_COMING), time.monotonic() + _LONGEST_WAIT_SECONDS
        while coming.exists() and not path.exists() and time.monotonic() < until:
            time.sleep(_LOOK_EVERY_SECONDS)

    def _mark_used(self, name: str, path: Path) -> None:
        now = time.monotonic()
        if now - self._used.get(name, -_USED_EVERY_SECONDS) >= _USED_EVERY_SECONDS:
            self._used[name] = now
            with suppress(FileNotFoundError):
                os.utime(path)

    def _copy(self, name: str) -> None:
        """Copy a shard into the cache, unless another process or thread does so first."""
        wanted, path = self._objects[name], self._path(name)
        folder = self.settings.folder
        with writable(folder), held_file(path.with_suffix(".lock"), "", waits=True):
            if path.exists():  # it was copied while this process waited
                return
            unfinished = folder / f"{wanted.sha256}-{wanted.n_bytes}{_UNFINISHED}"
            self._make_room(wanted.n_bytes, unfinished)
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
            if digest != wanted.sha256:
                unfinished.unlink()
                raise DatasetError(
                    f"{self._bucket}/{name} is damaged: its SHA-256 is {digest}, and that of its record "
                    f"{wanted.sha256}; run vclimb verify {self._bucket}"
                )
            unfinished.rename(path)
            path.with_suffix(_COMING).unlink(missing_ok=True)

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
                elif path.suffix in _SUFFIXES:
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
        lock = path.with_name(f"{digest}.lock")
        if is_held(lock):
            return int(n_bytes)
        try:
            with held_file(lock, "another process copies it"):
                path.unlink(missing_ok=True)
        except TargetBusyError:
            return int(n_bytes)
        return 0
