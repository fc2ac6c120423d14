"""The instances of a scenario as columns in memory: an instance becomes an object when it is asked for.

A million instances take 60 MB as columns, and 300 MB as objects.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from vclimb.pipeline.dataset.columns import Rows
from vclimb.pipeline.dataset.packing import single_array, values_of
from vclimb.scenario.instance import (
    MAX_FRAMES,
    MAX_NAME,
    MAX_SECONDS,
    Frames,
    ScenarioError,
    ScenarioInstance,
    Seconds,
)

Span = Seconds | Frames | None
WHOLE_VIDEO, IN_SECONDS, IN_FRAMES = 0, 1, 2
START_IS_INT, END_IS_INT = 1, 2
_VISIBLE = "[!-~]"


class InstanceError(ScenarioError):
    """An instance can't be as it is listed.

    Attributes:
        row: Number of the instance in the list, from 0.
    """

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(reason)
        self.row = row


class ScenarioInstances(Rows[ScenarioInstance]):
    """Labelled segments of videos.

    The columns are `video`, `label`, `group`, `kind` (of the span: `WHOLE_VIDEO`, `IN_SECONDS` or `IN_FRAMES`), `start`
    and `end` of the span (NaN: none), and `ints` (which of these are whole numbers in Python, and not floats).
    """

    @classmethod
    def of(cls, instances: Iterable[ScenarioInstance]) -> Self:
        """Hold instances as columns."""
        if isinstance(instances, cls):
            return instances
        names = [(one.video, one.label, one.group, one.span) for one in instances]
        videos, labels, groups, spans = zip(*names, strict=True) if names else ((), (), (), ())
        return cls.made(pa.array(videos, pa.string()), _encoded(labels), pa.array(groups, pa.string()), spans)

    @classmethod
    def listed(cls, videos: Sequence[Any], labels: Sequence[Any], groups: Sequence[Any], spans: Sequence[Span]) -> Self:
        """Hold instances that a file lists.

        Raises:
            InstanceError: A name is empty or not a text.
        """
        try:
            texts = pa.array(videos, pa.string()), _encoded(labels), pa.array(groups, pa.string())
            instances = cls.made(*texts, spans)
        except (pa.ArrowException, TypeError, UnicodeEncodeError):
            instances = None
        if instances is None or not instances.are_sound():
            for row, names in enumerate(zip(videos, labels, spans, groups, strict=True)):
                try:
                    ScenarioInstance(*names)
                except ScenarioError as error:
                    raise InstanceError(row, str(error)) from None
        assert instances is not None, "the columns are refused, and no instance is"
        return instances

    @classmethod
    def made(
        cls, videos: pa.StringArray, labels: pa.DictionaryArray, groups: pa.StringArray, spans: Sequence[Span]
    ) -> Self:
        """Hold columns of names, and spans."""
        n = len(videos)
        kinds, ints = np.zeros(n, np.int8), np.zeros(n, np.int8)
        starts, ends = np.full(n, math.nan), np.full(n, math.nan)
        if given := [row for row, span in enumerate(spans) if span is not None]:
            cut = [span for span in spans if span is not None]
            kinds[given] = [IN_FRAMES if isinstance(span, Frames) else IN_SECONDS for span in cut]
            starts[given] = [math.nan if span.start is None else span.start for span in cut]
            ends[given] = [math.nan if span.end is None else span.end for span in cut]
            ints[given] = [
                START_IS_INT * isinstance(span.start, int) | END_IS_INT * isinstance(span.end, int) for span in cut
            ]
        return cls.of_columns(videos, labels, groups, kinds, starts, ends, ints)

    @classmethod
    def of_columns(
        cls,
        videos: pa.StringArray,
        labels: pa.DictionaryArray,
        groups: pa.StringArray,
        kinds: npt.NDArray[np.int8],
        starts: npt.NDArray[np.float64],
        ends: npt.NDArray[np.float64],
        ints: npt.NDArray[np.int8],
    ) -> Self:
        """Hold columns."""
        numbers = {"kind": kinds, "start": starts, "end": ends, "ints": ints}
        columns = {"video": videos, "label": labels, "group": groups}
        return cls(pa.record_batch(columns | {name: pa.array(values) for name, values in numbers.items()}))

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The instances of several parts, one after another. There is at least one part."""
        if len(parts) == 1:
            return parts[0]
        tables = [pa.Table.from_batches([part.columns]) for part in parts]
        table = pa.concat_tables(tables).unify_dictionaries()
        return cls(pa.record_batch({name: single_array(table[name].chunks) for name in table.column_names}))

    def _with(self, columns: pa.RecordBatch) -> Self:
        return type(self)(columns)

    def _objects(self, columns: pa.RecordBatch) -> Iterator[ScenarioInstance]:
        for video, label, group, kind, start, end, ints in zip(*map(values_of, columns.columns), strict=True):
            span: Span = None
            if kind == IN_FRAMES:
                span = Frames(int(start), int(end))
            elif kind == IN_SECONDS:
                first = int(start) if ints & START_IS_INT else None if math.isnan(start) else start
                span = Seconds(first, int(end) if ints & END_IS_INT else None if math.isnan(end) else end)
            yield ScenarioInstance(video, label, span, group)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ScenarioInstances):
            return super().__eq__(other)
        return len(self) == len(other) and all(map(_equal_columns, self._plain(), other._plain()))

    def __hash__(self) -> int:  # type: ignore[override]  # other rows have none
        return hash((len(self), *self[:1], *self[-1:]))

    def _plain(self) -> Iterator[pa.Array]:
        yield self.columns.column("label").dictionary_decode()
        yield from (self.columns.column(name) for name in ("video", "group", "kind", "start", "end"))

    def floats(self, name: str) -> npt.NDArray[np.float64]:
        """The values of `start` or `end`, not to be changed."""
        values: npt.NDArray[np.float64] = self.columns.column(name).to_numpy()
        return values

    def labels(self) -> set[str]:
        """Class names of the instances."""
        labels = self.columns.column("label")
        used = np.flatnonzero(np.bincount(labels.indices.to_numpy(), minlength=len(labels.dictionary)))
        return set(labels.dictionary.take(pa.array(used)).to_pylist())

    def sources(self) -> pa.StringArray:
        """Names of the sources: of the group, or of the video where no group is known, after a letter for the kind."""
        video, group = self.columns.column("video"), self.columns.column("group")
        of_video = pc.binary_join_element_wise("v", video, "")
        return pc.coalesce(pc.binary_join_element_wise("g", group, ""), of_video) if len(self) else of_video

    def with_groups(self, groups: pa.StringArray) -> Self:
        """These instances, with a group for each that has none of its own; null: none."""
        group = pc.coalesce(self.columns.column("group"), groups)
        columns = dict(zip(self.columns.schema.names, self.columns.columns, strict=True))
        return self._with(pa.record_batch(columns | {"group": group}))

    @property
    def n_name_bytes(self) -> int:
        """Bytes of the names of videos and groups."""
        return int(self.columns.column("video").nbytes + self.columns.column("group").nbytes)

    def are_sound(self) -> bool:
        """Whether each instance surely is one, as objects check it when they are made. (Others may be sound too.)"""
        video, label, group = (self.columns.column(name) for name in ("video", "label", "group"))
        kinds, start, end = self.narrow_numbers("kind"), self.floats("start"), self.floats("end")
        frames, seconds = kinds == IN_FRAMES, kinds == IN_SECONDS
        in_range = (np.isnan(start) | (start >= 0) & (start <= MAX_SECONDS)) & (
            np.isnan(end) | (end >= 0) & (end <= MAX_SECONDS)
        )
        return (
            not video.null_count
            and not label.null_count
            and not label.dictionary.null_count
            and all(map(_are_names, (video, label.dictionary, group.drop_null())))
            and bool(in_range[seconds].all())
            and bool(((start >= 0) & (start < end) & (end <= MAX_FRAMES))[frames].all())
        )


def _encoded(texts: Sequence[str]) -> pa.DictionaryArray:
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    codes = np.fromiter(map(places.__getitem__, texts), np.int32, len(texts))
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array([*places], pa.string()))


def _equal_columns(one: pa.Array, other: pa.Array) -> bool:
    if pa.types.is_floating(one.type):
        return np.array_equal(one.to_numpy(), other.to_numpy(), equal_nan=True)
    return bool(one.equals(other))


def _are_names(texts: pa.StringArray) -> bool:
    """Whether no text is too long, and each shows something."""
    return bool(
        not len(texts)
        or (
            pc.max(pc.binary_length(texts)).as_py() <= MAX_NAME
            and pc.all(pc.match_substring_regex(texts, _VISIBLE)).as_py()
        )
    )
