"""Objects below a URL that fsspec opens (`s3://`, `gs://`, `memory://`, ...): all use of fsspec is here.

Whatever a library raises becomes an OSError that names the object. Credentials and the endpoint are those of the
library's environment variables and files.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from vclimb.pipeline.errors import SettingsError

_LIBRARIES = ("botocore", "aiobotocore", "aiohttp", "s3fs", "gcsfs", "google", "adlfs", "azure", "requests")

# Answers of S3 to a conditional write where the object is there (412), and where another is writing it (409).
_ALREADY_THERE = ("PreconditionFailed", "ConditionalRequestConflict", "pre-conditions")


@dataclass(frozen=True)
class ObjectFacts:
    n_bytes: int  # Size of the object.
    modified: float  # Time of the last change, in seconds since 1970; 0 where the store keeps none.


class Bucket:
    """The objects below a URL, by their names relative to it. Safe to use from several threads and to pickle.

    Raises a SettingsError where fsspec knows no such scheme, or the library for it is not installed.
    """

    def __init__(self, url: str) -> None:
        import fsspec  # takes 0.1 s

        self.url = url.rstrip("/")
        try:
            self._system, self._root = fsspec.core.url_to_fs(self.url)
        except ImportError as error:
            extra = "; pip install 'vclimb[s3]'" if self.url.startswith("s3") else ""
            raise SettingsError(f"can't open {self.url}: {error}{extra}") from None
        except ValueError as error:
            raise SettingsError(f"can't open {self.url}: {error}") from None

    def __str__(self) -> str:
        return self.url

    def __reduce__(self) -> tuple[type[Bucket], tuple[str]]:
        return Bucket, (self.url,)  # connections don't travel between processes

    def read(self, name: str) -> bytes:
        """Read a whole object. Raises FileNotFoundError where there is none."""
        with self._explained(name):
            data: bytes = self._system.cat_file(self._path(name))
        return data

    def read_spans(self, name: str, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """Read the bytes [start, end) of each span, one request for each; an object that ends before gives fewer."""
        if not spans:
            return []
        starts, ends = [start for start, _ in spans], [end for _, end in spans]
        with self._explained(name):
            pieces: list[bytes] = self._system.cat_ranges(
                [self._path(name)] * len(spans), starts, ends, on_error="raise"
            )
        return pieces

    def download(self, name: str, path: Path) -> None:
        """Copy an object to a file of this machine."""
        with self._explained(name):
            self._system.get_file(self._path(name), str(path))

    def upload(self, path: Path, name: str) -> None:
        """Copy a file of this machine to an object, which is there once it is whole."""
        with self._explained(name):
            self._system.put_file(str(path), self._path(name))

    def write(self, name: str, data: bytes) -> None:
        """Write an object, in place of an earlier one."""
        with self._explained(name):
            self._system.pipe_file(self._path(name), data)

    def create(self, name: str, data: bytes) -> bool:
        """Write an object unless there is one. Returns whether it was written. (S3: If-None-Match.)"""
        try:
            with self._explained(name):
                self._system.pipe_file(self._path(name), data, mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            if any(code in str(error) for code in _ALREADY_THERE):
                return False
            raise
        return True

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects; those that are gone are left out."""
        for name in names:
            try:
                with self._explained(name):
                    self._system.rm_file(self._path(name))
            except FileNotFoundError:
                pass

    def list(self, under: str = "") -> dict[str, ObjectFacts]:
        """Facts about all objects, or about those whose names begin with a folder's name, by name in order."""
        with self._explained(under):
            self._system.invalidate_cache()
            found = self._system.find(self._path(under) if under else self._root, detail=True)
        prefix = f"{self._system._strip_protocol(self._root).rstrip('/')}/"
        facts = {}
        for path, info in sorted(found.items()):
            name = path.removeprefix(prefix)
            if info.get("type") != "directory" and name and not name.endswith("/"):
                modified = info.get("LastModified") or info.get("created") or info.get("mtime")
                seconds = modified.timestamp() if isinstance(modified, datetime) else float(modified or 0)
                facts[name] = ObjectFacts(int(info["size"] or 0), seconds)
        return facts

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        """Turn the errors of libraries into an OSError with a `strerror` that names the object."""
        place = f"{self.url}/{name}" if name else self.url
        try:
            yield
        except (FileNotFoundError, FileExistsError):
            raise
        except OSError as error:
            if error.strerror:
                raise
            number = errno.EACCES if isinstance(error, PermissionError) else error.errno or errno.EIO
            raise OSError(number, " ".join(str(error).split()) or type(error).__name__, place) from None
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in _LIBRARIES:
                raise
            raise OSError(errno.EIO, " ".join(str(error).split()) or type(error).__name__, place) from None
