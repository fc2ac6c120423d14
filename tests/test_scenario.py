"""Scenarios as values and as JSON files."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenario_cases import names, spans, task_of

from vclimb.pipeline.errors import TargetError
from vclimb.scenario import Frames, Scenario, ScenarioError, ScenarioInstance, Seconds, Task, TaskSequence
from vclimb.scenario.files import parse_scenario, scenario_text

SMALL = Scenario("small", (task_of("b", "a"), task_of("c")), "a test")


def test_label_ids_are_the_order_of_first_appearance() -> None:
    assert SMALL.classes == ("b", "a", "c")
    assert SMALL.label_ids == {"b": 0, "a": 1, "c": 2}
    assert [task.classes for task in SMALL] == [("b", "a"), ("c",)]
    assert len(SMALL) == 2
    assert (SMALL.count("train"), SMALL.count("val"), SMALL.count("test")) == (6, 0, 3)
    assert [one.video for one in SMALL.instances("test")] == ["b/v2", "a/v2", "c/v2"]


def test_evaluation_is_on_test_then_val_then_an_error() -> None:
    assert SMALL.evaluation_split == "test"
    assert Scenario("v", (task_of("a", evaluate="val"),)).evaluation_split == "val"
    with pytest.raises(ScenarioError, match="neither test nor val instances"):
        _ = Scenario("n", (Task(("a",), (ScenarioInstance("v", "a"),)),)).evaluation_split


def test_a_scenario_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SMALL.name = "x"  # type: ignore[misc]
    assert hash(SMALL) == hash(Scenario("small", (task_of("b", "a"), task_of("c")), "a test"))


def test_what_cannot_be_a_scenario_is_explained() -> None:
    one = ScenarioInstance("v", "a")
    cases: list[tuple[Any, str]] = [
        (lambda: Scenario("x", ()), "'x' has no tasks"),
        (lambda: Scenario(" ", (task_of("a"),)), "a scenario's name must be a text that isn't empty, not ' '"),
        (lambda: Scenario("x", (task_of("a"), task_of("b", "a"))), r"class 'a' is listed twice \(task 1, 2\)"),
        (lambda: Scenario("x", (Task(("a", "a"), (one,)),)), r"class 'a' is listed twice \(task 1\)"),
        (lambda: Task((), ()), "a task has no classes"),
        (lambda: Task(("a", "b"), (one,)), "class 'b' has no training instance"),
        (lambda: Task(("a",), (one,), test=(ScenarioInstance("w", "z"),)), "test instance 'w' is of class 'z'"),
        (lambda: ScenarioInstance("", "a"), "a video's name must be a text"),
        (lambda: ScenarioInstance("\ud800", "a"), "half a surrogate pair"),
        (lambda: ScenarioInstance("v", "a", group=""), "the group of video 'v' must be a text"),
        (lambda: Seconds(-1.0, None), "start -1.0 s is not a time; allowed: 0 to"),
        (lambda: Seconds(0.0, float("nan")), "end nan s is not a time"),
        (lambda: Frames(3, 3), r"frames \[3, 3\) hold none"),
        (lambda: Frames(-1, 3), r"frames \[-1, 3\) hold none"),
    ]
    for make, message in cases:
        with pytest.raises(ScenarioError, match=message):
            make()


@st.composite
def scenarios(draw: st.DrawFn) -> TaskSequence:
    classes = draw(st.lists(names, min_size=1, max_size=6, unique=True))
    cut = draw(st.integers(0, len(classes) - 1))
    tasks = []
    for of_task in filter(None, (classes[:cut], classes[cut:])):
        some = st.lists(
            st.builds(
                ScenarioInstance,
                names,
                st.sampled_from(of_task),
                st.one_of(spans, st.builds(lambda a, n: Frames(a, a + n), st.integers(0, 9), st.integers(1, 9))),
                st.one_of(st.none(), names),
            ),
            max_size=4,
        )
        train = [ScenarioInstance("v", name) for name in of_task] + draw(some)
        tasks.append(Task(tuple(of_task), tuple(train), tuple(draw(some)), tuple(draw(some))))
    return TaskSequence(draw(names), tuple(tasks), draw(st.text(st.characters(codec="utf-8"), max_size=9)))


@settings(deadline=None, max_examples=50)
@given(scenarios())
def test_json_gives_the_scenario_back(scenario: TaskSequence) -> None:
    text = scenario_text(scenario)
    assert parse_scenario(text) == scenario
    assert scenario_text(parse_scenario(text)) == text
    json.loads(text, parse_constant=pytest.fail)  # no NaN


def test_a_file_gives_the_scenario_back(tmp_path: Path) -> None:
    SMALL.save(tmp_path / "s.json")
    assert Scenario.open(tmp_path / "s.json") == SMALL
    other = dataclasses.replace(SMALL, name="other")
    other.save(tmp_path / "s.json")
    assert Scenario.open(tmp_path / "s.json").name == "other"
    assert os.listdir(tmp_path) == ["s.json"]
    instance_lines = [line for line in (tmp_path / "s.json").read_text().splitlines() if '"video"' in line]
    assert len(instance_lines) == 9


def test_other_files_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text('{"mine": 1}')
    for place in (tmp_path / "notes.json", tmp_path):
        with pytest.raises(TargetError, match="is there and is no scenario"):
            SMALL.save(place)
    assert (tmp_path / "notes.json").read_text() == '{"mine": 1}'
    with pytest.raises(TargetError, match="can't be written: No such file"):
        SMALL.save(tmp_path / "none" / "s.json")


def changed(change: Any) -> str:
    content = json.loads(scenario_text(SMALL))
    change(content)
    return json.dumps(content)


def in_first_instance(**fields: Any) -> Any:
    return lambda content: content["tasks"][0]["train"][0].update(fields)


def without(content: dict[str, Any], name: str) -> None:
    del content[name]


BAD_FILES = {
    "other json": (lambda c: (c.clear(), c.update(database={})), "format: Field required; make a scenario with"),
    "other format": (lambda c: c.update(format="x"), "format: must be 'vclimb-scenario', not 'x'; make a scenario"),
    "version": (lambda c: c.update(format_version=2), "format_version: must be 1, not 2"),
    "version by name": (lambda c: c.update(format_version="1"), "format_version: must be 1, not '1'"),
    "unknown field": (lambda c: c.update(seed=1), "seed: no such field; allowed: format, format_version, name"),
    "no tasks": (lambda c: without(c, "tasks"), "tasks: Field required"),
    "empty tasks": (lambda c: c.update(tasks=[]), "has no tasks"),
    "a task is no object": (lambda c: c["tasks"].append(3), "tasks 3: must be an object, not 3"),
    "unknown split": (
        lambda c: c["tasks"][1].update(valid=[]),
        "tasks 2, valid: no such field; allowed: classes, train",
    ),
    "class is no text": (
        lambda c: c["tasks"][0].update(classes=[1, "a"]),
        "tasks 1, classes 1: must be a valid string",
    ),
    "other class": (in_first_instance(**{"class": "z"}), "tasks 1: train instance 'b/v0' is of class 'z'"),
    "no video": (in_first_instance(video=None), "tasks 1, train 1, video: must be a valid string, not None"),
    "empty video": (in_first_instance(video=""), "tasks 1, train 1: a video's name must be a text that isn't empty"),
    "unknown instance field": (in_first_instance(label="a"), "train 1, label: no such field; allowed: video, class"),
    "both spans": (in_first_instance(seconds=[0, 1], frames=[0, 1]), "has seconds and frames"),
    "one second": (in_first_instance(seconds=[1]), "tasks 1, train 1, seconds 2: Field required"),
    "seconds as text": (in_first_instance(seconds=["1", 2]), "seconds 1: must be a valid number, not '1'"),
    "true seconds": (in_first_instance(seconds=[True, 2]), "seconds 1: must be a valid number, not True"),
    "huge seconds": (in_first_instance(seconds=[0, 10**400]), "must be a finite number, not a number of 1329 bits"),
    "infinite": (in_first_instance(seconds=[0, float("inf")]), "seconds 2: must be a finite number, not inf"),
    "negative": (in_first_instance(seconds=[-1, 2]), "start -1.0 s is not a time"),
    "fractions of frames": (in_first_instance(frames=[0.5, 2]), "frames 1: must be a valid integer, not 0.5"),
    "no frames": (in_first_instance(frames=[2, 2]), "frames [2, 2) hold none"),
}


@pytest.mark.parametrize(("change", "message"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_malformed_json_is_one_clear_error(change: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(changed(change))
    with pytest.raises(ScenarioError) as caught:
        Scenario.open(tmp_path / "s.json")
    assert message in str(caught.value)
    assert "s.json" in str(caught.value)


@pytest.mark.parametrize("content", [b"{", b'{"a": ' * 100_000, b'{"name": "\\ud800"}', b"{\xff", b"{]"])
def test_what_is_no_json_is_one_clear_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_bytes(content)
    with pytest.raises(ScenarioError, match=r"s\.json"):
        Scenario.open(tmp_path / "s.json")


def test_places_and_uses_that_make_no_sense_are_explained(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="can't be read: No such file"):
        Scenario.open(tmp_path / "none.json")
    with pytest.raises(ScenarioError, match="can't be read: Is a directory"):
        Scenario.open(tmp_path)
    SMALL.save(tmp_path / "s.json")
    with pytest.raises(ScenarioError, match="only a pickle can be untrimmed"):
        Scenario.open(tmp_path / "s.json", untrimmed=True)
    (tmp_path / "bom.json").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "s.json").read_bytes())
    assert Scenario.open(tmp_path / "bom.json") == SMALL
