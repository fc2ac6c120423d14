"""Processes that compute one run after another: each run ends as it does alone, and a failure ends its process only."""

from __future__ import annotations

import json
import logging
import os
import random
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from test_study_run import complete_runs, study
from training_cases import TINY_TABLE, comparable, final_network, read_metrics

import vclimb
from vclimb.pipeline.system.cores import available_cores
from vclimb.study.running.fresh_state import as_in_new_process
from vclimb.study.running.run_process import RunProcess
from vclimb.training.run import train


@pytest.mark.timeout(230)
def test_runs_of_one_process_equal_runs_alone_and_one_that_fails_stops_no_other(
    synth_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []
    make = RunProcess.__init__

    def counted(self: RunProcess, *arguments: Any) -> None:
        make(self, *arguments)
        started.append(self._process.pid)

    monkeypatch.setattr(RunProcess, "__init__", counted)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\x02" + bytes(7) + b"{}")  # a sound file without tensors, which no check of settings reads
    cells = [{"method": "finetune"}, {"method": "finetune", "model.weights": str(broken)}, {"frames": 1}, {"frames": 2}]
    base = {**TINY_TABLE, "scenario": {"tasks": 2}, "memory": {"budget": "30kB"}, "method": "naive"}
    toml, out = tmp_path / "study.toml", tmp_path / "study"
    definition = vclimb.Study({"base": base, "cells": cells})
    toml.write_text(definition.definition.to_toml(), "utf-8")
    arguments = ["study", "run", toml, "--data", synth_shards, "--out", out, "--jobs", "1"]
    output = study(*arguments, fails=True)
    assert "3 of 4 runs are complete" in output
    assert "has no tensor of backbone" in output
    assert "Traceback" not in output
    assert len(started) == 2  # the run that failed took its process with it
    (failed,) = (path.stem for path in (out / "failures").glob("*.json"))
    threads = torch.get_num_threads()
    torch.set_num_threads(available_cores())  # as many as the study gives a run: they change how sums are rounded
    for cell in definition.cells(synth_shards):
        if cell.run_id == failed:
            assert "has no tensor" in (out / "logs" / f"{cell.run_id}.txt").read_text("utf-8")
            continue
        alone, run = tmp_path / cell.run_id, out / "runs" / cell.run_id
        train(cell.config, alone)
        assert comparable(read_metrics(run)) == comparable(read_metrics(alone))
        network, expected = final_network(run), final_network(alone)
        assert all(torch.equal(network[name], expected[name]) for name in network | expected)
        assert "has no tensor" not in (out / "logs" / f"{cell.run_id}.txt").read_text("utf-8")
    torch.set_num_threads(threads)

    marks = {path: path.stat().st_mtime_ns for path in (out / "runs").glob("*/*.*") if path.parent.name != failed}
    again = json.loads(study(*arguments, "--json", fails=True))
    assert (again["ran"], again["failed"], [*again["failed_before"]]) == ([], {}, [failed])
    assert set(again["complete_before"]) == set(complete_runs(out))
    assert len(started) == 2
    retried = json.loads(study(*arguments, "--json", "--retry-failed", fails=True))
    assert list(retried["failed"]) == [failed]
    record = json.loads((out / "failures" / f"{failed}.json").read_text("utf-8"))
    assert (record["attempts"], record["exit_status"]) == (2, 1)
    assert "has no tensor of backbone" in record["tail"]
    assert {path: path.stat().st_mtime_ns for path in marks} == marks

    assert "1 failed" in study("study", "report", out, fails=False)
    page = (out / "report.html").read_text("utf-8")
    assert failed in page
    assert "has no tensor of backbone" in page


def test_state_of_the_process_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger, path, arguments = logging.getLogger("vclimb"), [*sys.path], [*sys.argv]
    threads, folder = torch.get_num_threads(), Path.cwd()
    handlers, propagates = [*logger.handlers], logger.propagate
    monkeypatch.setenv("VCLIMB_STATE", "before")
    drawn = []
    for _ in range(2):
        with as_in_new_process():
            drawn.append(torch.rand(3))
            random.seed(0)
            torch.set_num_threads(threads + 1)
            torch.set_float32_matmul_precision("medium")
            torch.backends.cudnn.benchmark = True
            os.environ["VCLIMB_STATE"] = "within"
            os.environ["VCLIMB_MORE"] = "within"
            os.chdir(tmp_path)
            sys.path.insert(0, str(tmp_path))
            sys.argv = ["other"]
            logger.addHandler(logging.NullHandler())
            logger.propagate = not propagates
    assert torch.equal(*drawn)
    assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == (threads, "highest")
    assert not torch.backends.cudnn.benchmark
    assert (os.environ["VCLIMB_STATE"], "VCLIMB_MORE" in os.environ, Path.cwd()) == ("before", False, folder)
    assert (sys.path, sys.argv, logger.handlers, logger.propagate) == (path, arguments, handlers, propagates)
