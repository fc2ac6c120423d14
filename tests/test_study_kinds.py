"""Studies of kinds of memories: limits of methods without exemplars, and runs computed a few at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_study_beginnings import InThisProcess
from training_cases import TINY_TABLE

import vclimb
from vclimb.pipeline.errors import SettingsError


def kinds_table(*budgets: str) -> dict[str, Any]:
    """Content of a study of class means and single frames, on a tiny network."""
    return {
        "base": {**TINY_TABLE, "scenario": {"tasks": 2}},
        "cells": [
            {"method": {"name": "analytic", "head": "nearest-mean"}},
            {"method": "naive", "memory.frames": 1},
        ],
        "constraints": {"equal": "bytes", "budgets": list(budgets)},
    }


def test_what_a_method_keeps_must_fit_the_largest_budget(synth_shards: Path, tmp_path: Path) -> None:
    table = {**kinds_table("20kB", "40kB"), "cells": [{"method": "ewc"}]}
    for compute in ("run", "estimate"):
        with pytest.raises(SettingsError, match=r"method ewc keeps .* bytes .*memory.budget 40kB is 40,000 bytes"):
            getattr(vclimb.Study(table), compute)(synth_shards, tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_a_limit_of_runs_leaves_the_others_for_the_next_call(synth_shards: Path, tmp_path: Path) -> None:
    study = vclimb.Study(kinds_table("20kB"))
    estimate = study.estimate(synth_shards, tmp_path / "study", rate=10)
    means = estimate.cells[0]
    assert means.clips == 0  # nothing is trained
    assert means.seconds > 0  # and yet clips pass through the network
    first = study.run(synth_shards, tmp_path / "study", executor=InThisProcess(), limit=1)
    assert [len(first.complete), len(first.ran), first.is_complete] == [0, 1, True]
    second = study.run(synth_shards, tmp_path / "study", executor=InThisProcess(), limit=1)
    assert [len(second.complete), len(second.ran), second.n_runs] == [1, 1, 2]
    with pytest.raises(SettingsError, match="limit 0 is out of range"):
        study.run(synth_shards, tmp_path / "study", limit=0)
