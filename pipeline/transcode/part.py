"""Parts: the videos of a shard that is not yet assembled.

A part is `NNNNNN.mp4`, `NNNNNN.frames.npy` and, written last, `NNNNNN.json`. A part whose json is there is done, well
or badly, and survives a kill of the run. Parts aren't synced as they are made: what a power cut damages is made again.
"""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from vclimb.pipeline.dataset.check import FrameIndex
from vclimb.pipeline.dataset.fields import Count, PositiveRate, Sha256, Side, Size
from vclimb.pipeline.errors import VideoError
from vclimb.pipeline.system.digest import file_sha256
from vclimb.pipeline.system.durable import draft_of
from vclimb.pipeline.transcode.work_file import parse_work_bytes, work_bytes


@dataclass(frozen=True)
class StoredFacts:
    """What is known of a stored video, apart from its place in a shard."""

    source_sha256: Sha256  # SHA-256 of the source file.
    source_bytes: Size  # Size of the source file.
    sha256: Sha256  # SHA-256 of the mp4.
    codec: str  # Codec of the frames.
    width: Side  # Width in pixels.
    height: Side  # Height in pixels.
    fps: PositiveRate  # Exact frames a second.
    n_frames: Count  # Number of frames.
    frame_seconds: tuple[float, ...] | None  # Times of the frames. None: they are evenly spaced.
    bytes: Count  # Size of the mp4.


@dataclass(frozen=True)
class Part:
    """The outcome of one video: an error, or what was stored and the SHA-256 of its frame index."""

    stored: StoredFacts | None = None
    frames_sha256: Sha256 | None = None
    error: VideoError | None = None


@dataclass(frozen=True)
class _Error:
    stage: str
    reason: str
    stderr: str


@dataclass(frozen=True)
class _Row:
    stored: StoredFacts | None
    frames_sha256: Sha256 | None
    error: _Error | None


_ROW = TypeAdapter(_Row)


def is_done(part: Path) -> bool:
    return part.with_suffix(".json").exists()


def write_part(part: Path, outcome: Part) -> None:
    """Write a part's json, which makes the part done."""
    error = None if outcome.error is None else _Error(**outcome.error.to_json())
    row = _Row(outcome.stored, outcome.frames_sha256, error)
    record = part.with_suffix(".json")
    draft = draft_of(record)
    draft.write_bytes(work_bytes(_ROW, row))
    os.replace(draft, record)


def write_frame_index(part: Path, index: FrameIndex) -> str:
    """Write a part's frame index. Returns its SHA-256."""
    data = io.BytesIO()  # `np.save` to a file does not say why it can't be written
    np.save(data, index)
    part.with_suffix(".frames.npy").write_bytes(data.getvalue())
    return hashlib.sha256(data.getvalue()).hexdigest()


def read_frame_index(part: Path) -> FrameIndex:
    index: FrameIndex = np.load(part.with_suffix(".frames.npy"))
    return index


def read_part(part: Path) -> Part:
    """Read a part's json. Raises an OSError or a ValueError where it can't be read, or isn't what was written."""
    row = parse_work_bytes(_ROW, part.with_suffix(".json").read_bytes())
    error = None if row.error is None else VideoError(row.error.stage, row.error.reason, row.error.stderr)
    if (error is None) == (row.stored is None) or (row.stored is None) != (row.frames_sha256 is None):
        raise ValueError("a part is either stored or has failed")
    return Part(row.stored, row.frames_sha256, error)


def is_intact(part: Path) -> bool:
    """Whether the files of a part that is done are those that were written."""
    try:
        outcome = read_part(part)
        return outcome.stored is None or (
            file_sha256(part.with_suffix(".frames.npy")) == outcome.frames_sha256
            and file_sha256(part.with_suffix(".mp4")) == outcome.stored.sha256
        )
    except (OSError, ValueError):
        return False
