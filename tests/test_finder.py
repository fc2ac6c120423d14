"""A scenario's instances are found in a data set all at once, as they are one by one."""

from __future__ import annotations

import gc
import hashlib
import os
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenario_cases import dataset_of

from vclimb.pipeline.dataset.columns import StoredVideos
from vclimb.pipeline.dataset.key_index import KeyIndex, rows_in_order
from vclimb.pipeline.system.garbage import collection_paused
from vclimb.scenario import Frames, ScenarioInstance, Seconds, Task, TaskSequence, locate
from vclimb.scenario.finder import _FOLDERS, _SUFFIX, Finder, frames_of_all
from vclimb.scenario.instances import ScenarioInstances

FEW = settings(max_examples=150, deadline=None)
ROWS = [(f"a/v{n}.mp4", "a", None, None) for n in range(4)]
RATES = (Fraction(10), Fraction(30000, 1001), Fraction("1e99"), Fraction(10))
TIMES = tuple(n / 20 if n < 20 else n / 20 + 2 for n in range(41))
VIDEOS = StoredVideos.of(
    [
        replace(video, fps_fraction=rate, frame_seconds=TIMES if n == 3 else None)
        for n, (video, rate) in enumerate(zip(dataset_of(ROWS).videos, RATES, strict=True))
    ]
)

times = st.one_of(
    st.none(), st.integers(0, 5), st.floats(0, 5), st.floats(0, 1e9), st.integers(0, 50).map(lambda frame: frame / 10)
)
spans = st.one_of(
    st.none(),
    st.builds(Seconds, times, times),
    st.tuples(st.integers(0, 50), st.integers(1, 50)).map(lambda pair: Frames(pair[0], pair[0] + pair[1])),
)


@FEW
@given(st.lists(st.tuples(st.integers(-1, 3), spans), max_size=8))
def test_frames_of_all_are_those_of_each(listed: list[tuple[int, Seconds | Frames | None]]) -> None:
    finder = Finder(dataset_of(ROWS))
    instances = ScenarioInstances.of(ScenarioInstance("v", "a", span) for _, span in listed)
    rows = np.array([row for row, _ in listed], np.int64)
    starts, ends, doubtful = frames_of_all(instances, rows, VIDEOS)
    for place, (instance, (row, _)) in enumerate(zip(instances, listed, strict=True)):
        problem, _, frames = finder.frames(instance, None if row < 0 else VIDEOS[row])
        if not doubtful[place]:
            assert (problem, frames) == ("", (starts[place], ends[place]))
    sure = [n for n, (row, span) in enumerate(listed) if row in (0, 1) and span is None]
    assert not doubtful[sure].any()


@FEW
@given(st.lists(st.text("ab./\n é", max_size=8), max_size=5))
def test_suffixes_and_folders_are_cut_off_as_python_does(paths: list[str]) -> None:
    array = pa.array(paths, pa.string())
    without = pc.replace_substring_regex(array, _SUFFIX, r"\1").to_pylist()
    assert without == [os.path.splitext(path)[0] for path in paths]
    last = pc.replace_substring_regex(array, _FOLDERS, "").to_pylist()
    assert last == [path.rpartition("/")[2] for path in paths]


@pytest.mark.parametrize("hashes_differ", [True, False])
@FEW
@given(keys=st.lists(st.text("ab/é", max_size=140)), others=st.lists(st.text("ab/é", max_size=4), max_size=9))
def test_keys_are_found_whatever_their_hashes_are(hashes_differ: bool, keys: list[str], others: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if not hashes_differ:
            patch.setattr("vclimb.pipeline.dataset.key_index.hashes_of", lambda texts: np.zeros(len(texts), np.uint64))
        index = KeyIndex(pa.array(keys, pa.string()))
        rows = index.rows_of(pa.array([*keys, *others], pa.string())).tolist()
    assert index.distinct == (len({*keys}) == len(keys))
    for key, row in zip([*keys, *others], rows, strict=True):
        assert keys[row] == key if row >= 0 else key not in keys


@FEW
@given(counts=st.lists(st.integers(0, 3), max_size=6), cut=st.integers(1, 4), strange=st.sampled_from(["", "z", "0"]))
def test_rows_of_keys_in_order_are_found_without_an_index(counts: list[int], cut: int, strange: str) -> None:
    of_rows = pa.array([f"{row}" for row in range(len(counts))], pa.string())
    expected = [row for row, count in enumerate(counts) for _ in range(count)]
    keys = [f"{row}" for row in expected] + ([strange] if strange else [])
    pieces = [pa.array(keys[start : start + cut], pa.string()) for start in range(0, len(keys), cut)]
    found = rows_in_order(pieces, of_rows)
    if strange or 0 in counts:
        assert found is None or [*map(str, found)] == keys
    else:
        assert found is not None
        assert found.tolist() == expected


def test_the_digest_is_of_each_instance() -> None:
    dataset = dataset_of([("a/v'1.mp4", "a", None, None), ("b/é 2.mp4", 'b"é', None, None)])
    named = [("v'1", "a"), ("é 2", 'b"é')]
    tasks = [Task((label,), (ScenarioInstance(video, label, Frames(1, 9)),)) for video, label in named]
    matched = locate(TaskSequence("made", tuple(tasks)), dataset)
    digest = hashlib.sha256()
    for task in matched.tasks:
        digest.update(repr(task.classes).encode())
        for instance in task.train:
            digest.update(f"train {instance!r} {dataset.by_key[instance.key].sha256}\n".encode())
    assert matched.left_out == ()
    assert matched.digest(dataset) == digest.hexdigest()


@collection_paused()
def fail_in_a_pause() -> None:
    assert not gc.isenabled()
    raise KeyError


def test_garbage_is_collected_again_after_a_pause() -> None:
    with pytest.raises(KeyError):
        fail_in_a_pause()
    assert gc.isenabled()
