"""What a memory knows of each exemplar of a class besides its encoded frames, as rows of numbers and a key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vclimb.memory.store.exemplar import Exemplar
from vclimb.memory.store.index_nodes import MAX_EXEMPLAR_BYTES
from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.codecs.encoded import MAX_PIXELS, EncodedClip, one_unit_a_frame, one_unit_for_all
from vclimb.pipeline.errors import SettingsError

_PADDING = -1
"""Fills a field up where an exemplar has fewer frames or units than another of its class."""


@dataclass(frozen=True)
class ExemplarTable:
    """A row for each exemplar of a class, by rank.

    Attributes:
        rows: (n,) structured array. Fields: `key` (UTF-8), `start_frame` and `end_frame` of the instance, `width` and
            `height` in pixels, `frames` (numbers of the frames kept), `unit_bytes` (sizes of the encoded units).
    """

    rows: npt.NDArray[np.void]

    @classmethod
    def of(cls, exemplars: Sequence[Exemplar]) -> ExemplarTable:
        """Make the table of exemplars, which are given by rank.

        Raises:
            SettingsError: an exemplar can't be stored.
        """
        keys = [_encoded_key(exemplar.key) for exemplar in exemplars]
        n_frames = max(len(exemplar.frames) for exemplar in exemplars)
        n_units = max(len(exemplar.clip.units) for exemplar in exemplars)
        numbers = [(name, "<i4") for name in ("start_frame", "end_frame", "width", "height")]
        lists = [("frames", "<i4", (n_frames,)), ("unit_bytes", "<i4", (n_units,))]
        rows = np.zeros(len(keys), np.dtype([("key", f"S{max(1, *map(len, keys))}"), *numbers, *lists]))
        rows["key"] = keys
        for name, _ in numbers:
            rows[name] = [getattr(exemplar, name) for exemplar in exemplars]
        rows["frames"] = rows["unit_bytes"] = _PADDING
        for rank, exemplar in enumerate(exemplars):
            _check(exemplar)
            rows["frames"][rank, : len(exemplar.frames)] = exemplar.frames
            rows["unit_bytes"][rank, : len(exemplar.clip.units)] = [*map(len, exemplar.clip.units)]
        table = cls(rows)
        if problem := table.problem(MAX_EXEMPLAR_BYTES):
            raise SettingsError(f"exemplars can't be stored: {problem}")
        return table

    @classmethod
    def from_bytes(cls, data: bytes, fields: Sequence[Sequence[Any]], n_rows: int) -> ExemplarTable:
        """Read a table from the bytes of its rows, of which the last may be left over from dropped exemplars."""
        row_type = np.dtype([(name, kind, *map(tuple, shape)) for name, kind, *shape in fields])
        return cls(np.frombuffer(data, row_type)[:n_rows])

    def __len__(self) -> int:
        return len(self.rows)

    def problem(self, most_bytes: int) -> str | None:
        """Say what the first row that describes no exemplar holds; None where there is no such row.

        Args:
            most_bytes: Room for the encoded frames of an exemplar.
        """
        numbers = {name: self.rows[name].astype(np.int64) for name in self.rows.dtype.names or () if name != "key"}
        start, end, width, height = (numbers[name] for name in ("start_frame", "end_frame", "width", "height"))
        frames, sizes = numbers["frames"], numbers["unit_bytes"]
        n_frames, n_units = (frames != _PADDING).sum(1), (sizes != _PADDING).sum(1)
        within, of_units = (np.arange(part.shape[1]) < n[:, None] for part, n in ((frames, n_frames), (sizes, n_units)))
        payload = np.where(of_units, sizes, 0).sum(1)
        wrong = {
            "start_frame": start < 0,
            "end_frame": end <= start,
            "width": (width < 1) | (width > MAX_PIXELS),
            "height": (height < 1) | (width * height > MAX_PIXELS),
            "frames": ((n_frames < 1) & (frames.shape[1] > 0))
            | ((frames >= 0) != within).any(1)
            | ((np.diff(frames, axis=1) < 0) & within[:, 1:]).any(1)
            | (within & ((frames < start[:, None]) | (frames >= end[:, None]))).any(1),
            "unit_bytes": ((n_units != 1) & (n_units != n_frames))
            | ((sizes >= 0) != of_units).any(1)
            | (payload > most_bytes),
        }
        for name, is_wrong in wrong.items():
            if is_wrong.any():
                rank = int(is_wrong.argmax())
                return f"{name} of its row {rank} is {_brief(self.rows[name][rank].tolist())}"
        for rank, key in enumerate(self.rows["key"].tolist()):
            try:
                key.decode()
            except UnicodeDecodeError:
                return f"key of its row {rank} is {_brief(key)}"
        return None

    def key(self, rank: int) -> str:
        """Key of the video of an exemplar."""
        key: str = self.rows["key"][rank].decode()
        return key

    @property
    def fields(self) -> list[list[Any]]:
        """Fields of a row as JSON holds them: name, type, and the shape of a list."""
        described = self.rows.dtype.descr
        return [[name, kind, *map(list, shape)] for name, kind, *shape in described]

    @property
    def keys(self) -> list[str]:
        """Keys of the videos."""
        return [key.decode() for key in self.rows["key"].tolist()]

    @property
    def n_frames(self) -> Indices:
        """(n,) number of frames kept of each exemplar."""
        counts: Indices = (self.rows["frames"] != _PADDING).sum(axis=1)
        return counts

    @property
    def n_source_frames(self) -> Indices:
        """(n,) number of frames of each exemplar's instance."""
        counts: Indices = (self.rows["end_frame"] - self.rows["start_frame"]).astype(np.int64)
        return counts

    @property
    def payload_bytes(self) -> Indices:
        """(n,) bytes of each exemplar's encoded frames."""
        sizes: Indices = np.maximum(self.rows["unit_bytes"], 0).sum(axis=1, dtype=np.int64)
        return sizes

    def exemplar(self, rank: int, codec: str, payload: bytes) -> Exemplar:
        """Make an exemplar from its row and its encoded frames, which padding may follow."""
        row = self.rows[rank]
        frames = row["frames"][row["frames"] != _PADDING].astype(np.int64)
        units, offset = [], 0
        for size in row["unit_bytes"][row["unit_bytes"] != _PADDING].tolist():
            units.append(payload[offset : offset + size])
            offset += size
        clip = _clip(codec, units, len(frames))
        start, end, width, height = (int(row[name]) for name in ("start_frame", "end_frame", "width", "height"))
        return Exemplar(row["key"].decode(), start, end, frames, clip, width, height)


