"""Expected capacities of a budget, compared with packed memories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from training_cases import TINY_BACKBONE, TINY_TABLE
from typer.testing import CliRunner

import vclimb
from vclimb.cli.main import app
from vclimb.memory.choice.budget import MemoryBudget
from vclimb.memory.choice.frames import parse_frame_count
from vclimb.memory.sample import ROOT_BYTES
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.errors import SettingsError
from vclimb.study.planning.capacity import capacities
from vclimb.training.config import make_config
from vclimb.training.expected_memory import PlannedMemory
from vclimb.training.plan import plan_run


@pytest.fixture(scope="module")
def dataset(synth_shards: Path) -> StoredDataset:
    return StoredDataset.open(synth_shards)


@pytest.mark.parametrize("codec", ["copy", "webp:75", "h264:28"])
@pytest.mark.parametrize("frames", ["1", "4", "all"])
def test_plan_is_close_to_a_packed_memory(dataset: StoredDataset, tmp_path: Path, codec: str, frames: str) -> None:
    count = parse_frame_count(frames)
    budget = MemoryBudget.parse("250kB")
    (found,) = capacities(dataset, budget, codecs=[codec], frames=[count], sample=24, rebalance=True)
    memory = vclimb.pack(dataset, tmp_path / "m.zarr", budget="250kB", frames=frames, codec=codec, rebalance=True)
    usage = memory.usage
    assert found.videos_in_data == 24
    assert found.bytes <= 250_000
    if usage.videos == 24:
        assert found.videos == 24
        assert found.bytes == pytest.approx(usage.files.apparent, rel=0.05)
    else:  # which videos are kept, and how long they are, is chance
        assert found.kept_frames == pytest.approx(usage.frames, rel=0.25)


def test_budgets_in_videos_and_frames_say_their_bytes(dataset: StoredDataset) -> None:
    videos, frames = (capacities(dataset, text, codecs="copy", frames="4", sample=6)[0] for text in ("12v", "48f"))
    assert (videos.videos, videos.kept_frames) == (frames.videos, frames.kept_frames) == (12, 48)
    assert videos.bytes > 48 * videos.bytes_per_frame


def test_command_prints_videos_and_frames(dataset: StoredDataset) -> None:
    runner = CliRunner(env={"COLUMNS": "160", "NO_COLOR": "1"})
    arguments = ["study", "plan", "--budget", "150kB", "--data", str(dataset.folder), "--codecs", "copy,raw"]
    tiny = [*arguments, "--frames", "1,all", "--methods", 'bic,ewc,{name="analytic",head="nearest-mean"},naive']
    tiny += ["--set", f"model.backbone={TINY_BACKBONE}", "--set", "scenario.tasks=3"]
    done = runner.invoke(app, tiny)
    assert done.exit_code == 0, done.output
    for words in ("K all", "analytic, head nearest-mean", "keeps none", "doesn't fit", "6 classes in 3 tasks"):
        assert words in done.output
    said = json.loads(runner.invoke(app, [*tiny, "--json"]).stdout)
    assert [method["name"] for method in said["methods"]] == ["bic", "ewc", "analytic, head nearest-mean", "naive"]
    for entry in (*said["methods"], *said["choices"]):
        assert sum(entry["parts"].values()) == entry["bytes"]
    bic, ewc, means, naive = said["methods"]
    assert bic["left"] == 150_000 - bic["bytes"] < naive["left"]
    assert (ewc["fits"], ewc["left"], means["fits"], means["left"]) == (False, None, True, None)
    assert set(naive["parts"]) == {"index"}
    assert [(one["codec"], one["frames"]) for one in said["choices"]] == [
        ("copy", 1), ("copy", "all"), ("raw", 1), ("raw", "all"),
    ]  # fmt: skip
    wrong = runner.invoke(app, [*arguments[:-1], "jpge:75"])
    assert wrong.exit_code == 1
    assert "did you mean jpeg?" in wrong.output.replace("\n", " ")
    for flag, value in (("--frames", ","), ("--frames", ""), ("--frames", "1,,2"), ("--codecs", ",")):
        wrong = runner.invoke(app, [*arguments, flag, value])
        assert wrong.exit_code == 1
        assert f"error: {flag[2:]} {value!r} lacks a value" in " ".join(wrong.output.split())


def test_bytes_of_methods_are_those_of_their_plans(dataset: StoredDataset) -> None:
    settings = {key: value for key, value in TINY_TABLE.items() if key != "compute"}
    for found in vclimb.method_bytes(dataset, "8MB", settings=settings):
        memory = {"memory": {"budget": "8MB"}} if found.replays else {}
        table = {**TINY_TABLE, "data": str(dataset.folder), "method": found.settings, **memory}
        planned = plan_run(make_config(table)).tasks[-1].memory
        assert planned is not None
        without = {part: n for part, n in planned.parts.items() if part not in ("exemplars", "index")}
        assert {part: n for part, n in found.parts.items() if part != "index"} == without
        assert without
        if not found.replays:
            assert planned.bytes == found.bytes
    names = [found.name for found in vclimb.method_bytes(dataset, "20v", settings=settings)]
    assert {"bic", "ewc", "mas", "analytic, head nearest-mean", "analytic, head ridge"} <= {*names}
    assert "naive" not in names
    with pytest.raises(SettingsError, match="did you mean 'ewc'"):
        vclimb.method_bytes(dataset, "8MB", methods="ewcc")


def test_classes_that_keep_nothing_take_no_bytes_of_a_plan(dataset: StoredDataset) -> None:
    table = {"data": str(dataset.folder), "scenario": {"tasks": 2}, "memory": {"budget": f"{ROOT_BYTES + 100}B"}}
    plan = plan_run(make_config(table))
    assert [task.memory for task in plan.tasks] == [
        PlannedMemory(0, 0, ROOT_BYTES, {"exemplars": 0, "index": ROOT_BYTES})
    ] * 2


def test_a_budget_that_holds_no_memory_is_refused(dataset: StoredDataset) -> None:
    with pytest.raises(SettingsError, match="allow more"):
        capacities(dataset, "100B", codecs=["copy"], frames=[1])


def test_an_estimate_of_many_runs_measures_each_encoding_once(
    synth_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []

    def measure(*arguments: Any) -> float:
        measured.append(arguments)
        return 500.0

    monkeypatch.setattr("vclimb.training.plan.bytes_per_frame", measure)
    axes = {"frames": [1, 2], "tc": [0.0, 0.5], "seed": [0, 1, 2, 3]}
    study = vclimb.Study({"base": {"scenario": {"tasks": 2}}, "axes": axes}, budgets="1MB,2MB,3MB")
    estimate = study.estimate(synth_shards, tmp_path / "none", rate=10)
    assert len(estimate.to_table()) == 48
    assert len(measured) == 2
    with pytest.raises(SettingsError, match="rate 0 is out of range"):
        study.estimate(synth_shards, tmp_path / "none", rate=0)
