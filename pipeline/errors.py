"""The tree of errors. Every one that a user can cause derives from `VclimbError` and is printed as one message.

A message says the bad value, what was allowed, and what to do.
"""

from __future__ import annotations

from dataclasses import dataclass


class VclimbError(Exception):
    """Base of all errors that are explained to the user without a traceback."""


class SourceError(VclimbError):
    """The source (folder, table, annotation file) can't be read as the layout asked for."""


class SettingsError(VclimbError):
    """A setting has a value that isn't allowed, or differs from what the data set was made with."""


class TargetError(VclimbError):
    """The place to write to can't take the data: disk full, read-only, not a data set of ours."""


class TargetBusyError(TargetError):
    """Another run is writing to the same data set."""


class FfmpegMissingError(VclimbError):
    """No usable ffmpeg was found."""


class DatasetError(VclimbError):
    """A prepared data set is missing, of an unknown format version, or damaged."""


class FrameDamagedError(DatasetError):
    """The bytes of one frame don't decode. Names key, shard and offset."""


@dataclass
class VideoError(VclimbError):
    """One video could not be prepared. Becomes a row of `errors.jsonl`; never stops a run.

    Attributes:
        stage: where it failed: `find`, `open`, `probe`, `transcode`, `verify` or `label`.
        reason: one sentence.
        stderr: what ffmpeg said, a line of each kind, or an empty string.
    """

    stage: str
    reason: str
    stderr: str = ""

    def __str__(self) -> str:
        return f"{self.stage}: {self.reason}"