def _brief(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:80] + "..."


def _clip(codec: str, units: Sequence[bytes], n_frames: int) -> EncodedClip:
    if len(units) == n_frames:
        return one_unit_a_frame(codec, units)
    return one_unit_for_all(codec, units[0], n_frames)


def _check(exemplar: Exemplar) -> None:
    """Refuse an exemplar that a row can't describe."""
    clip, n_frames = exemplar.clip, len(exemplar.frames)
    if exemplar.start_frame < 0:
        raise SettingsError(f"the exemplar of {exemplar.key!r} starts at frame {exemplar.start_frame}")
    if exemplar.arrays and not n_frames and not clip.units:
        return
    if n_frames and len(clip.units) in (1, n_frames):
        read = _clip(clip.codec, clip.units, n_frames)
        if np.array_equal(clip.unit, read.unit) and np.array_equal(clip.position, read.position):
            return
    raise SettingsError(
        f"the exemplar of {exemplar.key!r} has {n_frames} frames in {len(clip.units)} units; allowed: one unit for "
        "each frame, or one unit for all frames, in their order; or features and no frames"
    )


def _encoded_key(key: str) -> bytes:
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        raise SettingsError(f"the key {key!r} can't be stored: it isn't valid Unicode") from None
    if b"\0" in encoded:
        raise SettingsError(f"the key {key!r} can't be stored: it has a NUL character")
    return encoded
