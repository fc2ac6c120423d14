"""GDumb: a new network for each task, trained on the memory alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from training_cases import comparable, final_network, tiny_config

from vclimb.memory.replay import ReplayMemory
from vclimb.pipeline.errors import SettingsError
from vclimb.training.config import RunConfig
from vclimb.training.learner import Learner
from vclimb.training.plan import plan_run
from vclimb.training.run import train


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


def test_a_choice_by_features_is_refused(synth_shards: Path) -> None:
    with pytest.raises(SettingsError, match="method gdumb chooses exemplars before the network is trained"):
        plan_run(gdumb(synth_shards, "memory.video_choice=herding"))
