"""Definition of a pilot: a small study on the first two tasks of a scenario, which compares kinds of memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

from vclimb.memory.choice.budget import MemoryBudget
from vclimb.memory.settings import PILOT
from vclimb.methods.registry import METHODS, parse_method
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.errors import SettingsError
from vclimb.settings import Table, flat, merged
from vclimb.study.axes import nested_setting
from vclimb.study.naming import size_label
from vclimb.training.config import RunConfig, make_config
from vclimb.training.expected_memory import PlannedMemory
from vclimb.training.plan import RunPlan, RunPlanner
from vclimb.training.scenarios import MatchedScenarios

PILOT_TASKS = 2
LEAST_CLASSES = 4
_MOST_TASKS = 10

# Kinds of memory on a frozen network, and then with a method that trains it, the simplest first. The budget chooses the
# size of a random projection.
_STATISTICS: tuple[Table, ...] = (
    {"method": {"name": "analytic", "head": "nearest-mean"}},
    {"method": {"name": "analytic", "head": "ridge", "projection": "auto"}},
)
_FEATURES: Table = {"method": {"name": "features"}, "memory.codec": "features:fp16"}
_EXEMPLARS: tuple[Table, ...] = (
    {"memory.frames": 1},
    {"memory.frames": 4},
    {"memory.frames": 8},
    {"memory.frames": 8, "memory.codec": "h264:28"},
)
_HEADS = {"nearest-mean": "class means", "ridge": "a ridge head"}
# Settings that the pilot varies, or has arguments for.
_OWN = {"memory.budget": "budget", "memory.frames": "kinds of memory", "seed": "seeds", "scenario.first_tasks": "tasks"}


@dataclass(frozen=True)
class Kind:
    """Kind of memory that fits the budget.

    Attributes:
        name: Kind in words.
        cell: Settings of the kind, by dotted names.
        config: Settings of a run over all tasks with the whole budget.
        memory: Expected memory of that run after its last task.
        codec: Encoding of exemplars; None where none are kept.
    """

    name: str
    cell: Table
    config: RunConfig
    memory: PlannedMemory
    codec: str | None

    @property
    def frames(self) -> int | str | None:
        """Number of frames kept of a video, or `all`; None where no frames are kept."""
        return self.config.memory.frames if self.memory.frames else None


@dataclass(frozen=True)
class Pilot:
    """Kinds of memory to compare, and the study that compares them.

    Attributes:
        kinds: Kinds that fit the budget, the simplest first.
        left_out: Kind in words -> reason why it doesn't fit the budget.
        budget: Budget of all classes, in bytes.
        share: Budget of the pilot's classes, in bytes; statistics have the whole budget.
        n_classes: Number of all classes.
        pilot_classes: Number of classes of the pilot.
        most_steps: Largest number of training steps of a run of the pilot.
        table: Definition of the study, as nested tables.
    """

    kinds: tuple[Kind, ...]
    left_out: dict[str, str]
    budget: int
    share: int
    n_classes: int
    pilot_classes: int
    most_steps: int
    table: Table

    @classmethod
    def design(
        cls, dataset: StoredDataset, budget: MemoryBudget, base: Table, tasks: int | None, epochs: int, seeds: int
    ) -> Self:
        """Choose the kinds that fit a budget, and define the study. Nothing is trained.

        Args:
            budget: Budget in bytes, of all classes.
            base: Settings of all runs, as nested tables; those of the schedule are of the run over all tasks.
            tasks: Number of tasks of the whole scenario; None: 10, or so many that each has two classes.
            epochs: Number of epochs of a task of the pilot.
            seeds: Number of seeds.

        Raises:
            VclimbError: The data set has too few classes or nothing to evaluate on, or the budget is too small.
        """
        if budget.kind != "bytes":
            raise SettingsError(f"budget {budget} counts {budget.kind}; kinds of memory compare in bytes, such as 4MB")
        if len(dataset.classes) < LEAST_CLASSES:
            raise _too_few_classes(f"data set {dataset.name}", len(dataset.classes))
        method = base["method"]
        base = _with_tasks({name: value for name, value in base.items() if name != "method"}, dataset, tasks)
        location = {"data": str(dataset.storage)}
        scenarios = MatchedScenarios(dataset)
        scenario = scenarios.get(make_config(base, location).scenario).scenario
        if len(scenario.classes) < LEAST_CLASSES:
            raise _too_few_classes(f"scenario {scenario.name!r}", len(scenario.classes))
        if len(scenario) < PILOT_TASKS:
            raise SettingsError(
                f"scenario {scenario.name!r} has 1 task, and a pilot needs {PILOT_TASKS}: what is kept matters from "
                "the second on"
            )
        n_classes, n_pilot = len(scenario.classes), sum(len(task.classes) for task in scenario.tasks[:PILOT_TASKS])
        share = MemoryBudget("bytes", max(1, budget.amount * n_pilot // n_classes))
        pilot = _short(merged(base, {"scenario": {"first_tasks": PILOT_TASKS}}), epochs)
        planner, kinds, left_out, steps = RunPlanner(scenarios), dict[str, Kind](), dict[str, str](), [0]
        # Statistics of few classes may take almost the bytes of those of many, so that they keep the whole budget.
        cells = [({**kind, "consistency.weight": 0.0}, budget) for kind in _STATISTICS]
        cells.append(({**_FEATURES, "consistency.weight": 0.0}, share))
        cells += [({"method": method, **kind}, share) for kind in _EXEMPLARS]
        for settings, amount in cells:
            kind, _ = _planned(planner, merged(base, location), settings, budget)
            small, small_plan = _planned(planner, merged(pilot, location), settings, amount)
            if reason := _refusal(kind, n_classes, budget) or _refusal(small, n_pilot, amount):
                left_out[kind.name] = reason
            else:  # the same kind comes twice where the settings name the codec of another one
                kinds.setdefault(kind.name, replace(kind, cell=small.cell))
                steps.append(small_plan.steps)
        if all(kind.codec is None for kind in kinds.values()):
            reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
            raise SettingsError(f"budget {budget} is too small for an exemplar of each class ({reasons}); allow more")
        table = {
            "name": "advise",
            "base": pilot,
            "cells": [kind.cell for kind in kinds.values()],
            "axes": {"seed": [*range(seeds)]},
        }
        return cls(tuple(kinds.values()), left_out, budget.amount, share.amount, n_classes, n_pilot, max(steps), table)


def base_settings(file: Table, own: Table) -> Table:
    """Merge settings of all runs, without those that a pilot sets itself.

    Args:
        file: Settings of a file, of which those that the pilot sets are left out.
        own: Settings on top of them, which may not name any of these.

    Raises:
        SettingsError: They do, or the method keeps no exemplars.
    """
    for name in flat(own):
        if name in _OWN:
            raise SettingsError(f"setting {name!r} is not for a pilot, which sets it by its {_OWN[name]}; leave it out")
    kept = {name: value for name, value in flat(file).items() if name not in {*_OWN, "data"}}
    base = merged(*(nested_setting(name, value) for name, value in kept.items()), own)
    method = base.get("method", "naive")
    base["method"] = {"name": "naive", **method} if isinstance(method, dict) else {"name": method}
    if base.get("memory", {}).get("codec") == PILOT:
        raise SettingsError(
            "memory.codec pilot chooses by itself, after a run's first task; leave it out of this pilot"
        )
    name = base["method"]["name"]
    if not METHODS.find(name).replays:
        raise SettingsError(f"method {name} keeps no exemplars; the pilot's exemplars need a method that replays")
    return base


def _with_tasks(base: Table, dataset: StoredDataset, tasks: int | None) -> Table:
    """Add the number of tasks, where neither the settings nor a file give tasks."""
    given = base.get("scenario", {})
    if tasks is None and not {"file", "tasks", "base", "step"} & set(given):
        tasks = min(_MOST_TASKS, len(dataset.classes) // 2)
    return base if tasks is None else merged(base, {"scenario": {"tasks": tasks}})


def _short(base: Table, epochs: int) -> Table:
    """Shorten the training of each task to some epochs, and the warm-up in proportion."""
    training = make_config(base, {"data": "any"}).training
    table = {name: value for name, value in base.get("training", {}).items() if name != "first_epochs"}
    table["epochs"] = epochs
    if training.warmup_epochs:
        table["warmup_epochs"] = training.warmup_epochs * epochs / max(training.epochs, 1)
    return {**base, "training": table}


def _planned(planner: RunPlanner, table: Table, settings: Table, budget: MemoryBudget) -> tuple[Kind, RunPlan]:
    """Plan a run of a kind of memory with a budget, for the methods that have one."""
    method, method_config = parse_method(settings["method"])
    cell = dict(settings)
    if method.replays or method.fills_budget(method_config):
        cell["memory.budget"] = str(budget)
    if not method.replays:
        table = {name: value for name, value in table.items() if name != "memory"}
    config = make_config(table, *(nested_setting(name, value) for name, value in cell.items()))
    plan = planner.plan(config)
    memory = plan.tasks[-1].memory
    assert memory is not None  # each kind keeps something
    return Kind(_name(config, plan.codec), cell, config, memory, plan.codec), plan


def _name(config: RunConfig, codec: str | None) -> str:
    if codec is None:
        return f"{_HEADS[config.method['head']]} on the frozen network"
    if codec.startswith("features"):
        return f"a feature of each video on the frozen network ({codec})"
    frames = config.memory.frames
    if codec.startswith("h264"):
        return f"tiny videos of {frames} frames ({codec})" if frames != 1 else f"1 frame a video ({codec})"
    return f"{frames} frame{'s' if frames != 1 else ''} a video ({codec})"


def _refusal(kind: Kind, n_classes: int, budget: MemoryBudget) -> str:
    """Say why a kind of memory doesn't fit a budget; empty where it does."""
    if kind.codec is None and kind.memory.bytes > budget.amount:
        return f"{size_label(kind.memory.bytes)}, above the budget"
    if kind.codec is not None and kind.memory.videos < n_classes:
        return f"room for {kind.memory.videos} videos of {n_classes} classes in {size_label(budget.amount)}"
    return ""


def _too_few_classes(where: str, n_classes: int) -> SettingsError:
    return SettingsError(f"{where} has {n_classes} classes, and a pilot of two tasks needs {LEAST_CLASSES} or more")


def command_settings(config: RunConfig) -> dict[str, Any]:
    """List the settings of a run that differ from the defaults, by dotted names, and those of its method."""
    defaults = flat(RunConfig(data=config.data).to_table())
    values = flat(config.to_table())
    return {
        name: value
        for name, value in values.items()
        if name.startswith("method.") or (name != "data" and defaults.get(name) != value)
    }
