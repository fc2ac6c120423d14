"""The start of a run: what it is spent on, and what is set for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from training_cases import events_of, tiny_config

import vclimb
from vclimb.training.gpu import cudnn_search, gpu_starting
from vclimb.training.progress import TrainProgress
from vclimb.training.start import PARTS, start_line


def test_a_run_logs_once_what_its_start_was_spent_on(
    synth_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[tuple[bool, int]] = []

    class Log(TrainProgress):
        def event(self, kind: str, **values: Any) -> None:
            searched.append((torch.backends.cudnn.benchmark, torch.backends.cudnn.benchmark_limit))

        record = event  # type: ignore[assignment]

    monkeypatch.setattr("vclimb.training.api.TrainProgress", Log)
    before = torch.backends.cudnn.benchmark, torch.backends.cudnn.benchmark_limit
    config = tiny_config(synth_shards, "naive", "compute.cudnn_search=3")
    vclimb.train(config=config, out=tmp_path / "run")
    events = events_of(tmp_path / "run")
    (number,) = [number for number, event in enumerate(events) if event["event"] == "started"]
    assert events[number - 1]["event"] == "first_step"
    assert [*events[number]["seconds"]] == [*PARTS]
    assert all(seconds >= 0 for seconds in events[number]["seconds"].values())
    assert {*searched} == {(True, 3)}
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.benchmark_limit) == before


def test_a_line_shows_the_parts_that_took_time() -> None:
    assert start_line({"imports": 2.04, "data": 0.01, "first_step": 0.5}) == (
        "first step after 2.5 s: imports 2.0, first step 0.5"
    )
    assert start_line({"data": 0.01}) == "first step after 0.0 s"


def test_no_search_leaves_the_limit_as_it_is() -> None:
    limit = torch.backends.cudnn.benchmark_limit
    with cudnn_search(0), gpu_starting(torch.device("cpu")):
        assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.benchmark_limit) == (False, limit)
