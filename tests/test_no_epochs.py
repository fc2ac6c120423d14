"""0 epochs: for methods that don't train the network, and for no others."""

from __future__ import annotations

from pathlib import Path

import pytest
from training_cases import tiny_config

from vclimb.pipeline.errors import SettingsError
from vclimb.training.plan import plan_run
from vclimb.training.run import train


def test_a_method_that_trains_no_network_takes_no_epochs(synth_shards: Path, tmp_path: Path) -> None:
    config = tiny_config(synth_shards, "analytic", "training.epochs=0")
    assert [task.steps for task in plan_run(config).tasks] == [0, 0, 0]
    assert [task.epochs for task in train(config, tmp_path / "run").tasks] == [0, 0, 0]
    plan_run(
        tiny_config(synth_shards, "analytic", "method.adapt=first", "training.epochs=0", "training.first_epochs=1")
    )


@pytest.mark.parametrize(("method", "more"), [("naive", ()), ("analytic", ("method.adapt=first",))])
def test_a_method_that_trains_one_needs_epochs(method: str, more: tuple[str, ...], synth_shards: Path) -> None:
    with pytest.raises(SettingsError, match=f"training.epochs is 0, and method {method} trains the network on task 1"):
        plan_run(tiny_config(synth_shards, method, "training.epochs=0", *more))
