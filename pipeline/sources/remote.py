"""Raw videos in a bucket: a folder of this machine that looks like theirs, and the fetching of one video at a time.

The folder has annotation files as they are, and each video as a file of its size and time of change that takes no
space. So sources are read as on a disk, and a process that needs a video's bytes fetches that one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vclimb.pipeline.errors import SourceError, VideoError
from vclimb.pipeline.sources.annotations import TABLE_SUFFIXES
from vclimb.pipeline.sources.tree import VIDEO_SUFFIXES
from vclimb.pipeline.system.bucket import Bucket, ObjectFacts
from vclimb.pipeline.system.paths import user_cache

_MAX_ANNOTATION_BYTES = 10**9
_CLOCK_SECONDS = 1e-3  # within which two times of change are the same


@dataclass(frozen=True)
class RemoteFile:
    """A video of a bucket.

    Attributes:
        bucket: Bucket of the source.
        name: Name of the object, relative to the source.
        stand_in: File of this machine with the object's size and time of change.
    """

    bucket: Bucket
    name: str
    stand_in: Path

    @contextmanager
    def fetched(self, path: Path) -> Iterator[Path]:
        """Copy the video to a path of this machine, until the block ends.

        Raises:
            VideoError: The object can't be read.
        """
        try:
            try:
                self.bucket.download(self.name, path)
            except FileNotFoundError:
                raise VideoError("open", "no such object") from None
            except OSError as error:
                if not str(error.filename).startswith(str(self.bucket)):  # an error of the disk
                    raise
                raise VideoError("open", error.strerror or str(error)) from None
            status = self.stand_in.stat()
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
            yield path
        finally:
            path.unlink(missing_ok=True)


Source = Path | RemoteFile
"""A raw video: a file of this machine, or an object."""


@dataclass(frozen=True)
class RemoteSource:
    """A source in a bucket.

    Attributes:
        bucket: The objects of the source.
        root: Folder of this machine that stands for it.
        source: Path in it, for the URL that was given: the folder, or a table.
    """

    bucket: Bucket
    root: Path
    source: Path

    def file(self, path: str) -> RemoteFile:
        """The video at a path relative to the root."""
        return RemoteFile(self.bucket, path, self.root / path)


def open_remote(url: str) -> RemoteSource:
    """List a source by its URL, and bring the folder that stands for it up to it.

    Raises:
        SourceError: There is nothing below the URL, or it can't be listed, or a name is no path of a file.
    """
    is_table = PurePosixPath(url).suffix.lower() in TABLE_SUFFIXES
    folder_url, _, name = url.rstrip("/").rpartition("/") if is_table else (url, "", "")
    bucket = Bucket(folder_url)
    try:
        objects = bucket.list()
    except OSError as error:
        raise SourceError(f"can't list {bucket}: {error.strerror or error}") from None
    if not objects:
        raise SourceError(f"there is nothing below {bucket}")
    digest = hashlib.sha256(bucket.url.encode()).hexdigest()[:16]
    root = user_cache("sources") / digest / bucket.url.rpartition("/")[2]
    wanted = {root / _checked(bucket, name): facts for name, facts in objects.items()}
    for path in [path for path in root.rglob("*") if path not in wanted and not path.is_dir()]:
        path.unlink()
    for path, facts in wanted.items():
        status = path.stat() if path.exists() else None
        if status is None or status.st_size != facts.n_bytes or abs(status.st_mtime - facts.modified) > _CLOCK_SECONDS:
            _stand_in(bucket, path.relative_to(root).as_posix(), path, facts)
    for folder in sorted((path for path in root.rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
    return RemoteSource(bucket, root, root / name if is_table else root)


def _checked(bucket: Bucket, name: str) -> str:
    if name.startswith("/") or any(part in ("", ".", "..") for part in name.split("/")):
        raise SourceError(f"the object {name!r} of {bucket} has no name that a file can have; rename it")
    return name


def _stand_in(bucket: Bucket, name: str, path: Path, facts: ObjectFacts) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() in VIDEO_SUFFIXES or facts.n_bytes > _MAX_ANNOTATION_BYTES:
        with open(path, "wb") as file:
            file.truncate(facts.n_bytes)
    else:
        try:
            bucket.download(name, path)
        except OSError as error:
            raise SourceError(f"can't read {bucket}/{name}: {error.strerror or error}") from None
    os.utime(path, (facts.modified, facts.modified))
