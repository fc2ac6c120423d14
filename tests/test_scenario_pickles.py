"""The benchmark's task files: the real ones load as they are known to be; a hostile one runs nothing."""

from __future__ import annotations

import copyreg
import os
import pickle
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scenario_cases import PICKLES, needs_pickles

from vclimb.scenario import Scenario, ScenarioError, Seconds
from vclimb.scenario import pickles as module
from vclimb.scenario.files import read_scenario
from vclimb.scenario.pickles import load_plain, parse_task_file

TASK_FILE = {
    "train": [{"Surfing": ["v_Surfing_g01_c01", "v_Surfing_g02_c01"], "Fencing": ["v_Fencing_g01_c01"]}, {"C": ["x"]}],
    "val": [{"Fencing": [], "Surfing": ["v_Surfing_g03_c01"]}, {"C": []}],
    "test": [{"Surfing": ["v_Surfing_g01_c02"], "Fencing": []}, {"C": ["y"]}],
}


def save(path: Path, content: Any, protocol: int = 4) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
    return path


def refused(path: Path, content: Any) -> str:
    start_seconds = time.monotonic()
    with pytest.raises(ScenarioError) as caught:
        Scenario.open(save(path, content))
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert time.monotonic() - start_seconds < 10
    return str(caught.value)


@needs_pickles
@pytest.mark.parametrize(("name", "n_tasks", "first"), [("UCF101_data", 10, 11), ("UCF101_data_20tasks", 20, 6)])
def test_real_ucf101(name: str, n_tasks: int, first: int) -> None:
    scenario = Scenario.open(PICKLES / f"{name}.pkl")
    others = 101 // n_tasks
    assert [len(task.classes) for task in scenario] == [first] + [others] * (n_tasks - 1)
    assert [scenario.count(split) for split in ("train", "val", "test")] == [9280, 1314, 2726]
    assert len({one.video for split in ("train", "val", "test") for one in scenario.instances(split)}) == 13_320
    assert scenario.evaluation_split == "test"
    assert all(one.group is not None and one.span is None for one in scenario.instances("test"))


@needs_pickles
def test_real_ucf101_classes_are_in_the_order_of_first_appearance_and_leak() -> None:
    scenario = Scenario.open(PICKLES / "UCF101_data.pkl")
    assert scenario.classes[:2] == ("Surfing", "SalsaSpin")
    assert next(scenario.instances("train")).video == "v_Surfing_g22_c02"
    assert next(scenario.instances("train")).group == "v_Surfing_g22"
    found = scenario.leakage("test")
    assert (found.overall.clips, found.overall.leaked, found.unknown) == (2726, 2692, 0)
    assert found.overall.share is not None
    assert round(100 * found.overall.share, 1) == 98.8
    assert sum(task.leaked for task in found.tasks) == 2692


