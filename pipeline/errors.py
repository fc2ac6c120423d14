"""The tree of errors. Every error that a user can cause derives from `VclimbError` and is printed as one message.

Each error is also the built-in error that callers expect, so `except FileNotFoundError` and the like work. A message
says the bad value, the allowed ones, and what to do.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar

_MAX_SHOWN = 2000  # characters of a message


class VclimbError(Exception):
    """Base of all errors that are explained to the user without a traceback.

    The text is one line of bounded length, whatever files of others, or libraries, put into it: line breaks become
    spaces, and the middle of a longer text is left out.

    Attributes:
        exit_status: Exit status of a command that ends by the error.
    """

    exit_status: ClassVar[int] = 1

    def __str__(self) -> str:
        return _one_line(super().__str__())


def _one_line(text: str) -> str:
    text = " ".join(text.splitlines()).rstrip()
    n_cut, half = len(text) - _MAX_SHOWN, _MAX_SHOWN // 2
    return text if n_cut <= 0 else f"{text[:half]} ... ({n_cut:,} characters left out) ... {text[-half:]}"


class SourceError(VclimbError, ValueError):
    """The source (folder, table, annotation file) can't be read in the layout that was named."""


class SettingsError(VclimbError, ValueError):
    """A setting has a value that isn't allowed, or differs from what the data set was made with."""


class TargetError(VclimbError, OSError):
    """The place to write to can't take the data: disk full, read-only, not a data set of ours."""


class TargetBusyError(TargetError):
    """Another run is writing to the same folder."""


class GpuMemoryError(VclimbError, MemoryError):
    """A run doesn't fit into the memory of its GPU, or into what other processes leave of it."""

    exit_status = 3


class FfmpegMissingError(VclimbError, FileNotFoundError):
    """No usable ffmpeg was found."""


class WorkersStoppedError(VclimbError, RuntimeError):
    """The worker processes were ended from outside, such as by a scheduler that stops a job."""

    def __init__(self, message: str = "the worker processes were stopped from outside; run it again to go on") -> None:
        super().__init__(message)


class DatasetError(VclimbError, ValueError):
    """A prepared data set has an unknown format version, or is damaged."""


class DatasetMissingError(DatasetError, FileNotFoundError):
    """There is no prepared data set, or one of its files is missing."""


class DatasetFileError(DatasetError):
    """A file of a prepared data set is damaged, or doesn't fit the other files.

    Attributes:
        place: Folder or URL of the data set.
        file: Name of the file.
        problem: One sentence.
    """

    def __init__(self, place: str, file: str, problem: str) -> None:
        super().__init__(place, file, problem)
        self.place, self.file, self.problem = place, file, problem

    def __str__(self) -> str:
        return _one_line(
            f"{self.file} of {self.place} is damaged: {self.problem}; "
            "restore it from a copy, or prepare the data set again"
        )


class TooManyFilesError(VclimbError, OSError):
    """The system lets this process, or all processes together, open no more files."""


class FrameDamagedError(DatasetError):
    """The bytes of one frame don't decode. The message names key, shard and offset."""


@dataclass
class VideoError(VclimbError, ValueError):
    """One video could not be prepared. It becomes a row of `errors.jsonl` and never stops a run.

    Attributes:
        stage: Stage that failed: `find`, `open`, `probe`, `transcode`, `verify` or `label`.
        reason: One sentence.
        stderr: ffmpeg's messages, one line of each kind, or an empty string.
    """

    stage: str
    reason: str
    stderr: str = ""

    def __str__(self) -> str:
        return _one_line(f"{self.stage}: {self.reason}")

    def to_json(self) -> dict[str, str]:
        """The error as plain JSON values."""
        return asdict(self)
