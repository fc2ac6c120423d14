"""GDumb: a new network for each task, trained on the memory alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training_cases import comparable, final_network, tiny_config

from vclimb.memory.replay import ReplayMemory
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.errors import SettingsError
from vclimb.scenario.files import write_scenario
from vclimb.training.config import RunConfig, ScenarioConfig
from vclimb.training.learner import Learner
from vclimb.training.plan import plan_run
from vclimb.training.run import train
from vclimb.training.scenarios import find_scenario


def gdumb(shards: Path, *more: str) -> RunConfig:
    return tiny_config(shards, "gdumb", "memory.budget=12v", "memory.frames=2", *more)


def test_training_sees_exemplars_alone_and_a_stopped_run_goes_on_exactly(
    synth_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = gdumb(synth_shards, "compute.checkpoint_seconds=0")
    shown: list[int] = []
    steps, updates = Learner.step, ReplayMemory.update

    def recorded(self: Learner, method: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        shown.extend(batch.items.tolist())
        return steps(self, method, batch, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(Learner, "step", recorded)
        whole = train(config, tmp_path / "whole")
    assert [task.replay_exemplars for task in whole.tasks] == [8, 12, 12]
    # Items 0 to 7 are a task's new clips; its exemplars follow.
    assert min(shown) == 8
    assert sorted(shown[:8]) == list(range(8, 16))
    planned = plan_run(config).tasks
    assert [(task.replay_exemplars, task.steps) for task in planned] == [
        (task.replay_exemplars, task.steps) for task in whole.tasks
    ]

    for name, kind, method, stop_at in (("step", Learner, steps, 3), ("update", ReplayMemory, updates, 3)):
        calls = 0

        def stopped(*args: Any, method: Any = method, stop_at: int = stop_at, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            result = method(*args, **kwargs)
            if calls == stop_at:  # in the second task, after its first step or its first update of the memory
                raise KeyboardInterrupt
            return result

        run = tmp_path / name
        with monkeypatch.context() as patched:
            patched.setattr(kind, name, stopped)
            with pytest.raises(KeyboardInterrupt):
                train(config, run)
        assert comparable(train(config, run, resume=True)) == comparable(whole)
        first, second = final_network(tmp_path / "whole"), final_network(run)
        assert all(torch.equal(first[key], second[key]) for key in first)


def test_clips_beyond_the_memory_do_not_change_the_network(
    synth_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = gdumb(synth_shards, "memory.budget=6v")
    scenario = find_scenario(config.scenario, StoredDataset.open(config.data))
    kept: list[set[str]] = []
    update = ReplayMemory.update

    def recorded(self: ReplayMemory, *args: Any, **kwargs: Any) -> Any:
        report = update(self, *args, **kwargs)
        memory = self.open()
        kept.append({key for label in memory.classes for key in memory.table(label).keys})
        return report

    with monkeypatch.context() as patched:
        patched.setattr(ReplayMemory, "update", recorded)
        train(config, tmp_path / "all")
    assert kept[0::2] == kept[1::2]  # each task updates the memory before its training, and again after it
    ever = set.union(*kept)
    fewer = replace(
        scenario,
        tasks=tuple(
            replace(task, train=tuple(one for one in task.train if one.video in ever)) for task in scenario.tasks
        ),
    )
    assert [len(task.train) for task in scenario.tasks] == [8, 8, 8]
    assert [len(task.train) for task in fewer.tasks] == [6, 2, 2]
    write_scenario(fewer, tmp_path / "fewer.json")
    train(config.replaced(scenario=ScenarioConfig(file=str(tmp_path / "fewer.json"))), tmp_path / "kept")
    every, alone = final_network(tmp_path / "all"), final_network(tmp_path / "kept")
    assert all(torch.equal(every[name], alone[name]) for name in every)


def test_a_choice_by_features_is_refused(synth_shards: Path) -> None:
    with pytest.raises(SettingsError, match="method gdumb chooses exemplars before the network is trained"):
        plan_run(gdumb(synth_shards, "memory.video_choice=herding"))
