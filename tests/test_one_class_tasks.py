"""Tasks of one class: refused where a method learns nothing from them, and explained where it learns little."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from training_cases import tiny_config

from vclimb.methods.registry import METHODS
from vclimb.pipeline.errors import SettingsError
from vclimb.training.plan import RunPlan, plan_run

ALONE = "has one class, and method {} trains on the clips of a task alone"
FIRST = "the first task of scenario '[^']+' has one class, and nothing to tell it from: method {} learns nothing from"


@pytest.fixture(scope="module")
def planned(synth_shards: Path) -> Callable[..., RunPlan]:
    def plan(method: str, tasks: str, *more: str) -> RunPlan:
        replays = METHODS.find(method).replays
        memory = ("memory.budget=12v", "memory.frames=2") if replays else ()
        return plan_run(tiny_config(synth_shards, method, tasks, *memory, *more))

    return plan


@pytest.mark.parametrize("name", METHODS.listings())
def test_every_method_learns_from_tasks_of_one_class_or_says_that_it_does_not(
    name: str, planned: Callable[..., RunPlan]
) -> None:
    refused, alone = name in ("lwf", "er-ace"), name in ("finetune", "ewc", "mas")
    for n_tasks in (6, 5):  # of 6 classes: one in each task, or two in the first
        if refused:
            with pytest.raises(SettingsError, match=f"method {name} .* has one class: nothing would be learned; take"):
                planned(name, f"scenario.tasks={n_tasks}")
            continue
        says = ALONE if alone else FIRST if n_tasks == 6 and name not in ("analytic", "features") else ""
        warnings = planned(name, f"scenario.tasks={n_tasks}").warnings
        assert [bool(re.search(says.format(re.escape(name)), warning)) for warning in warnings] == [True] * bool(says)
    assert planned(name, "scenario.tasks=3").warnings == ()


def test_released_lwf_compares_all_classes(planned: Callable[..., RunPlan]) -> None:
    (warning,) = planned("lwf", "scenario.tasks=6", "protocol=released").warnings
    assert ALONE.format("lwf") in warning
