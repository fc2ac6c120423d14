"""Common beginnings: runs that differ in the memory alone train the first task once, with the results of runs alone."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from training_cases import METHODS, comparable, events_of, final_network, read_metrics, tiny_config

from vclimb.methods.naive import Naive
from vclimb.methods.registry import METHODS as REGISTRY
from vclimb.pipeline.errors import SettingsError
from vclimb.settings import flat, nested, setting_names
from vclimb.training.beginning_names import group_of, settings_before_memory
from vclimb.training.beginnings import Beginnings
from vclimb.training.config import CHANGE_NO_NUMBER, MemoryConfig, RunConfig, make_config
from vclimb.training.hidden_settings import HiddenSettingError
from vclimb.training.learner import Learner
from vclimb.training.run import train
from vclimb.training.task_training import TaskTraining


def half_first(shards: Path, method: str, *assignments: str) -> RunConfig:
    """Settings of two tasks of three classes."""
    config = tiny_config(shards, method, *assignments)
    return config.replaced(scenario=config.scenario.replaced(tasks=None, base=3, step=3))


def uses(run: Path) -> list[str]:
    return [event["use"] for event in events_of(run) if event["event"] == "beginning"]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the tasks that are trained, in their order."""
    tasks: list[int] = []
    whole = TaskTraining.train

    def train_counted(training: TaskTraining, checkpoint: dict[str, Any] | None) -> None:
        tasks.append(training._state.info.number)
        whole(training, checkpoint)

    monkeypatch.setattr(TaskTraining, "train", train_counted)
    return tasks


@pytest.mark.parametrize("method", ["icarl", "ewc", "bic"])
def test_results_are_those_of_a_run_alone(method: str, synth_shards: Path, tmp_path: Path, counted: list[int]) -> None:
    """EWC keeps statistics, BiC parameters besides exemplars, and iCaRL judges by the means of exemplars."""
    extra = ["consistency.weight=0.5", "consistency.frames=2"]
    if method == "icarl":  # the state holds the best network besides the last
        extra += ["training.select=best-reported", "training.epochs=2"]
    configs = [half_first(synth_shards, method, *extra)]
    if method == "ewc":
        configs.append(half_first(synth_shards, method, *extra, "memory.budget=64MB"))
    else:
        configs.append(half_first(synth_shards, method, *extra, "memory.budget=40kB", "memory.frames=1"))
    for number, config in enumerate(configs):
        train(config, tmp_path / f"run{number}", beginnings=tmp_path / "beginnings")
    assert counted == [0, 1, 1]
    train(configs[1], tmp_path / "alone")
    run, alone = tmp_path / "run1", tmp_path / "alone"
    assert comparable(read_metrics(run)) == comparable(read_metrics(alone))
    network, expected = final_network(run), final_network(alone)
    assert network.keys() == expected.keys()
    assert all(torch.equal(network[name], expected[name]) for name in expected)
    (file,) = (tmp_path / "beginnings").glob("*.safetensors")
    assert [task.taken_from for task in read_metrics(run).tasks] == [file.stem, None]
    assert [task.taken_from for task in read_metrics(tmp_path / "run0").tasks] == [None, None]
    assert (uses(tmp_path / "run0"), uses(run), uses(alone)) == (["kept"], ["taken"], [])


