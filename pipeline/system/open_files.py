"""Files that are open for reading: regular ones only, and never more than the system allows this process."""

from __future__ import annotations

import errno
import os
import resource
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vclimb.pipeline.errors import TooManyFilesError

_SHARE = 4
"""One in this many files that a process may open is kept open: pipes, sockets and libraries need the others."""
_LEAST = 8


@contextmanager
def open_files_explained() -> Iterator[None]:
    """Turn the system's refusal to open another file into a `TooManyFilesError`."""
    try:
        yield
    except TooManyFilesError:
        raise
    except OSError as error:
        if error.errno == errno.EMFILE:
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            raise TooManyFilesError(
                f"this process may open no more than {limit} files (`ulimit -n`); "
                f"raise the limit, e.g. `ulimit -n {max(1024, 4 * limit)}`, or use fewer workers"
            ) from None
        if error.errno == errno.ENFILE:
            raise TooManyFilesError(
                "the system lets all processes together open no more files; end others, or raise fs.file-max"
            ) from None
        raise


def open_regular(path: Path | str) -> int:
    """Open a regular file for reading, and return its descriptor.

    Pipes and devices are refused: opening or reading them may wait, or never end.

    Raises:
        TooManyFilesError: The system opens no more files.
        OSError: The file can't be opened, or isn't a regular one.
    """
    with open_files_explained():
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return descriptor


class OpenFile:
    """A file that is open for reading, until the last reference to this object is gone."""

    _close = staticmethod(os.close)  # kept here: at the end of the process, modules may be gone before this object

    def __init__(self, path: Path) -> None:
        self.descriptor = -1
        self.descriptor = open_regular(path)
        self.n_bytes = os.fstat(self.descriptor).st_size

    def __del__(self) -> None:
        if self.descriptor >= 0:
            self._close(self.descriptor)


class OpenFiles:
    """The files of a process that stay open between reads: those used last. Safe to use from several threads.

    A file that is dropped while another thread reads it is closed when that thread is done.
    """

    def __init__(self) -> None:
        self._files: OrderedDict[tuple[int, str], OpenFile] = OrderedDict()
        self._lock = threading.RLock()  # a finalizer may close files in the middle of `get`

    def get(self, owner: int, path: Path) -> OpenFile:
        """A file, opened anew unless it is open for this owner. Raises what `open_regular` raises."""
        key = (owner, path.name)
        with self._lock:
            if (file := self._files.get(key)) is not None:
                self._files.move_to_end(key)
                return file
            limit = max(_LEAST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _SHARE)
            while len(self._files) >= limit:
                self._files.popitem(last=False)
            file = self._files[key] = OpenFile(path)
            # Frames are read in random order, so reading ahead would be wasted.
            os.posix_fadvise(file.descriptor, 0, 0, os.POSIX_FADV_RANDOM)
            return file

    def close(self, owner: int) -> None:
        """Close the files of an owner."""
        with self._lock:
            for key in [key for key in self._files if key[0] == owner]:
                del self._files[key]


OPEN_FILES = OpenFiles()
"""The open files of this process."""
