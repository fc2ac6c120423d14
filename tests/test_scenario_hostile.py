"""Hostile scenario files: values out of range, huge texts, and files that claim or repeat more than they hold."""

from __future__ import annotations

import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest

from vclimb.scenario import Scenario, ScenarioError
from vclimb.scenario import files as json_files
from vclimb.scenario import pickles as pickle_files
from vclimb.scenario.from_dataset import TaskPlan, deal_classes
from vclimb.scenario.instance import ScenarioInstance

LONG = "x" * 2_000_000


def refused(path: Path, content: bytes | str) -> str:
    """The one line that a file is refused by."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ScenarioError) as caught:
        Scenario.open(path)
    message = str(caught.value)
    assert str(path) in message
    assert len(message) < 500
    assert "\n" not in message
    return message


def scenario(**changes: Any) -> dict[str, Any]:
    """A scenario with one instance, as its file holds it."""
    tasks = [{"classes": ["a"], "train": [{"video": "v", "class": "a"}]}]
    return {"format": "vclimb-scenario", "format_version": 1, "name": "n", "tasks": tasks} | changes


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"frames": [-1, 5]}, "frames [-1, 5) hold none"),
        ({"frames": [5, 5]}, "frames [5, 5) hold none"),
        ({"frames": [0, 10**400]}, "frames end at a number of 1329 bits, after any video"),
        ({"frames": [0, 2**60]}, "after any video"),
        ({"frames": [0, 1.5]}, "must be a valid integer"),
        ({"frames": [0, 1, 2]}, "at most 2 items"),
        ({"seconds": [-1, 2]}, "start -1.0 s is not a time"),
        ({"seconds": [0, 1e308]}, "end 1e+308 s is not a time; allowed: 0 to 1,000,000,000"),
        ({"foo": 1}, "train 1, foo: no such field"),
        ({LONG: 1}, "xxx...: no such field"),
        ({"class": LONG}, "is longer than 10,000 characters: 'xxx"),
        ({"video": LONG}, "is longer than 10,000 characters: 'xxx"),
        ({"group": LONG}, "the group of video 'v' is longer than 10,000 characters"),
        ({"class": "b" * 9_999}, "(9,999 characters), none of its task's 1 classes"),
    ],
)
def test_instances_out_of_range_are_one_clear_line(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    tasks = [{"classes": ["a"], "train": [{"video": "v", "class": "a"} | change]}]
    assert reason in refused(tmp_path / "bad.json", json.dumps(scenario(tasks=tasks)))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (scenario(name=LONG), "a scenario's name is longer than 10,000 characters"),
        (scenario(tasks=-1), "tasks: must be a valid array, not -1"),
        (scenario(tasks=[]), "has no tasks"),
        (scenario(tasks=scenario()["tasks"] * 5_000), "'a' is listed twice (task 1, 2, 3, ...)"),
        (scenario(tasks=[scenario()["tasks"][0] | {"classes": ["a", "a"]}]), "'a' is listed twice (task 1)"),
        (scenario(tasks=[{"classes": [f"{LONG}{n}" for n in range(3)]}]), "is longer than 10,000 characters"),
        (scenario(**{LONG: 1}), "xxx...: no such field"),
    ],
)
def test_scenarios_out_of_range_are_one_clear_line(tmp_path: Path, content: dict[str, Any], reason: str) -> None:
    assert reason in refused(tmp_path / "bad.json", json.dumps(content))


def test_deep_and_huge_json_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = "[" * 200_000 + "]" * 200_000
    assert "recursion limit" in refused(tmp_path / "bad.json", json.dumps(scenario(tasks=0)).replace("0", deep))
    monkeypatch.setattr(json_files, "MAX_JSON_BYTES", 2**20)
    assert "larger than 1 MiB" in refused(tmp_path / "bad.json", json.dumps(scenario(name=LONG)))


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(ScenarioError, match="not a regular file"):
        Scenario.open(tmp_path / "pipe.json")


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def task_file(tasks: bytes) -> bytes:
    """A pickle of `{"train": tasks}`, given the opcodes of the tasks."""
    return b"\x80\x02}" + text("train") + tasks + b"s."


def again(count: int) -> bytes:
    """Opcodes that append object 0 to a list again and again."""
    return b"(" + b"h\x00" * count + b"e"


EMPTY_CLASSES = b"}q\x00(" + b"".join(text(str(n)) + b"]" for n in range(300)) + b"u"
COLLIDING = b"".join(b"\x8a\x10" + (n * (2**61 - 1)).to_bytes(16, "little") + b"]" for n in range(1, 50_000))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (task_file(b"](" + EMPTY_CLASSES + b"h\x00" * 1_000 + b"e"), "lists over 20,000 instances"),
        (task_file(b"](}q\x00" + b"h\x00" * 21_000 + b"e"), "lists over 20,000 instances"),
        (
            task_file(b"]}" + text("c") + b"]" + text("v") + b"q\x00a" + again(20_001) + b"sa"),
            "lists over 20,000 instances",
        ),
        (task_file(b"](}(" + COLLIDING + b"ue"), "is a number of"),
        (b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"abc.", "bytes in a unicodestring8, but only"),
        (pickle.dumps({"train": [{LONG: ["v"]}]}, 2), "is longer than 10,000 characters"),
        (pickle.dumps({"train": [{"c": [LONG]}]}, 2), "is longer than 10,000 characters"),
        (pickle.dumps({"train": [{"c": []}], LONG: []}, 2), "(2,000,000 characters)"),
        (
            pickle.dumps({"train": [{"c": [{"filename": "v", "t_start": "1" * 10**6, "t_end": "2"}]}]}, 2),
            "t_start of 'v'",
        ),
        (pickle.dumps({"train": [{"c": [{"filename": "v", "t_start": "-1", "t_end": "2"}]}]}, 2), "is not a time"),
    ],
    ids=[
        "empty classes",
        "empty tasks",
        "instances",
        "colliding",
        "claimed",
        "label",
        "video",
        "key",
        "digits",
        "time",
    ],
)
def test_pickles_that_repeat_or_claim_more_than_they_hold_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, reason: str
) -> None:
    monkeypatch.setattr(pickle_files, "MAX_INSTANCES", 20_000)
    assert reason in refused(tmp_path / "bad.pkl", content)


def test_number_of_values_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_files, "MAX_OPCODES", 1_000)
    assert "has over 1,000 values" in refused(tmp_path / "bad.pkl", b"\x80\x02](" + b"N" * 10_000 + b"e.")


def test_stems_without_an_end_are_read_in_linear_time(tmp_path: Path) -> None:
    stems = [f"v_a_g{'1' * 9_900}{n}_x" for n in range(500)] + ["v_" + "_g1" * 3_000 + "_x"]
    (tmp_path / "stems.pkl").write_bytes(pickle.dumps({"train": [{"c": stems}]}, 2))
    instances = list(Scenario.open(tmp_path / "stems.pkl").instances("train"))
    assert [instance.video for instance in instances] == stems
    assert {instance.group for instance in instances} == {None}


def test_thousands_of_tasks_are_dealt_in_the_order_of_the_instances() -> None:
    listed = [ScenarioInstance(f"v{n}", f"class {n % 3_000}") for n in range(9_000)]
    dealt = deal_classes("many", {"train": listed, "test": listed[::-1]}, TaskPlan(tasks=1_500))
    assert len(dealt) == 1_500
    place = {instance.video: number for number, instance in enumerate(listed)}
    for task in dealt:
        assert len(task.train) == len(task.test) == 6
        assert [place[one.video] for one in task.train] == sorted(place[one.video] for one in task.train)
        assert task.test == task.train[::-1]
