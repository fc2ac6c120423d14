"""Scenario instances as columns: the same values as objects, and what texts have in common, whatever their hashes."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenario_cases import names, spans

from vclimb.pipeline.dataset.text_hashes import are_among, count_distinct
from vclimb.scenario import Frames, ScenarioError, ScenarioInstance, Seconds, Task, TaskSequence
from vclimb.scenario.instances import InstanceError, ScenarioInstances
from vclimb.scenario.pickles import parse_task_file

FEW = settings(deadline=None, max_examples=60)
whole = st.one_of(st.none(), st.integers(0, 99))
any_span = st.one_of(spans, st.builds(Seconds, whole, whole), st.builds(Frames, st.integers(0, 9), st.integers(10, 19)))
listed = st.lists(st.builds(ScenarioInstance, names, names, any_span, st.one_of(st.none(), names)), max_size=6)
texts = st.lists(st.text("ab/é", max_size=20), max_size=9)


@FEW
@given(listed, listed)
def test_columns_hold_the_objects(one: list[ScenarioInstance], other: list[ScenarioInstance]) -> None:
    columns = ScenarioInstances.of(one)
    assert [*map(repr, columns)] == [*map(repr, one)]  # so that 1 and 1.0 stay what they are
    assert columns.labels() == {instance.label for instance in one}
    assert [*ScenarioInstances.joined([columns, ScenarioInstances.of(other)])] == one + other
    assert (columns == ScenarioInstances.of(other)) == (one == other) == (columns == tuple(other))
    if columns == ScenarioInstances.of(other):
        assert hash(columns) == hash(ScenarioInstances.of(other))
    for kept in (pickle.loads(pickle.dumps(columns)), columns[:]):
        assert (kept, hash(kept)) == (columns, hash(columns))
    sources = [{"video": "v", "group": "g"}[kind] + name for kind, name in (instance.source for instance in one)]
    assert columns.sources().to_pylist() == sources
    groups = pa.array([instance.group and "other" for instance in one[::-1]], pa.string())
    known = [instance.group or group for instance, group in zip(one, groups.to_pylist(), strict=True)]
    assert [instance.group for instance in columns.with_groups(groups)] == known


@FEW
@given(names, names, st.one_of(st.none(), names))
def test_names_that_are_texts_are_listed(video: str, label: str, group: str | None) -> None:
    assert [*ScenarioInstances.listed([video], [label], [group], [None])] == [
        ScenarioInstance(video, label, None, group)
    ]


@pytest.mark.parametrize("bad", ["", " ", "\u2003", "\ud800", "x" * 10_001, None, 7, []])
@pytest.mark.parametrize("of", ["video", "class", "group"])
def test_an_instance_that_cannot_be_is_named_by_its_row(bad: object, of: str) -> None:
    if of == "group" and bad is None:
        return
    rows = [["v", "w"], ["a", "a"], [None, None]]
    rows[["video", "class", "group"].index(of)][1] = bad  # type: ignore[call-overload]
    with pytest.raises(InstanceError, match=of) as caught:
        ScenarioInstances.listed(*rows, [None, None])
    assert caught.value.row == 1


def test_a_name_that_is_listed_again_and_again_takes_no_memory() -> None:
    data = pickle.dumps({"train": [{"a": ["x" * 9_999] * 30_000}]})
    with pytest.raises(ScenarioError, match=r"names of its videos have 299,970,000 characters in all; allowed: up to"):
        parse_task_file(data, "here", "t")


def test_names_that_no_columns_hold_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("vclimb.scenario.task_sequence._MOST_NAME_BYTES", 100)
    task = Task(("a",), tuple(ScenarioInstance("v" * 9, "a") for _ in range(20)))
    with pytest.raises(ScenarioError, match=r"scenario 's' has names of \d+ bytes; allowed: up to 100"):
        TaskSequence("s", (task,))


@pytest.mark.parametrize("hashes_differ", [True, False])
@FEW
@given(some=texts, others=texts)
def test_texts_are_compared_whatever_their_hashes_are(hashes_differ: bool, some: list[str], others: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if not hashes_differ:
            patch.setattr("vclimb.pipeline.dataset.text_hashes.hashes_of", lambda a: np.zeros(len(a), np.uint64))
        arrays = pa.array(some, pa.string()), pa.array(others, pa.string())
        assert are_among(*arrays).tolist() == [text in others for text in some]
        assert count_distinct(arrays[0]) == len(set(some))
