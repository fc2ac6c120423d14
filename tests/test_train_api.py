"""`vclimb.train`, `vclimb.plan` and `vclimb.Run` as a notebook has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sealed_cases import write_sealed
from training_cases import TINY_TABLE

import vclimb
from vclimb.training.config import RunConfig


@pytest.fixture(scope="module")
def run(synth_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> vclimb.Run:
    """A finished run of iCaRL."""
    dataset = vclimb.open(synth_shards)
    out = tmp_path_factory.mktemp("api") / "run"
    settings = {**TINY_TABLE, "memory.frames": 4, "seed": 7}
    return vclimb.train(dataset, out=out, method="icarl", tasks=2, budget="12v", frames=2, seed=3, settings=settings)


def test_run_holds_what_is_in_its_folder(run: vclimb.Run) -> None:
    assert isinstance(run.config, RunConfig)
    assert (run.config.method["name"], run.config.seed, run.config.memory.frames) == ("icarl", 7, 4)
    assert run.metrics is not None
    assert run.is_complete
    assert (run.acc, run.bwf) == (run.metrics.acc, run.metrics.bwf)
    assert (run.R.shape, run.R.dtype) == ((3, 3), np.float64)  # settings win over arguments: 3 tasks
    assert np.isnan(run.R[0, 1])
    assert run.memory is not None
    assert run.open_memory().bytes_on_disk == run.memory.bytes_on_disk
    assert run.events[-1].kind == "complete"
    assert repr(run) == f"Run('{run.folder}')"


def test_finished_run_is_resumed_by_its_folder_alone(run: vclimb.Run) -> None:
    again = vclimb.train(out=run.folder, resume=True)
    assert again.metrics == run.metrics


def test_settings_of_a_run_serve_another_plan(run: vclimb.Run) -> None:
    plan = vclimb.plan(config=run.config, budget="6v", settings=["memory.frames=1"])
    assert [task.memory.frames for task in plan.tasks if task.memory] == [6, 6, 6]
    with pytest.raises(vclimb.SettingsError, match="did you mean 'icarl'"):
        vclimb.plan(config=run.config, method="icrl")
    with pytest.raises(vclimb.SettingsError, match="is a text"):
        vclimb.plan(config=run.config, settings="seed=1")


def test_scenario_may_be_an_object(run: vclimb.Run, tmp_path: Path) -> None:
    scenario = vclimb.Scenario.from_dataset(run.config.data, tasks=2, seed=5)
    settings = {name: table for name, table in TINY_TABLE.items() if name != "scenario"}
    planned = vclimb.plan(run.config.data, method="finetune", scenario=scenario, settings=settings)
    trained = vclimb.train(run.config.data, out=tmp_path, method="finetune", scenario=scenario, settings=settings)
    assert trained.metrics is not None
    assert [task.class_names for task in planned.tasks] == [task.classes for task in trained.metrics.tasks]
    assert [task.classes for task in scenario] == [task.classes for task in trained.metrics.tasks]
    other = vclimb.Scenario.from_dataset(run.config.data, tasks=2, seed=6)
    with pytest.raises(vclimb.TargetError, match="holds another scenario"):
        vclimb.train(run.config.data, out=tmp_path, method="finetune", scenario=other, resume=True)


def test_run_without_metrics_says_so(run: vclimb.Run, tmp_path: Path) -> None:
    with pytest.raises(vclimb.DatasetError, match="holds no run"):
        vclimb.Run.load(tmp_path)
    (tmp_path / "config.toml").write_text(run.config.to_toml())
    begun = vclimb.Run.load(tmp_path)
    assert begun.metrics is None
    assert begun.events == []
    with pytest.raises(vclimb.DatasetError, match="has not ended its first task"):
        _ = begun.acc


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ({"acc": "high"}, "acc: input should be a valid number"),
        ({"tasks": [{"task": 0}]}, r"tasks\.0\.classes: field required"),
        ({"format": "other"}, "format: input should be 'vclimb-metrics'"),
        ({"format_version": 1}, "format_version: input should be 5"),
    ],
)
def test_damaged_metrics_name_file_and_field(
    damage: dict[str, object], says: str, run: vclimb.Run, tmp_path: Path
) -> None:
    path = tmp_path / "metrics.json"
    assert run.metrics is not None
    write_sealed(path, {**run.metrics.to_json(), **damage})
    with pytest.raises(vclimb.DatasetError, match=says) as raised:
        vclimb.RunMetrics.load(path)
    assert str(path) in str(raised.value)
