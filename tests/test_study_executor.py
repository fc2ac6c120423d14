"""Executors of runs from outside the package: one file that starts the commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from training_cases import TINY_BACKBONE, events_of

import vclimb
from vclimb.pipeline.errors import SettingsError
from vclimb.study.running.executor import EXECUTORS

SERIAL_EXECUTOR = """
import os, subprocess
from vclimb.study.running.executor import RunExecutor

class SerialExecutor(RunExecutor):
    def run(self, jobs):
        for job in jobs:
            command = job.command()
            with open(command.log, "wb") as log:
                environment = {**os.environ, **command.environment}
                yield job, subprocess.call(command.arguments, stdout=subprocess.DEVNULL, stderr=log, env=environment)
"""
STUDY = {
    "name": "tiny",
    "base": {
        "method": "finetune",
        "scenario": {"tasks": 2},
        "model": {"backbone": TINY_BACKBONE, "weights": "none", "clip_frames": 2, "size": 32},
        "training": {"epochs": 1, "batch_size": 8},
        "compute": {"device": "cpu", "decoder": "cpu", "workers": 0},
    },
    "axes": {"seed": [0]},
}


@pytest.mark.timeout(230)
def test_executor_of_another_package_completes_a_study(
    synth_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "serial_runs.py").write_text(SERIAL_EXECUTOR, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    study = vclimb.Study(STUDY)
    result = study.run(synth_shards, tmp_path / "study", executor="serial_runs:SerialExecutor", progress=False)
    assert (result.is_complete, len(result.ran), result.complete) == (True, 1, ())
    (run_id,) = result.ran
    trained = [event for event in events_of(tmp_path / "study/runs" / run_id) if event["event"] == "trained"]
    assert [event["clips"] for event in trained] == [4, 4]  # of two steps of a task, the first isn't counted
    again = study.run(synth_shards, tmp_path / "study", jobs="auto", progress=False)
    assert "1 at a time: " in (tmp_path / "study/jobs.txt").read_text("utf-8")
    assert (again.is_complete, again.ran, set(again.complete)) == (True, (), set(result.ran))
    assert set(vclimb.StudyResult.load(tmp_path / "study").complete) == set(result.ran)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("locale", "executor 'locale' is not known; did you mean 'local'?"),
        ("nowhere:Executor", "executor 'nowhere:Executor' can't be imported: No module named 'nowhere'"),
        ("json:Executor", "executor 'json:Executor' can't be imported: module 'json' has no attribute 'Executor'"),
        ("json:JSONDecoder", "executor 'json:JSONDecoder' is no executor"),
    ],
)
def test_unknown_executors_are_refused(name: str, reason: str) -> None:
    with pytest.raises(SettingsError) as raised:
        EXECUTORS.find(name)
    assert reason in str(raised.value)
