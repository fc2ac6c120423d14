"""Tables are checked column by column. That accepts the tables whose rows are sound one by one, and no others."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile_dataset import parquet_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from vclimb.pipeline.dataset import row_checks
from vclimb.pipeline.dataset.arrow_memory import system_memory
from vclimb.pipeline.dataset.by_key import VideosByKey
from vclimb.pipeline.dataset.column_checks import are_keys
from vclimb.pipeline.dataset.columns import StoredInstances, StoredVideos
from vclimb.pipeline.dataset.rows import INSTANCE_SCHEMA, VIDEO_SCHEMA, StoredInstance, StoredVideo
from vclimb.pipeline.dataset.shard import ShardFiles
from vclimb.pipeline.dataset.tables import (
    check_videos,
    instances_table,
    parquet_of,
    read_instances,
    read_videos,
    videos_table,
)
from vclimb.pipeline.sources.keys import is_key

_VIDEOS, _INSTANCES = TypeAdapter(list[StoredVideo]), TypeAdapter(list[StoredInstance])
DIGEST = hashlib.sha256(b"").hexdigest()
FEW = settings(max_examples=60, deadline=None)


def video_of(place: int) -> StoredVideo:
    """Video `place` of a data set with two videos a shard; every third has unevenly spaced frames."""
    in_shard, times = place % 2, (0.0, 0.5, 0.5, 2.0)
    return StoredVideo(
        key=f"c{place % 3}/v{place}",
        labels=(f"c{place % 3}", "both")[: 1 + place % 2],
        group=None if place % 4 else "one",
        source=f"v{place}.mp4",
        source_sha256=DIGEST,
        source_bytes=9,
        shard=place // 2,
        offset=512 + 2048 * in_shard,
        bytes=1000,
        sha256=DIGEST[::-1],
        codec="jpeg",
        width=64,
        height=48,
        fps_fraction=Fraction(30000, 1001) if place % 2 else Fraction(25),
        n_frames=3,
        first_frame=3 * in_shard,
        frame_seconds=times if place % 3 == 2 else None,
    )


VIDEO_ROWS = [video_of(place) for place in range(6)]
INSTANCE_ROWS = [
    StoredInstance(video.key, label, ("train", None, "test")[n % 3], n % 2, 3, None, 0.1 * n if n % 2 else None)
    for video in VIDEO_ROWS
    for n, label in enumerate(video.labels)
]
SHARDS = [SimpleNamespace(number=n, **vars(ShardFiles(f"{n}.tar", 4096, "", "", "", 2, 6))) for n in range(3)]
HEADER: Any = SimpleNamespace(shards=SHARDS, settings=SimpleNamespace(codec="jpeg"))

numbers = st.sampled_from([-1, 0, 1, 2, 3, 4, 48, 512, 1000, 2560, 4096, 65_535, 65_536, 2**31 - 1, 2**53, 2**53 + 1])
texts = st.one_of(
    st.sampled_from(["", "c0", "c1", "both", "c0/v0", "c1/v1", "-x", "__a__/b", "25", "1/0", "0", "-25", DIGEST]),
    st.text(max_size=4),
)
seconds = st.sampled_from([math.nan, math.inf, -1.0, 0.0, 0.1, 1.0, 25.0, 30000 / 1001])
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int32": numbers.filter(lambda number: number < 2**31),
    "int64": numbers,
    "double": seconds,
    "string": texts,
    "list<element: string>": st.lists(st.one_of(st.none(), texts), max_size=3),
    "list<element: double>": st.lists(st.one_of(st.none(), seconds), max_size=5),
}


@st.composite
def changed(draw: st.DrawFn, table: pa.Table) -> pa.Table:
    """The table with some values changed, two rows swapped, or a row twice."""
    rows = table.to_pylist()
    for _ in range(draw(st.integers(0, 2))):
        field = draw(st.sampled_from([*table.schema]))
        kind = str(field.type).replace("item", "element")
        rows[draw(st.integers(0, len(rows) - 1))][field.name] = draw(st.one_of(st.none(), VALUES[kind]))
    places = draw(st.lists(st.sampled_from(range(len(rows))), min_size=2, max_size=2))
    how = draw(st.sampled_from(["swap", "twice", "without", "", "", "", ""]))
    if how == "swap":
        rows[places[0]], rows[places[1]] = rows[places[1]], rows[places[0]]
    elif how == "twice":
        rows.insert(places[0], dict(rows[places[0]]))
    elif how == "without":
        del rows[places[0]]
    return pa.Table.from_pylist(rows, table.schema)


def tables(parquet: bytes) -> st.SearchStrategy[pa.Table]:
    return changed(pq.read_table(pa.BufferReader(parquet)))


@FEW
@given(tables(parquet_of(videos_table(VIDEO_ROWS))))
def test_videos_are_refused_where_a_row_is(table: pa.Table) -> None:
    """A refusal names a row, which `read_videos` and `check_videos` assert."""
    try:
        videos = read_videos(BytesIO(parquet_bytes(table)), len(table))
        check_videos(videos, HEADER)
    except ValueError:
        return
    rows = _VIDEOS.validate_python(table.to_pylist())
    assert [*videos] == rows
    assert [row.fps for row in rows] == table["fps"].to_pylist() == videos.rates().tolist()
    row_checks.check_videos(rows, HEADER)


@FEW
@given(tables(parquet_of(instances_table(INSTANCE_ROWS))), st.booleans())
def test_instances_are_refused_where_a_row_is(table: pa.Table, known_only: bool) -> None:
    videos = StoredVideos.of(VIDEO_ROWS)
    try:
        instances = read_instances(BytesIO(parquet_bytes(table)), len(table), videos, known_only=known_only)
    except ValueError:
        return
    keys = {video.key for video in VIDEO_ROWS}
    rows = [row for row in _INSTANCES.validate_python(table.to_pylist()) if row.key in keys or not known_only]
    assert [*map(repr, instances)] == [*map(repr, rows)]
    row_checks.check_instances(rows, VIDEO_ROWS)


@FEW
@given(st.lists(st.from_regex(r"(__?)?[a-z/~0-9A-Z_=+@, -]{0,20}(~[0-9a-f]{16})?", fullmatch=True), max_size=3))
def test_keys_are_those_that_are_keys_one_by_one(names: Sequence[str]) -> None:
    assert are_keys(pa.array(names, pa.string())) == all(map(is_key, names))


def test_rows_are_a_sequence() -> None:
    videos = StoredVideos.of(VIDEO_ROWS)
    instances = StoredInstances.of(INSTANCE_ROWS, videos)
    for rows, expected in ((videos, VIDEO_ROWS), (instances, INSTANCE_ROWS)):
        assert [*rows] == expected
        assert [rows[place] for place in range(-len(expected), len(expected))] == [*expected, *expected]
        for part in (slice(1, 3), slice(None, None, -2), slice(-2, None), slice(4, 2)):
            assert [*rows[part]] == expected[part]
        assert rows == rows[:] != rows[1:]
        assert [*rows.take(np.array([3, 0, 3]))] == [expected[3], expected[0], expected[3]]
        assert expected[1] in rows
        for place in (len(expected), -len(expected) - 1):
            with pytest.raises(IndexError, match=f"row {place} is not there"):
                rows[place]
    assert [*videos[2:].columns.column("labels").to_pylist()] == [[*video.labels] for video in VIDEO_ROWS[2:]]
    parts = StoredInstances.joined([instances[2:4], instances[:1]])
    assert [*parts] == [*INSTANCE_ROWS[2:4], INSTANCE_ROWS[0]]
    assert [*instances.in_split("test")] == [row for row in INSTANCE_ROWS if row.split == "test"]
    assert not len(instances.in_split("val"))
    assert (instances.splits(), instances.labels()) == ({"train", None}, {"c0", "c1", "c2", "both"})
    with pytest.raises(KeyError, match="nobody"):
        StoredInstances.of([replace(INSTANCE_ROWS[0], key="nobody")], videos)


def test_videos_are_found_by_key() -> None:
    by_key = VideosByKey(StoredVideos.of(VIDEO_ROWS))
    assert {key: by_key[key] for key in by_key} == {video.key: video for video in VIDEO_ROWS}
    assert by_key.get("c0/v") is None
    assert "z" not in by_key
    empty = VideosByKey(StoredVideos.of([]))
    assert (len(empty), empty.get("a"), [*StoredVideos.of([])]) == (0, None, [])


def test_schemas_hold_what_the_tests_change() -> None:
    fields = [*VIDEO_SCHEMA, *INSTANCE_SCHEMA]
    assert {str(field.type).replace("item", "element") for field in fields} == VALUES.keys()


def test_the_allocator_of_arrow_is_the_one_before_whichever_block_ends_last() -> None:
    before = pa.default_memory_pool().backend_name
    blocks = system_memory(), system_memory()
    for block in blocks:
        block.__enter__()
        assert pa.default_memory_pool().backend_name == "system"
    blocks[0].__exit__(None, None, None)  # as of another thread
    assert pa.default_memory_pool().backend_name == "system"
    assert not blocks[1].__exit__(*(KeyError, KeyError("x"), None))
    assert pa.default_memory_pool().backend_name == before
