"""The rows of a data set as columns in memory: a row becomes an object when it is asked for.

A million videos take 230 MB as columns, and 2 GB as objects.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from functools import cached_property
from operator import eq
from typing import Any, Generic, Self, TypeVar, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.dataset.key_index import KeyIndex, rows_in_order
from vclimb.pipeline.dataset.packing import (
    Pieces,
    digests_as_bytes,
    label_codes,
    list_of_labels,
    packed,
    single_array,
    values_of,
)
from vclimb.pipeline.dataset.rows import (
    INSTANCE_SCHEMA,
    VIDEO_SCHEMA,
    StoredInstance,
    StoredVideo,
    rate_text,
    table_of,
)

ReadColumn = Callable[[str], Pieces]
"""Function from a column's name to its values, as they lie in the file."""
Row = TypeVar("Row")

_ROWS_AT_ONCE, _ROWS_OF_PART = 4096, 65_536
_ENCODED = ("group", "codec", "fps_fraction", "label", "split")
_DIGESTS = ("source_sha256", "sha256")


class Rows(Sequence[Row], Generic[Row]):
    """Rows of a table, each an object that is made when it is asked for. A slice is another such sequence.

    Attributes:
        columns: Values of all rows, by the name of the column.
    """

    def __init__(self, columns: pa.RecordBatch) -> None:
        self.columns = columns

    @abstractmethod
    def _objects(self, columns: pa.RecordBatch) -> Iterator[Row]:
        """Make the objects of some rows."""

    @abstractmethod
    def _with(self, columns: pa.RecordBatch) -> Self:
        """Make a sequence of the same kind of other rows."""

    def __len__(self) -> int:
        return int(self.columns.num_rows)

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> Self: ...
    def __getitem__(self, place: int | slice) -> Row | Self:
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self))
            if step == 1:
                return self._with(self.columns.slice(start, max(0, stop - start)))
            return self.take(np.arange(start, stop, step))
        row = place if place >= 0 else place + len(self)
        if not 0 <= row < len(self):
            raise IndexError(f"row {place} is not there; there are {len(self)}")
        return next(self._objects(self.columns.slice(row, 1)))

    def __iter__(self) -> Iterator[Row]:
        for start in range(0, len(self), _ROWS_AT_ONCE):
            yield from self._objects(self.columns.slice(start, _ROWS_AT_ONCE))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (Rows, list, tuple)):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def parts(self) -> Iterator[Self]:
        """All rows, some thousands at once."""
        return (self[start : start + _ROWS_OF_PART] for start in range(0, len(self), _ROWS_OF_PART))

    def take(self, rows: Indices) -> Self:
        """The rows of some numbers, in their order."""
        return self._with(self.columns.take(pa.array(rows, pa.int64())))

    def numbers(self, name: str) -> Indices:
        """The values of a column of whole numbers without nulls, as int64, not to be changed."""
        values: Indices = self.columns.column(name).to_numpy(zero_copy_only=False)
        return values.astype(np.int64, copy=False)

    def narrow_numbers(self, name: str) -> npt.NDArray[np.integer[Any]]:
        """The values of a column of whole numbers without nulls, in as few bytes as they are kept in."""
        values: npt.NDArray[np.integer[Any]] = self.columns.column(name).to_numpy()
        return values

    def codes(self, name: str) -> tuple[Indices, list[Any]]:
        """The values of a column as places in a list of different values; -1: null."""
        column = self.columns.column(name)
        return label_codes(column), column.dictionary.to_pylist()


class StoredVideos(Rows[StoredVideo]):
    """The stored videos of a data set, in the shards' order."""

    @classmethod
    def pack(cls, column: ReadColumn) -> Self:
        """Hold the columns of a table of videos compactly, but for `fps`.

        Raises:
            ValueError: A digest has other than 64 hexadecimal digits.
        """
        # The digests first, whose texts take the most memory.
        columns = {name: digests_as_bytes(column(name)) for name in _DIGESTS}
        columns["labels"] = list_of_labels(single_array(column("labels")))
        others = (name for name in VIDEO_SCHEMA.names if name not in columns and name != "fps")
        columns |= {name: packed(column(name), encode=name in _ENCODED) for name in others}
        return cls(pa.record_batch(columns))

    @classmethod
    def of(cls, videos: Sequence[StoredVideo]) -> Self:
        """Hold rows as columns."""
        table = table_of(videos, VIDEO_SCHEMA, fps_fraction=rate_text)
        return cls.pack(lambda name: table[name].chunks)

    def _with(self, columns: pa.RecordBatch) -> Self:
        return type(self)(columns)

    def _objects(self, columns: pa.RecordBatch) -> Iterator[StoredVideo]:
        rates: dict[str, Fraction] = {}
        names = columns.schema.names
        for values in zip(*map(values_of, columns.columns), strict=True):
            row = dict(zip(names, values, strict=True))
            rate = row["fps_fraction"]
            if rate not in rates:
                rates[rate] = Fraction(rate)
            row["fps_fraction"] = rates[rate]
            row["labels"] = tuple(row["labels"])
            row["source_sha256"], row["sha256"] = row["source_sha256"].hex(), row["sha256"].hex()
            if row["frame_seconds"] is not None:
                row["frame_seconds"] = tuple(row["frame_seconds"])
            yield StoredVideo(**row)

    @property
    def keys(self) -> pa.StringArray:
        return self.columns.column("key")

    def rates(self) -> npt.NDArray[np.float64]:
        """Frames a second of each video, rounded."""
        codes, rates = self.codes("fps_fraction")
        return np.array([float(Fraction(rate)) for rate in rates], np.float64)[codes]

    @cached_property
    def key_index(self) -> KeyIndex:
        """The row numbers by key."""
        return KeyIndex(self.keys)

    def rows_of(self, keys: pa.StringArray) -> Indices:
        """The row number of each key; -1: no video has that key."""
        return self.key_index.rows_of(keys)

    def groups_of(self, rows: Indices) -> list[str | None]:
        """The group of each of some rows."""
        return values_of(self.columns.column("group").take(pa.array(rows)))

    def groups_where_known(self, rows: Indices) -> pa.StringArray:
        """The group of each of some rows; null where none is known, or where the row is -1."""
        return self.columns.column("group").take(pa.array(rows, mask=rows < 0)).dictionary_decode()


