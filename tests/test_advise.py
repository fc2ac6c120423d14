"""Advice on what to keep: the ranking of kinds of memory, and a whole pilot."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path
from typing import Any

import pytest
from dataset_cases import make_source, prepare_table
from test_cli import explains, run
from training_cases import TINY_TABLE

import vclimb
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.sources import read_source
from vclimb.study.advice import Measured, binomial_error, rank
from vclimb.training.config import ScenarioConfig
from vclimb.training.scenarios import find_scenario

TINY: dict[str, Any] = {name: table for name, table in TINY_TABLE.items() if name != "scenario"}
TINY_FLAGS = [
    word
    for table in ("model", "training", "compute")
    for name, value in TINY[table].items()
    for word in ("--set", f"{table}.{name}={value}")
]


def kind(name: str, *accuracies: float, error: float = 0.0, size: int = 100) -> Measured:
    return Measured(name, accuracies, error, size)


def test_standard_errors_are_those_of_the_formulas() -> None:
    # 3 of 4 right and 1 of 2, each with a clip more that is right and one that is wrong: 4/6 and 2/4.
    assert binomial_error([0.75, 0.5], [4, 2]) == pytest.approx(math.sqrt((4 / 6 * 2 / 6) / 4 + (1 / 4) / 2) / 2)
    assert binomial_error([1.0], [10]) > 0  # few clips that are all right leave a doubt
    measured = kind("a", 0.4, 0.6, error=0.03)
    assert (measured.mean, measured.spread) == (0.5, pytest.approx(math.sqrt(0.02)))
    assert measured.error == pytest.approx(math.sqrt(0.03**2 + 0.02 / 2))  # seeds are averaged, test clips are shared
    assert kind("a", 0.4, error=0.03).error == 0.03


CHOICES = {
    "clear": ([kind("means", 0.5), kind("frames", 0.7, error=0.1)], {"frames"}, "frames", "20.0 points above means"),
    "the cheapest within noise is named": (
        [kind("means", 0.62, size=10), kind("frames", 0.7, error=0.1)],
        {"means", "frames"},
        "frames",
        "the most accurate; 1 other is within noise of it (one standard error is 10.0 points). The cheapest of "
        "these is means: 8.0 points behind, with 10 B.",
    ),
    "sizes within a tenth of the budget are equal": (
        [kind("K 1", 0.65, size=99), kind("K 4", 0.7, error=0.1, size=92), kind("K 8", 0.3, size=92)],
        {"K 1", "K 4"},
        "K 4",
        "1 other is within noise of it (one standard error is 10.0 points). The cheapest of these is K 1",
    ),
    "the best is the cheapest": (
        [kind("means", 0.7, error=0.1, size=10), kind("frames", 0.65)],
        {"means", "frames"},
        "means",
        "and none is cheaper",
    ),
    "equally accurate": ([kind("frames", 0.7), kind("means", 0.7, size=10)], {"means", "frames"}, "means", "none is"),
    "alone": ([kind("frames", 0.7)], {"frames"}, "frames", "nothing else fits the budget"),
}


@pytest.mark.parametrize(("kinds", "as_good", "chosen", "words"), CHOICES.values(), ids=CHOICES.keys())
def test_the_most_accurate_is_advised_and_the_cheapest_within_noise_is_named(
    kinds: list[Measured], as_good: set[str], chosen: str, words: str
) -> None:
    ranking = rank(kinds, 100)
    assert [measured.mean for measured in ranking.ordered] == sorted((k.mean for k in kinds), reverse=True)
    assert ranking.as_good == as_good
    assert ranking.best.name == chosen
    assert ranking.sentences().startswith(f"Keep {chosen}")
    assert words in ranking.sentences()


def test_only_the_first_tasks_of_a_scenario_are_learned(synth_shards: Path) -> None:
    dataset = StoredDataset.open(synth_shards)
    whole = find_scenario(ScenarioConfig(tasks=3), dataset)
    first = find_scenario(ScenarioConfig(tasks=3, first_tasks=2), dataset)
    assert first.tasks == whole.tasks[:2]
    assert first.name == f"{whole.name}_first2"
    assert find_scenario(ScenarioConfig(tasks=3, first_tasks=3), dataset) == whole
    with pytest.raises(vclimb.SettingsError, match=r"first_tasks is 4, .*; allowed: 1 to 3"):
        find_scenario(ScenarioConfig(tasks=3, first_tasks=4), dataset)


def test_a_pilot_advises_a_command_that_works(synth_shards: Path, tmp_path: Path) -> None:
    settings = {**TINY, "training": {**TINY["training"], "epochs": 7, "first_epochs": 9, "warmup_epochs": 2.0}}
    advice = vclimb.advise(synth_shards, "24kB", tmp_path / "pilot", epochs=1, settings=settings, progress=False)
    pilot = advice.pilot
    assert (pilot.n_classes, pilot.pilot_classes, pilot.share) == (6, 4, 16_000)  # 3 tasks of 2 classes, of which 2
    assert advice.n_test == 8
    study = vclimb.StudyResult.load(tmp_path / "pilot")
    assert len(study.complete) == 2 * len(pilot.kinds)
    rows = {row["kind"]: row for row in advice.rows()}
    assert next(iter(rows)) == advice.ranking.best.name
    frozen = {"class means on the frozen network", "a ridge head on the frozen network"}
    features = "a feature of each video on the frozen network (features:fp16)"
    assert {*frozen, features, "1 frame a video (copy)"} <= {*rows}
    assert {name for name, row in rows.items() if row["frames"] is None} == {*frozen, features}
    assert pilot.left_out["8 frames a video (copy)"].startswith("room for ")
    runs = [vclimb.Run.load(tmp_path / "pilot" / "runs" / run_id) for run_id in study.complete]
    for row in rows.values():
        head = "ridge" if "ridge" in row["kind"] else "nearest-mean"
        found = [
            run.acc
            for run in runs
            if run.metrics.codec == row["codec"]
            and (row["frames"] in (None, run.config.memory.frames))
            and (row["codec"] or run.config.method["head"] == head)
        ]
        assert sorted(found) == pytest.approx(sorted(row["accuracies"]))
    for run_ in runs:
        assert (run_.config.training.epochs, run_.config.training.first_epochs) == (1, None)
        assert run_.config.training.warmup_epochs == pytest.approx(2 / 7)
        assert run_.config.memory.budget in ("none", "16kB" if run_.metrics.codec else "24kB")
    # The same command finds complete runs and gives the same answer, and the command that it prints is one.
    flags = [*TINY_FLAGS, "--set", "training.epochs=7", "--set", "training.first_epochs=9"]
    flags += ["--set", "training.warmup_epochs=2.0", "--epochs", "1"]
    arguments = ["--data", str(synth_shards), "--budget", "24kB", "--out", str(tmp_path / "pilot"), *flags]
    again = run("study", "advise", *arguments, "--json")
    assert again.exit_code == 0, again.stderr
    assert json.loads(again.stdout) == json.loads(json.dumps(advice.to_json()))
    shown = run("study", "advise", *arguments)
    assert advice.sentences in shown.stdout
    assert "left out: 8 frames a video (copy): room for " in shown.stdout
    (line,) = [line for line in shown.stdout.splitlines() if line.startswith("train with it: ")]
    words = shlex.split(line.removeprefix("train with it: "))
    assert tuple(words) == advice.command
    plan = json.loads(run(*words[1:], "--dry-run", "--json").stdout)
    assert plan["scenario"]["n_classes"] == 6
    assert plan["settings"]["training"]["epochs"] == 7
    assert plan["tasks"][-1]["memory"]["bytes"] == rows[advice.ranking.best.name]["bytes"]


REFUSED: dict[str, tuple[list[str], str]] = {
    "videos": (["--budget", "20v"], "budget 20v counts videos; kinds of memory compare in bytes"),
    "too small": (["--budget", "9kB"], "budget 9kB is too small for an exemplar of each class ("),
    "method": (["--set", "method.name=ewc"], "method ewc keeps no exemplars"),
    "frames": (["--set", "memory.frames=4"], "setting 'memory.frames' is not for a pilot"),
    "a pilot in the runs": (["--set", "memory.codec=pilot"], "memory.codec pilot chooses by itself"),
    "one task": (["--set", "scenario.tasks=1"], "has 1 task, and a pilot needs 2"),
    "no file": (["--config", "none.toml"], "settings 'none.toml' can't be read"),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_no_pilot_can_tell_is_refused_before_anything_runs(
    arguments: list[str], message: str, synth_shards: Path, tmp_path: Path
) -> None:
    words = ["--data", str(synth_shards), "--budget", "60kB", "--out", str(tmp_path / "pilot"), *TINY_FLAGS]
    explains(run("study", "advise", *words, *arguments), message)
    assert not (tmp_path / "pilot").exists()


def test_data_sets_of_few_classes_or_without_a_test_are_refused(tmp_path: Path) -> None:
    for n_classes, message in (
        (3, "has 3 classes, and a pilot of two tasks needs 4 or more"),
        (4, "no train and test"),
    ):
        source = make_source(tmp_path / f"raw{n_classes}", classes=n_classes, videos_per_class=1)
        prepare_table(read_source(source), tmp_path / f"data{n_classes}")
        words = ["--data", str(tmp_path / f"data{n_classes}"), "--budget", "60kB", "--out", str(tmp_path / "pilot")]
        explains(run("study", "advise", *words), message)
    assert not (tmp_path / "pilot").exists()