def test_a_stopped_maker_goes_on_and_a_damaged_beginning_is_made_anew(
    synth_shards: Path, tmp_path: Path, counted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = half_first(synth_shards, "naive", "compute.checkpoint_seconds=0")
    folder = tmp_path / "beginnings"
    whole, steps = Learner.step, [0]

    def step(*arguments: Any, **more: Any) -> Any:
        steps[0] += 1
        if steps[0] == 2:
            raise KeyboardInterrupt
        return whole(*arguments, **more)

    monkeypatch.setattr(Learner, "step", step)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "maker", beginnings=folder)
    assert not folder.exists()
    train(config, tmp_path / "maker", resume=True, beginnings=folder)
    assert uses(tmp_path / "maker") == ["kept"]
    (file,) = folder.glob("*.safetensors")
    good = file.read_bytes()
    file.write_bytes(good[:-100] + bytes(100))
    other = half_first(synth_shards, "naive", "memory.budget=9v")
    train(other, tmp_path / "other", beginnings=folder)
    assert uses(tmp_path / "other") == ["refused", "kept"]
    (refused,) = (event for event in events_of(tmp_path / "other") if event.get("use") == "refused")
    assert "is damaged: its content has changed" in refused["text"]
    assert "\n" not in refused["text"]
    assert counted == [0, 0, 1, 0, 1]

    # Two that train it at a time: the second finds the file of the first, and is content.
    with monkeypatch.context() as patch:
        patch.setattr(Beginnings, "take", lambda *_: None)
        train(other, tmp_path / "second", beginnings=folder)
    assert uses(tmp_path / "second") == []
    counted.clear()
    # Runs need neither the beginning nor each other once they have begun.
    third = half_first(synth_shards, "naive", "memory.budget=6v")
    with monkeypatch.context() as patch:
        patch.setattr(TaskTraining, "train", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(third, tmp_path / "third", beginnings=folder)
    file.unlink()
    train(third, tmp_path / "third", resume=True, beginnings=folder)
    assert counted == [1]
    assert read_metrics(tmp_path / "third").tasks[0].taken_from == file.stem
    # Where nothing can be kept, the run says so and completes.
    folder.rename(tmp_path / "gone")
    folder.write_text("a file")
    train(config, tmp_path / "unkept", beginnings=folder)
    assert uses(tmp_path / "unkept") == ["not kept"]
    assert comparable(read_metrics(tmp_path / "unkept")) == comparable(read_metrics(tmp_path / "maker"))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("protocol", ["paper", "released"])
def test_no_memory_setting_can_be_read_in_the_first_task(method: str, protocol: str, synth_shards: Path) -> None:
    """Whole runs of every method pass this check; here, that it refuses what it must."""
    hidden = tiny_config(synth_shards, method, f"protocol={protocol}").beginning()
    readable = REGISTRY.find(method).memory_settings
    for name in {*MemoryConfig.model_fields, "settings"} - readable:
        with pytest.raises(HiddenSettingError, match=f"memory.{name} is read while the first task is trained"):
            getattr(hidden.memory, name)
    assert hidden.consistency_frames if hidden.has_down_sampled_clips else hidden.consistency.frames is None


def test_a_method_that_reads_the_memory_says_so(synth_shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = (tiny_config(synth_shards, "naive", f"memory.budget={n}v") for n in (6, 12))
    assert group_of(few) == group_of(many)
    monkeypatch.setattr(Naive, "memory_settings", frozenset({"budget"}))
    assert group_of(few) != group_of(many)
    assert few.beginning().memory.budget == "6v"


BASE: dict[str, Any] = {
    "data": "shards/x",
    "method": {"name": "naive"},
    "consistency": {"weight": 0.5},
    "training": {"epochs": 3},
}
# Values that texts without a list of allowed ones may have; a file counts by its content.
TEXTS = {
    "data": "shards/y",
    "method": {"name": "naive", "align": True},
    "differences": {"herding": "whole-matrix"},
    "scenario.file": __file__,
    "model.network": "tsm",
    "model.backbone": "resnet18",
    "model.weights": __file__,
    "memory.budget": "5v",
    "memory.codec": "raw",
    "memory.frame_choice": "random",
    "memory.video_choice": "herding",
    "memory.cache": "1GB",
    "training.frozen": "batch-norm",
    "compute.cache": "caches",
    "log.wandb": "project",
}
WITHOUT_INFLUENCE = {"data", *(f"compute.{name}" for name in CHANGE_NO_NUMBER)}


def with_another(name: str) -> RunConfig:
    """Settings of which one differs from those of `BASE`."""
    before = flat(make_config(BASE).model_dump(mode="json")).get(name)
    annotation = RunConfig.model_fields[name].annotation if "." not in name else None
    if "." in name:
        section, field = name.split(".")
        annotation = type(getattr(make_config(BASE), section)).model_fields[field].annotation
    listed = [option for part in (annotation, *get_args(annotation)) for option in get_args(part)]
    for value in [TEXTS.get(name), *listed, True, False, 1, 2, 112, 0.25, 0.75]:
        with contextlib.suppress(SettingsError):
            if value is not None and value != before and not isinstance(value, type):
                return make_config(BASE, nested(name, value))
    raise AssertionError(f"no other value of {name} is known to this test; add one to TEXTS")


def test_the_address_changes_with_every_setting_but_those_of_the_memory() -> None:
    group = group_of(make_config(BASE))
    names = [*setting_names(RunConfig)]
    for name in names:
        matters = not name.startswith(("memory.", "log.")) and name not in WITHOUT_INFLUENCE
        other = group_of(with_another(name))
        assert (other != group) == matters, name
    assert len(names) > 50
    # K gives the down-sampled clip its number of frames, but only where there are such clips.
    assert group_of(make_config(BASE, {"memory": {"frames": 4}})) != group
    without = {**BASE, "consistency": {"weight": 0.0}}
    assert group_of(make_config(without, {"memory": {"frames": 4}})) == group_of(make_config(without))


def test_the_address_holds_the_content_of_files_and_of_code(tmp_path: Path) -> None:
    groups = []
    for number, content in enumerate((b"one", b"one", b"two")):
        file = tmp_path / str(number)
        file.write_bytes(content)
        groups.append(group_of(make_config(BASE, {"model": {"weights": str(file)}})))
    assert groups[0] == groups[1] != groups[2]
    seen = settings_before_memory(make_config(BASE))["code"]
    assert "vclimb.methods.naive" in seen[0]
    assert "vclimb.model.tsn" in seen[1]