class StoredInstances(Rows[StoredInstance]):
    """Labelled instances of stored videos. The column `video` holds the row number of each instance's video."""

    def __init__(self, columns: pa.RecordBatch, videos: StoredVideos) -> None:
        super().__init__(columns)
        self.videos = videos

    @classmethod
    def pack(cls, column: ReadColumn, videos: StoredVideos, *, known_only: bool = False) -> Self:
        """Hold the columns of a table of instances compactly.

        Args:
            known_only: Whether to leave out the instances of other videos.

        Raises:
            KeyError: An instance is of another video.
        """
        in_order = rows_in_order(column("key"), videos.keys)
        rows = videos.rows_of(single_array(column("key"))) if in_order is None else in_order
        columns = {"video": pa.array(rows, pa.int32())}
        columns |= {
            name: packed(column(name), encode=name in _ENCODED) for name in INSTANCE_SCHEMA.names if name != "key"
        }
        instances = cls(pa.record_batch(columns), videos)
        if len(unknown := np.flatnonzero(rows < 0)):
            if not known_only:
                raise KeyError(single_array(column("key"))[unknown[0].item()].as_py())
            return instances.take(np.flatnonzero(rows >= 0))
        return instances

    @classmethod
    def of(cls, instances: Iterable[StoredInstance], videos: StoredVideos) -> Self:
        """Hold rows as columns. Raises a KeyError where an instance is of another video."""
        if isinstance(instances, cls) and instances.videos is videos:
            return instances
        table = table_of([*instances], INSTANCE_SCHEMA)
        return cls.pack(lambda name: table[name].chunks, videos)

    @classmethod
    def made(
        cls,
        videos: StoredVideos,
        rows: Indices,
        labels: pa.DictionaryArray,
        splits: pa.DictionaryArray,
        starts: Indices,
        ends: Indices,
    ) -> Self:
        """Hold instances of the videos in some rows, with their classes, splits and frames [start, end)."""
        columns = {
            "video": pa.array(rows, pa.int32()),
            "label": labels,
            "split": splits,
            "start_seconds": pa.nulls(len(rows), pa.float64()),
            "end_seconds": pa.nulls(len(rows), pa.float64()),
            "start_frame": pa.array(starts, pa.int64()),
            "end_frame": pa.array(ends, pa.int64()),
        }
        return cls(pa.record_batch(columns), videos)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The instances of several parts, one after another. There is at least one part."""
        table = pa.Table.from_batches([part.columns for part in parts]) if len(parts) == 1 else _unified(parts)
        columns = {name: single_array(table[name].chunks) for name in table.column_names}
        return cls(pa.record_batch(columns), parts[0].videos)

    def _with(self, columns: pa.RecordBatch) -> Self:
        return type(self)(columns, self.videos)

    def _objects(self, columns: pa.RecordBatch) -> Iterator[StoredInstance]:
        keys = self.videos.keys.take(columns.column("video")).to_pylist()
        names = ("label", "split", "start_frame", "end_frame", "start_seconds", "end_seconds")
        return map(StoredInstance, keys, *(values_of(columns.column(name)) for name in names))

    def keys(self) -> pa.StringArray:
        """Keys of the instances' videos."""
        return self.videos.keys.take(self.columns.column("video"))

    def of_video(self, name: str) -> Indices:
        """A column of numbers of the instances' videos."""
        return self.videos.numbers(name)[self.numbers("video")]

    def labels(self) -> set[str]:
        """Class names of the instances."""
        codes, labels = self.codes("label")
        return {labels[code] for code in np.unique(codes).tolist()}

    def splits(self) -> set[str | None]:
        """Splits of the instances; None where the source has no splits."""
        codes, splits = self.codes("split")
        return {[*splits, None][code] for code in np.unique(codes).tolist()}

    def rows_in_split(self, split: str) -> Indices:
        """The row numbers of the instances of one split."""
        codes, splits = self.codes("split")
        return np.flatnonzero(codes == (splits.index(split) if split in splits else -2))

    def in_split(self, split: str) -> Self:
        """The instances of one split."""
        return self.take(self.rows_in_split(split))


def _unified(parts: Sequence[StoredInstances]) -> pa.Table:
    return pa.concat_tables([pa.Table.from_batches([part.columns]) for part in parts]).unify_dictionaries()
