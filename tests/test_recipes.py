"""benchmarks/recipes.py: its recipes are settings of runs, and a recipe is compared with a frozen network on a CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from results_cases import load_benchmark
from training_cases import TINY_BACKBONE, events_of, read_metrics

from vclimb.settings import parse_assignment
from vclimb.training.config import make_config

TINY = (f"model.backbone={TINY_BACKBONE}", "model.size=32", "model.clip_frames=2", "training.epochs=2")


def test_recipes_are_named_by_their_parts_and_are_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    recipes = load_benchmark("recipes", monkeypatch)
    assert len(set(recipes.RECIPES)) == len(recipes.RECIPES) >= 24
    for recipe in recipes.RECIPES:
        settings = recipes.settings_of(recipe)
        assert len({setting.partition("=")[0] for setting in settings}) == len(settings)  # no part undoes another
    cells = recipes.cells_of(recipes.RECIPES, [0])
    configs = {
        cell.name: make_config({"data": "shards/x"}, *map(parse_assignment, cell.settings)).model for cell in cells
    }
    assert len(configs) == len(recipes.RECIPES) + 2 * 3  # two heads at three sizes
    assert configs["sgd3+e40+px224-s0"].size == configs["ridge-224px-s0"].size == 224


def test_recipe_is_compared_with_the_frozen_network_by_its_last_epoch(
    synth_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipes = load_benchmark("recipes", monkeypatch)
    options = [str(synth_shards), "--out", str(tmp_path), "--weights", "none", "--workers", "0", "--json"]
    options += ["--only", "sgd3+bn+e40"]
    for setting in (*TINY, "compute.device=cpu"):
        options += ["--set", setting]
    monkeypatch.setattr("sys.argv", ["recipes.py", *options])
    assert recipes.main() == 0
    rows = {row["recipe"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == ["ncm-112px", "ridge-112px", "sgd3+bn+e40"]
    measured = [event for event in events_of(tmp_path / "sgd3+bn+e40-s0") if event["event"] == "measured"]
    assert [(event["task"], event["epoch"], event["split"]) for event in measured] == [(0, 0, "test"), (0, 1, "test")]
    row, ridge = rows["sgd3+bn+e40"], rows["ridge-112px"]["last"]
    assert row["curves"] == [[event["score"] for event in measured]]
    assert row["last"] == measured[-1]["score"]
    assert row["minus_ridge"] == row["last"] - ridge
    assert ridge == read_metrics(tmp_path / "ridge-112px-s0").acc
    assert read_metrics(tmp_path / "sgd3+bn+e40-s0").acc == max(event["score"] for event in measured)
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"

    monkeypatch.setattr("sys.argv", ["recipes.py", "--out", str(tmp_path), "--table", "--only", "sgd3+bn+e40"])
    assert recipes.main() == 0
    assert (
        f"| sgd3+bn+e40 | {100 * row['last']:.1f} | {100 * row['minus_ridge']:+.1f} | 2 | 1 |"
        in capsys.readouterr().out
    )