@needs_pickles
@pytest.mark.parametrize(("name", "n_tasks"), [("ActivityNet_data_10tasks", 10), ("ActivityNet_data_20tasks", 20)])
def test_real_activitynet(name: str, n_tasks: int) -> None:
    scenario = Scenario.open(PICKLES / f"{name}.pkl")
    assert [len(task.classes) for task in scenario] == [200 // n_tasks] * n_tasks
    assert [scenario.count(split) for split in ("train", "val", "test")] == [15_410, 7_654, 0]
    assert [len({one.video for one in scenario.instances(split)}) for split in ("train", "val")] == [10_024, 4_926]
    listed = [one.span for split in ("train", "val") for one in scenario.instances(split)]
    assert all(isinstance(span, Seconds) for span in listed)
    assert sum(isinstance(span, Seconds) and span.is_empty for span in listed) == 12
    assert scenario.evaluation_split == "val"
    whole = Scenario.open(PICKLES / f"{name}.pkl", untrimmed=True)
    assert [whole.count(split) for split in ("train", "val", "test")] == [10_010, 4_917, 0]
    assert whole.classes == scenario.classes
    assert all(one.span is None for split in ("train", "val") for one in whole.instances(split))
    videos = [one.video for split in ("train", "val") for one in whole.instances(split)]
    assert len(set(videos)) == len(videos)


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_is_read(protocol: int, tmp_path: Path) -> None:
    scenario = Scenario.open(save(tmp_path / "t.pkl", TASK_FILE, protocol))
    assert scenario.name == "t"
    assert scenario.classes == ("Surfing", "Fencing", "C")
    assert [[one.video for one in task.test] for task in scenario] == [["v_Surfing_g01_c02"], ["y"]]
    assert [one.group for one in scenario.instances("train")] == [
        "v_Surfing_g01",
        "v_Surfing_g02",
        "v_Fencing_g01",
        None,
    ]


def segment(video: str, start: Any, end: Any) -> dict[str, Any]:
    times = {"t_start": start, "t_end": end, "video_duration": "9"}
    return {"filename": video, **times, "fps": "30.0", "video_frames": "270"}


def test_untrimmed_takes_videos_of_one_class_once(tmp_path: Path) -> None:
    a = [segment("both", "0", "2"), segment("twice", "1", "2"), segment("twice", "3", "4"), segment("late", "8", "11")]
    a += [segment("empty", "3.5", "3.5"), segment("half", "2", "2"), segment("half", "2", "3")]
    content = {
        "train": [{"a": a}, {"b": [segment("both", "4", "5"), segment("b", "0", "9")]}],
        "val": [{"a": []}, {"b": []}],
    }
    path = save(tmp_path / "t.pkl", content)
    trimmed, whole = read_scenario(path), read_scenario(path, untrimmed=True)
    assert trimmed.count("train") == 9
    assert [one.span for one in trimmed.instances("train")][3] == Seconds(8.0, 11.0)
    assert [(one.video, one.label, one.span) for one in whole.instances("train")] == [
        ("twice", "a", None),
        ("late", "a", None),
        ("half", "a", None),
        ("b", "b", None),
    ]
    with pytest.raises(ScenarioError, match="lists whole videos, not segments"):
        read_scenario(save(tmp_path / "u.pkl", TASK_FILE), untrimmed=True)


class Attack:
    """Pickled, it makes whoever loads it run a shell command."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.victim}",)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_runs_a_command_is_refused_and_nothing_runs(protocol: int, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    hidden = {**TASK_FILE, "val": [{"Fencing": [Attack(victim)], "Surfing": []}, {"C": []}]}
    for content in (Attack(victim), {"train": Attack(victim)}, [[[Attack(victim)]]], hidden):
        message = refused(tmp_path / "bad.pkl", pickle.dumps(content, protocol))
        assert "pickle opcode" in message
        assert "nothing was loaded" in message
    assert not victim.exists()
    pickle.loads(pickle.dumps(Attack(victim), protocol))
    assert victim.exists()  # the attack is a real one


def test_no_way_round_the_global_opcode_is_left(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    command = f"touch {victim}".encode()
    text = b"\x8c" + bytes([len(command)]) + command
    copyreg.add_extension("os", "system", 0xF1)
    try:
        cached = b"\x80\x04\x82\xf1" + text + b"\x85R."
        assert pickle.loads(cached) == 0  # the unpickler now has it at hand, and asks find_class no more
        victim.unlink()
        attacks = {
            "EXT1": cached,
            "EXT2": b"\x80\x04\x83\xf1\x00" + text + b"\x85R.",
            "EXT4": b"\x80\x04\x84\xf1\x00\x00\x00" + text + b"\x85R.",
            "INST": b"(S'" + command + b"'\nios\nsystem\n.",
            "GLOBAL": b"(cos\nsystem\nS'" + command + b"'\no.",
            "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93" + text + b"\x85R.",
            "BUILD": b"\x80\x04}}b.",
            "NEWOBJ": b"\x80\x02]]\x81.",
            "REDUCE": b"\x80\x02]]R.",
            "PERSID": b"Pos.system\n.",
            "BINPERSID": b"\x80\x02]Q.",
            "NEXT_BUFFER": b"\x80\x05\x97.",
            "TUPLE1": b"\x80\x04K\x01" + b"\x85" * 100_000 + b".",
            "BYTEARRAY8": b"\x80\x05\x96" + struct.pack("<Q", 4) + b"abcd.",
        }
        for opcode, data in attacks.items():
            assert opcode in refused(tmp_path / "bad.pkl", data), opcode
    finally:
        copyreg.remove_extension("os", "system", 0xF1)
        copyreg.clear_extension_cache()
    assert not victim.exists()


def test_the_unpickler_itself_refuses_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = frozenset(opcode.name for opcode in module.pickletools.opcodes)
    monkeypatch.setattr(module, "_OPCODES", every)
    victim = tmp_path / "victim"
    for protocol in range(6):
        refused(tmp_path / "bad.pkl", pickle.dumps(Attack(victim), protocol))
    assert "posix.system" in refused(tmp_path / "bad.pkl", Attack(victim))
    assert "objects outside the file" in refused(tmp_path / "bad.pkl", b"\x80\x02]Q.")
    assert not victim.exists()


def test_huge_and_deeply_nested_pickles_are_refused(tmp_path: Path) -> None:
    deep = 150_000
    path = tmp_path / "bad.pkl"
    refused(path, b"\x80\x04" + b"]" * deep + b"a" * (deep - 1) + b".")
    nested = b"\x80\x04}X\x05\x00\x00\x00train" + b"]" * deep + b"a" * (deep - 1) + b"s."
    assert "task 1 must be a dict of classes, not a list" in refused(path, nested)
    item = b"\x80\x04}X\x05\x00\x00\x00train]}X\x01\x00\x00\x00a]" + b"]" * deep + b"a" * deep + b"sas."
    assert "an item is a list; allowed: a file's stem" in refused(path, item)
    assert "numbers an object 4294967295" in refused(path, b"\x80\x02]r\xff\xff\xff\xff.")
    assert "numbers an object 999999999999" in refused(path, b"]p999999999999\n.")
    refused(path, b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"abc.")  # a text that claims 4 EiB
    refused(path, b"\x80\x04\x8b" + struct.pack("<i", 2**31 - 1) + b"\x01.")
    refused(path, b"I" + b"9" * 100_000 + b"\n.")
    refused(path, b"\x80\x04\x95" + struct.pack("<Q", 2**63 - 1) + b"].")
    many: list[str] = ["v"] * 10_000
    assert "lists over 2,000,000 instances" in refused(path, {"train": [{f"c{n}": many for n in range(300)}]})
    loop: dict[str, Any] = {}
    loop["train"] = [loop]
    assert "class 'train'" in refused(path, loop) or "must be" in refused(path, loop)
    with path.open("wb") as file:
        file.truncate(module.MAX_FILE_BYTES + 1)
    with pytest.raises(ScenarioError, match="over 64 MiB"):
        Scenario.open(path)


def test_a_file_cut_anywhere_is_one_clear_error(tmp_path: Path) -> None:
    for protocol in (0, 4):
        whole = pickle.dumps(TASK_FILE, protocol)
        for length in range(len(whole)):
            assert "fetch the file again" in refused(tmp_path / "bad.pkl", whole[:length])
        assert "1 bytes follow the end" in refused(tmp_path / "bad.pkl", whole + b".")


BAD_LAYOUTS = {
    "a list": ([], "it holds a list"),
    "a text": ("x", "it holds a str"),
    "no train": ({"val": []}, "holds a dict of 'val'; a dict of train, val and test is needed"),
    "another split": ({"train": [], "extra": []}, "of 'train', 'extra'"),
    "empty": ({}, "it holds a dict"),
    "no tasks": ({"train": []}, "has no tasks"),
    "train is a dict": ({"train": {}}, "train must be a list"),
    "other number of tasks": ({**TASK_FILE, "val": []}, "val must be a list of as many tasks as train has"),
    "other classes": ({**TASK_FILE, "val": [{"X": []}, {"C": []}]}, "val, task 1 has other classes"),
    "a task is a text": ({"train": ["abc"]}, "train, task 1 must be a dict of classes, not a str"),
    "items are a text": ({"train": [{"a": "abc"}]}, "train, task 1, class 'a' must be a list, not a str"),
    "a class is a number": ({"train": [{1: ["v"]}]}, "the class of video 'v' must be a text that isn't empty, not 1"),
    "an item is a number": ({"train": [{"a": [1]}]}, "class 'a': an item is a int"),
    "a class twice": ({"train": [{"a": ["v"]}, {"a": ["w"]}]}, "class 'a' is listed twice (task 1, 2)"),
    "no videos": ({"train": [{"a": []}]}, "class 'a' has no training instance"),
    "no file name": ({"train": [{"a": [{"t_start": "0", "t_end": "1"}]}]}, "a video's name must be a text"),
    "no time": (
        {"train": [{"a": [segment("v", None, "1")]}]},
        "t_start of 'v' is None; seconds, as a text, are needed",
    ),
    "a number": ({"train": [{"a": [segment("v", "0", 1.0)]}]}, "t_end of 'v' is 1.0; seconds, as a text"),
    "no number": ({"train": [{"a": [segment("v", "0", "end")]}]}, "t_end of 'v' is 'end'"),
    "not finite": ({"train": [{"a": [segment("v", "0", "inf")]}]}, "t_end of 'v' is 'inf'"),
    "negative": ({"train": [{"a": [segment("v", "-1", "2")]}]}, "start -1.0 s is not a time"),
}


@pytest.mark.parametrize(("content", "message"), BAD_LAYOUTS.values(), ids=BAD_LAYOUTS.keys())
def test_other_layouts_are_explained(content: Any, message: str, tmp_path: Path) -> None:
    assert message in refused(tmp_path / "bad.pkl", content)


def is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(is_plain(key) and is_plain(inner) for key, inner in value.items())
    return value is None or type(value) in (str, int, float, bool)


@settings(deadline=None, max_examples=100)
@given(st.one_of(st.binary(max_size=60), st.lists(st.sampled_from(list(module.pickletools.opcodes)), max_size=12)))
@example(b"")
@example(b".")
def test_any_bytes_give_plain_values_or_one_error(drawn: Any) -> None:
    data = drawn if isinstance(drawn, bytes) else b"".join(opcode.code.encode("latin-1") for opcode in drawn) + b"."
    loaded = None
    try:
        loaded = load_plain(data, "here")
    except ScenarioError as caught:
        message = str(caught)
        assert message.startswith("here: ")
    assert is_plain(loaded)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_any_damage_to_a_task_file_gives_a_scenario_or_one_error(data: st.DataObject) -> None:
    whole = bytearray(pickle.dumps(TASK_FILE, data.draw(st.sampled_from([0, 2, 4]))))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        scenario = parse_task_file(bytes(whole), "here", "t")
    except ScenarioError as caught:
        message = str(caught)
        assert message.startswith("here")
        assert len(message) < 1000
        return
    assert len(scenario) == 2
    assert len(scenario.classes) == 3
