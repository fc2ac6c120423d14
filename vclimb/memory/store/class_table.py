"""What a memory knows of each exemplar of a class besides its encoded frames: one table of numbers, and the keys.

One table rather than an array for each fact: an array costs some 800 bytes of metadata in every class, which count
against the budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vclimb.memory.store.exemplar import Exemplar
from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.codecs.encoded import EncodedClip
from vclimb.pipeline.errors import SettingsError

# Fills a row up where an exemplar has fewer frames or units than another of its class.
PADDING = -1


def columns(n_frames: int, n_units: int) -> dict[str, list[int]]:
    """Columns [first, end) of each fact in the table of a class.

    Args:
        n_frames: the most frames that one of its exemplars has.
        n_units: the most units likewise.
    """
    widths = {
        "start_frame": 1,
        "end_frame": 1,
        "width": 1,
        "height": 1,
        "frames": n_frames,
        "unit": n_frames,
        "position": n_frames,
        "unit_bytes": n_units,
    }
    ends = np.cumsum([*widths.values()]).tolist()
    return {name: [end - width, end] for (name, width), end in zip(widths.items(), ends, strict=True)}


@dataclass(frozen=True)
class ClassFacts:
    """Facts about the exemplars of a class, a row each, by rank.

    Attributes:
        keys: of the stored videos.
        table: (n, columns) int64, as `columns` divides it.
        n_frames: the most frames that one exemplar has.
        n_units: the most units likewise.
    """

    keys: tuple[str, ...]
    table: Indices
    n_frames: int
    n_units: int

    @classmethod
    def of(cls, exemplars: Sequence[Exemplar]) -> ClassFacts:
        """The facts of exemplars, which have their ranks as places.

        Raises:
            SettingsError: a key can't be stored, or a clip names units that it doesn't have.
        """
        n_frames = max(len(exemplar.frames) for exemplar in exemplars)
        n_units = max(len(exemplar.clip.units) for exemplar in exemplars)
        rows = []
        for exemplar in exemplars:
            clip = exemplar.clip
            if len(clip.unit) and not 0 <= clip.unit.min() <= clip.unit.max() < len(clip.units):
                raise SettingsError(
                    f"the clip of {exemplar.key!r} has {len(clip.units)} units; its frames name {clip.unit.tolist()}"
                )
            if exemplar.start_frame < 0:
                raise SettingsError(f"the exemplar of {exemplar.key!r} starts at frame {exemplar.start_frame}")
            numbers = [exemplar.start_frame, exemplar.end_frame, exemplar.width, exemplar.height]
            rest = (exemplar.frames, clip.unit, clip.position)
            rows.append(
                np.concatenate(
                    [numbers, *(_padded(part, n_frames) for part in rest), _padded([*map(len, clip.units)], n_units)]
                )
            )
        facts = cls(tuple(exemplar.key for exemplar in exemplars), np.stack(rows).astype(np.int64), n_frames, n_units)
        facts.key_rows()
        return facts

    def __len__(self) -> int:
        return len(self.keys)

    def column(self, name: str) -> Indices:
        """(n, width) int64: one of the facts that `columns` names."""
        first, end = columns(self.n_frames, self.n_units)[name]
        return self.table[:, first:end]

    def key_rows(self) -> npt.NDArray[np.uint8]:
        """(n, longest) uint8: the keys in UTF-8, padded with zeros.

        Raises:
            SettingsError: a key holds what UTF-8 or the padding can't tell.
        """
        encoded = []
        for key in self.keys:
            try:
                encoded.append(key.encode())
            except UnicodeEncodeError:
                raise SettingsError(f"the key {key!r} can't be stored: it isn't valid Unicode") from None
            if "\0" in key:
                raise SettingsError(f"the key {key!r} can't be stored: it has a NUL character")
        longest = max(1, *map(len, encoded)) if encoded else 1
        joined = b"".join(key.ljust(longest, b"\0") for key in encoded)
        return np.frombuffer(joined, np.uint8).reshape(len(encoded), longest)

    @property
    def n_kept_frames(self) -> Indices:
        """(n,) frames that are kept of each exemplar."""
        counts: Indices = (self.column("frames") != PADDING).sum(axis=1)
        return counts

    @property
    def payload_bytes(self) -> Indices:
        """(n,) bytes of the encoded frames of each exemplar."""
        total: Indices = np.maximum(self.column("unit_bytes"), 0).sum(axis=1)
        return total

    def exemplar(self, rank: int, codec: str, payload: bytes) -> Exemplar:
        """An exemplar from its row of encoded frames, which may be longer than they are."""
        of = {name: self.table[rank, first:end] for name, (first, end) in columns(self.n_frames, self.n_units).items()}
        frames = of["frames"][of["frames"] != PADDING]
        units, offset = [], 0
        for size in of["unit_bytes"].tolist():
            if size != PADDING:
                units.append(payload[offset : offset + size])
                offset += size
        clip = EncodedClip(codec, units, of["unit"][: len(frames)], of["position"][: len(frames)])
        start, end, width, height = self.table[rank, :4].tolist()
        return Exemplar(self.keys[rank], start, end, frames, clip, width, height)


def keys_of_rows(rows: npt.NDArray[np.uint8]) -> tuple[str, ...]:
    """The keys from rows of UTF-8 that are padded with zeros."""
    return tuple(bytes(row).rstrip(b"\0").decode() for row in rows)


def _padded(numbers: Indices | list[int], length: int) -> Indices:
    row = np.full(length, PADDING, np.int64)
    row[: len(numbers)] = numbers
    return row
