"""Scenarios on prepared data sets: what is found, what isn't, and the frames that are meant."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_cases import make_source, prepare_table
from scenario_cases import PICKLES, Row, dataset_of, needs_pickles
from typer.testing import CliRunner, Result

from vclimb.cli.main import app
from vclimb.pipeline.clips.provider import InstanceProvider
from vclimb.pipeline.dataset.columns import StoredVideos
from vclimb.pipeline.dataset.dataset import StoredDataset, StoredInstance
from vclimb.pipeline.sources import read_source
from vclimb.pipeline.sources.table import Instance, SourceVideos
from vclimb.scenario import Frames, Scenario, ScenarioError, ScenarioInstance, Seconds, Task, locate, match
from vclimb.scenario.leakage import measure_leakage

ROWS: list[Row] = [
    ("a/v_A_g01_c01.avi", "a", "train", "A1"),
    ("a/v_A_g02_c01.avi", "a", "test", "A2"),
    ("b/v_B_g01_c01.avi", "b", "train", "B1"),
    ("b/v_B_g02_c01.avi", "b", "test", None),
]


def scenario_of(*train: ScenarioInstance, test: tuple[ScenarioInstance, ...] = ()) -> Scenario:
    labels = tuple(dict.fromkeys(one.label for one in train))
    return Scenario("s", (Task(labels, train, (), test or (train[0],)),))


@pytest.mark.parametrize(
    "name", ["a/v_A_g01_c01", "a/v_A_g01_c01.avi", "v_A_g01_c01"], ids=["key or path without suffix", "path", "stem"]
)
def test_a_video_is_found_by_key_path_and_stem(name: str) -> None:
    matched = match(scenario_of(ScenarioInstance(name, "z")), dataset_of(ROWS))
    assert matched.tasks[0].train == (StoredInstance("a/v_A_g01_c01", "z", "train", 0, 40),)
    assert matched.tasks[0].test == (StoredInstance("a/v_A_g01_c01", "z", "test", 0, 40),)
    assert matched.label_ids == {"z": 0}
    assert matched.left_out == ()


def test_a_name_that_had_to_be_made_safe_is_found() -> None:
    dataset = dataset_of([("a/my video (1).avi", "a", None, None), ("b/x.tar.avi", "b", None, None)])
    for name in ("a/my video (1)", "my video (1)", "a/my video (1).avi"):
        assert (
            match(scenario_of(ScenarioInstance(name, "a")), dataset).tasks[0].train[0].key.startswith("a/my_video_1_~")
        )
    assert match(scenario_of(ScenarioInstance("x.tar", "b")), dataset).left_out == ()


def test_a_stem_of_two_files_is_that_of_the_class_or_an_error() -> None:
    dataset = dataset_of([("a/v.avi", "a", None, None), ("b/v.avi", "b", None, None)])
    for label in "ab":
        assert match(scenario_of(ScenarioInstance("v", label)), dataset).tasks[0].train[0].key == f"{label}/v"
    with pytest.raises(ScenarioError, match=r"'v' of class 'z' may be 'a/v.avi' or 'b/v.avi' .* 'a/v' or 'b/v'"):
        locate(scenario_of(ScenarioInstance("v", "z")), dataset)


@pytest.mark.parametrize(
    ("span", "frames"),
    [
        (None, (0, 40)),
        (Seconds(None, None), (0, 40)),
        (Seconds(0.5, 1.0), (5, 10)),
        (Seconds(0.51, 0.99), (5, 10)),
        (Seconds(3.0, 99.0), (30, 40)),
        (Seconds(None, 0.01), (0, 1)),
        (Frames(3, 7), (3, 7)),
        (Frames(0, 40), (0, 40)),
    ],
)
def test_spans_become_frames(span: Seconds | Frames | None, frames: tuple[int, int]) -> None:
    dataset = dataset_of(ROWS)
    (stored,) = match(scenario_of(ScenarioInstance("v_A_g01_c01", "a", span)), dataset).tasks[0].train
    assert (stored.start_frame, stored.end_frame) == frames


def test_seconds_of_an_uneven_video_are_found_by_the_times_of_its_frames() -> None:
    """20 frames at 20 a second, the last of which is held for 2 s more, and 20 others. On average: 10 a second."""
    dataset = dataset_of(ROWS)
    times = tuple(n / 20 if n < 20 else n / 20 + 2 for n in range(41))
    videos = StoredVideos.of([replace(video, frame_seconds=times) for video in dataset.videos])
    dataset = StoredDataset(dataset.storage, replace(dataset.catalog, videos=videos))
    (stored,) = match(scenario_of(ScenarioInstance("v_A_g01_c01", "a", Seconds(2.5, 3.5))), dataset).tasks[0].train
    assert (stored.start_frame, stored.end_frame) == (19, 30)


@pytest.mark.parametrize(
    ("instance", "problem", "reason"),
    [
        (ScenarioInstance("v_A_g09_c01", "a"), "missing", "no video 'v_A_g09_c01' is in data set made"),
        (ScenarioInstance("v_broken", "a"), "broken", "probe: no video stream"),
        (ScenarioInstance("a/v_broken.avi", "a"), "broken", "probe: no video stream"),
        (ScenarioInstance("v_absent", "a"), "broken", "find: not on disk"),
        (ScenarioInstance("v_A_g01_c01", "a", Seconds(4.0, 5.0)), "outside", "outside its 40 stored frames (4.000 s)"),
        (ScenarioInstance("v_A_g01_c01", "a", Frames(39, 41)), "outside", "frames [39, 41) of 'a/v_A_g01_c01' lies"),
    ],
)
def test_what_is_not_there_stops_training_unless_allowed(instance: ScenarioInstance, problem: str, reason: str) -> None:
    errors = [
        ("a/v_broken.avi", "probe", "no video stream"),
        ("v_absent", "find", "not on disk"),
        ("a/v_A_g01_c01.avi", "label", "segment [9, 10) s"),
    ]
    dataset = dataset_of(ROWS, errors=errors)
    scenario = scenario_of(ScenarioInstance("v_A_g01_c01", "a"), instance)
    with pytest.raises(ScenarioError, match=r"1 of the 3 instances .* are not there: 1 .*--allow-missing") as caught:
        match(scenario, dataset)
    assert instance.video in str(caught.value)
    matched = match(scenario, dataset, allow_missing=True)
    assert [one.key for one in matched.tasks[0].train] == ["a/v_A_g01_c01"]
    (left,) = matched.left_out
    assert (left.task, left.split, left.instance, left.problem) == (0, "train", instance, problem)
    assert reason in left.reason
    assert matched.counts() == {problem: 1}


def test_segments_that_are_empty_as_listed_are_left_out_and_named_but_stop_nothing() -> None:
    empty = ScenarioInstance("v_A_g01_c01", "a", Seconds(2.0, 2.0))
    matched = match(scenario_of(ScenarioInstance("v_A_g01_c01", "a"), empty), dataset_of(ROWS))
    assert len(matched.tasks[0].train) == 1
    assert matched.counts() == {"empty": 1}
    assert matched.left_out[0].reason == "[2, 2) s of 'v_A_g01_c01' holds nothing"


def test_a_class_or_task_with_nothing_left_is_an_error_even_if_missing_is_allowed() -> None:
    there, gone = ScenarioInstance("v_A_g01_c01", "a"), ScenarioInstance("v_gone", "b")
    with pytest.raises(ScenarioError, match=r"class 'b' of task 1 has no training instance left .*v_gone"):
        match(scenario_of(there, gone), dataset_of(ROWS), allow_missing=True)
    with pytest.raises(ScenarioError, match="task 1 of scenario 's' has no test instance left"):
        match(scenario_of(there, test=(ScenarioInstance("v_gone", "a"),)), dataset_of(ROWS), allow_missing=True)
    with pytest.raises(ScenarioError, match="neither test nor val"):
        match(Scenario("s", (Task(("a",), (there,)),)), dataset_of(ROWS))


def test_groups_that_only_the_data_set_knows_count_in_leakage() -> None:
    scenario = scenario_of(ScenarioInstance("v_A_g01_c01", "a"), test=(ScenarioInstance("v_A_g02_c01", "a"),))
    shared: list[Row] = [(path, label, split, "one recording") for path, label, split, _ in ROWS]
    assert scenario.leakage().overall.leaked == 0
    assert measure_leakage(locate(scenario, dataset_of(shared)).scenario, "test").overall.leaked == 1
    own = scenario_of(
        ScenarioInstance("v_A_g01_c01", "a", group="x"), test=(ScenarioInstance("v_A_g02_c01", "a", group="y"),)
    )
    assert locate(own, dataset_of(shared)).scenario == own


@needs_pickles
def test_all_of_ucf101_is_found_in_a_data_set_of_its_files_and_losses_are_counted() -> None:
    scenario = Scenario.open(PICKLES / "UCF101_data.pkl")
    everything = [(s, one) for s in ("train", "val", "test") for one in scenario.instances(s)]
    rows: list[Row] = [(f"{one.label}/{one.video}.avi", one.label, split, one.group) for split, one in everything]
    matched = match(scenario, dataset_of(rows))
    for split, count in (("train", 9280), ("val", 1314), ("test", 2726)):
        assert sum(len(task.split(split)) for task in matched.tasks) == count
    assert matched.label_ids["Surfing"] == 0
    lacking = locate(scenario, dataset_of(rows[5:], errors=[(rows[0][0], "probe", "broken")]))
    assert lacking.counts() == {"missing": 4, "broken": 1}
    with pytest.raises(ScenarioError, match="5 of the 13,320 instances"):
        lacking.require()
    lacking.require(allow_missing=True)


@needs_pickles
def test_activitynet_trimmed_and_untrimmed_are_found_over_the_same_videos() -> None:
    path = PICKLES / "ActivityNet_data_10tasks.pkl"
    trimmed, untrimmed = Scenario.open(path), Scenario.open(path, untrimmed=True)
    stems = sorted({one.video for split in ("train", "val") for one in trimmed.instances(split)})
    dataset = dataset_of([(f"{stem}.mp4", "any", None, None) for stem in stems], fps="5", n_frames=5 * 800)
    matched = match(trimmed, dataset)
    assert matched.counts() == {"empty": 12}
    assert sum(len(task.train) + len(task.val) for task in matched.tasks) == 15_410 + 7_654 - 12
    assert match(untrimmed, dataset).left_out == ()
    short = locate(trimmed, dataset_of([(f"{stem}.mp4", "any", None, None) for stem in stems[::4]], n_frames=10))
    assert short.counts()["outside"] > 250  # segments of videos that were cut after a second


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real data set: 3 classes of 4 videos with splits and groups, 10 frames or more."""
    folder = tmp_path_factory.mktemp("real")
    table = read_source(make_source(folder / "source", classes=3, videos_per_class=4))
    videos = SourceVideos.of(
        replace(
            v,
            group=v.key[:-1] + str(n // 2),
            instances=(Instance(v.instances[0].label, "test" if n % 4 == 3 else "train"),),
        )
        for n, v in enumerate(table.videos)
    )
    prepare_table(replace(table, videos=videos), folder / "shards")
    return folder / "shards"


def run(*arguments: str | Path) -> Result:
    return CliRunner(env={"COLUMNS": "160", "NO_COLOR": "1"}).invoke(app, ["scenario", *map(str, arguments)])


def figures(*arguments: str | Path) -> Any:
    result = run(*arguments, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


def test_what_is_matched_streams(prepared: Path, tmp_path: Path) -> None:
    assert run("export", prepared, "--out", tmp_path / "s.json", "--tasks", 3, "--seed", 1).exit_code == 0
    dataset = StoredDataset.open(prepared)
    matched = match(Scenario.open(tmp_path / "s.json"), dataset)
    for number, task in enumerate(matched.tasks):
        provider = InstanceProvider(dataset, task.train, matched.label_ids)
        assert provider.items.labels.tolist() == [number] * 3
        assert provider.read(0, np.array([0, 9])).codec == "jpeg"


def test_export_writes_the_same_file_each_time_and_show_tells_what_it_holds(prepared: Path, tmp_path: Path) -> None:
    target = tmp_path / "s.json"
    first = run("export", prepared, "-o", target, "--base", 2, "--step", 1, "--seed", 5)
    assert first.exit_code == 0, first.stderr
    assert first.stdout.splitlines()[0] == "shards_base2_step1_seed5: 2 tasks, 3 classes"
    assert first.stdout.splitlines()[-1] == f"written: {target}"
    text = target.read_text()
    again = figures("export", prepared, "-o", target, "--base", 2, "--step", 1, "--seed", 5)
    assert target.read_text() == text
    assert again.pop("out") == str(target)
    shown = figures("show", target)
    assert shown == again == Scenario.open(target).report().to_json()
    assert shown["splits"]["train"] == {"instances": 9, "videos": 9}
    assert [len(task["classes"]) for task in shown["tasks"]] == [2, 1]
    assert shown["leakage"]["test"]["leaked"] == 3  # each class's test video shares a group with a training video
    assert shown["data"] is None
    printed = run("show", target, "--data", prepared).stdout
    assert "100.0 % of test clips share their source with a training clip (3 of 3)" in printed
    assert "data set shards has all of it" in printed
    split = figures(
        "export", prepared, "-o", tmp_path / "g.json", "--tasks", 3, "--split", "group", "--test-share", 0.5
    )
    assert split["leakage"]["test"] == {"clips": 6, "leaked": 0, "share": 0.0, "clips_of_unknown_group": 0}


def test_show_names_what_a_data_set_lacks(prepared: Path, tmp_path: Path) -> None:
    run("export", prepared, "--out", tmp_path / "s.json", "--tasks", 3)
    edited = (tmp_path / "s.json").read_text().replace('"class1/v00"', '"class1/[red]v99"')
    (tmp_path / "s.json").write_text(edited)
    shown = figures("show", tmp_path / "s.json", "--data", prepared)
    assert shown["data"]["problems"] == {"missing": 1}
    assert shown["data"]["splits"] == {"train": 8, "val": 0, "test": 3}
    (left,) = shown["data"]["left_out"]
    assert (left["video"], left["class"], left["split"]) == ("class1/[red]v99", "class1", "train")
    printed = run("show", tmp_path / "s.json", "--data", prepared).stdout
    assert "data set shards lacks 1 not in the data set (class1/[red]v99)" in printed
    assert "training on this data set stops, unless with --allow-missing" in printed


@needs_pickles
def test_the_commands_on_real_task_files(tmp_path: Path) -> None:
    shown = " ".join(run("show", PICKLES / "UCF101_data.pkl").stdout.split())  # however wide the terminal
    assert "98.8 % of test clips share their source with a training clip (2,692 of 2,726)" in shown
    assert "9,280 instances of 9,280 videos" in shown
    assert "Surfing, SalsaSpin, PlayingTabla and 8 more" in shown
    result = figures("export", PICKLES / "ActivityNet_data_20tasks.pkl", "--untrimmed", "-o", tmp_path / "a.json")
    assert (result["splits"]["train"]["videos"], result["splits"]["val"]["videos"]) == (10_010, 4_917)
    assert Scenario.open(tmp_path / "a.json") == Scenario.open(PICKLES / "ActivityNet_data_20tasks.pkl", untrimmed=True)


def test_wrong_use_is_explained_and_nothing_is_written(prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    (tmp_path / "notes.txt").write_text("mine")
    target = tmp_path / "s.json"
    for arguments, message in (
        (["export", prepared, "-o", target], "give either the number of tasks, or a base and a step"),
        (["export", prepared, "-o", target, "--tasks", 4], "4 tasks are more than the 3 classes; allowed: 1 to 3"),
        (["export", prepared, "-o", target, "--tasks", 3, "--test-share", 0.2], "test share 0.2 needs split group"),
        (
            ["export", prepared, "-o", target, "--tasks", 3, "--split", "x"],
            "split 'x' is not known; allowed: own, group",
        ),
        (["export", prepared, "-o", target, "--tasks", 3, "--untrimmed"], "--untrimmed is for a task file"),
        (["export", prepared, "-o", tmp_path / "notes.txt", "--tasks", 3], "is there and is no scenario"),
        (["export", tmp_path / "bad.pkl", "-o", target], "byte 0 is the pickle opcode GLOBAL ('os system')"),
        (
            ["export", tmp_path / "bad.pkl", "-o", target, "--seed", 1],
            "whose tasks are fixed; leave out --seed",
        ),
        (["export", tmp_path / "none", "-o", target, "--tasks", 1], "is not a prepared data set"),
        (["show", tmp_path / "bad.pkl"], "byte 0 is the pickle opcode GLOBAL ('os system')"),
        (["show", tmp_path / "none.json"], "can't be read: No such file"),
    ):
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (1, ""), arguments
        assert "error: " in result.stderr
        assert message in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.pkl", "notes.txt"]
    assert (tmp_path / "notes.txt").read_text() == "mine"
