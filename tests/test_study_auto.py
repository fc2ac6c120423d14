"""Number of runs at a time that a study finds by itself."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import vclimb
from vclimb.cli.console import explain_errors
from vclimb.cli.main import app
from vclimb.pipeline.errors import GpuMemoryError, SettingsError
from vclimb.study.folder import StudyFolder
from vclimb.study.running import mps as mps_module
from vclimb.study.running.executor import RunCommand, RunExecutor, RunJob
from vclimb.study.running.executors import local
from vclimb.study.running.gpu_readings import GpuReading, GpuWatch
from vclimb.study.running.growth import Growth, Pace
from vclimb.study.running.places import AutoJobs
from vclimb.study.running.sizing import Measured, decide
from vclimb.training.gpu import memory_explained

GB = 1e9
ONE = Measured(runs=1, limit=4, idle=0.4, run_bytes=3 * GB, other_bytes=0, total_bytes=80 * GB, rate=100)
TWO = replace(ONE, runs=2, rate=150, rate_before=100, runs_before=1)
NOW = Pace(0, 0, 0)


@pytest.mark.parametrize(
    ("measured", "runs", "is_final", "reason"),
    [
        (ONE, 2, False, "1 before: idle 40%, 3.0 of 80 GB, 100 clips/s"),
        (TWO, 4, False, "2 before"),
        (replace(TWO, limit=3), 3, False, "2 before"),
        (replace(TWO, run_bytes=20 * GB), 3, False, "2 before"),
        (replace(ONE, idle=0.68), 3, False, "1 before: idle 68%"),
        (replace(ONE, idle=0.99, limit=9), 4, False, "1 before: idle 99%"),
        (replace(ONE, idle=0.14), 1, True, "idle less than 15%"),
        (replace(ONE, idle=0.0, side_by_side=True), 2, False, "1 before: idle 0%"),
        (replace(ONE, limit=1), 1, True, "the cores and the runs of the study allow no more"),
        (replace(ONE, run_bytes=35 * GB), 1, True, "its memory may not hold another"),
        (replace(ONE, run_bytes=30 * GB, other_bytes=9 * GB), 1, True, "its memory may not hold another"),
        (replace(TWO, rate=109), 2, True, "the step from 1 to 2 changed 100 clips/s to 109, a gain below 10%"),
        (replace(TWO, rate=90), 1, True, "the step from 1 to 2 changed 100 clips/s to 90"),
        (replace(TWO, runs=4, runs_before=3, rate=90), 3, True, "the step from 3 to 4"),
    ],
)
def test_runs_are_raised_until_something_binds(measured: Measured, runs: int, is_final: bool, reason: str) -> None:
    decision = decide(measured)
    assert (decision.runs, decision.is_final) == (runs, is_final)
    assert reason in decision.reason


RATES = st.floats(0.1, 1e5)
BYTES = st.floats(0, 200 * GB)
MEASURED = st.builds(
    Measured,
    runs=st.integers(1, 12),
    limit=st.integers(1, 12),
    idle=st.floats(0, 1),
    run_bytes=BYTES,
    other_bytes=BYTES,
    total_bytes=st.floats(1 * GB, 200 * GB),
    rate=RATES,
    rate_before=st.none() | RATES,
)


@given(MEASURED, st.floats(0, 1), st.floats(0, 100 * GB))
def test_more_room_never_means_fewer_runs_and_memory_always_binds(measured: Measured, idle: float, more: float) -> None:
    decision = decide(measured)
    assert 1 <= decision.runs <= 4 * measured.runs
    assert decision.is_final == (decision.runs <= measured.runs)
    if decision.runs > measured.runs:
        assert decision.runs <= measured.limit
        assert measured.other_bytes + decision.runs * measured.run_bytes <= measured.total_bytes
    assert decide(replace(measured, idle=max(idle, measured.idle))).runs >= decision.runs
    assert decide(replace(measured, total_bytes=measured.total_bytes + more)).runs >= decision.runs
    assert decide(replace(measured, run_bytes=measured.run_bytes + more)).runs <= decision.runs
    assert decide(replace(measured, limit=measured.limit + 1)).runs >= decision.runs


@pytest.mark.parametrize(
    ("auto", "n_gpus", "cores", "jobs"),
    [
        (AutoJobs(100), 1, 16, 8),
        (AutoJobs(100), 1, 64, 8),
        (AutoJobs(100), 2, 4, 2),
        (AutoJobs(3), 2, 32, 4),
        (AutoJobs(100, workers=2), 1, 16, 8),
        (AutoJobs(100, workers=0), 1, 6, 6),
        (AutoJobs(100, workers=9), 4, 8, 4),
        (AutoJobs(100), 0, 9, 4),
        (AutoJobs(100, workers=0), 0, 3, 3),
        (AutoJobs(100, workers=7), 0, 2, 1),
        (AutoJobs(2, workers=1, on_cpu=True), 8, 16, 2),
    ],
)
def test_cores_bound_the_number_of_runs(auto: AutoJobs, n_gpus: int, cores: int, jobs: int) -> None:
    assert auto.most(n_gpus, cores) == jobs


def write_events(folder: StudyFolder, run_id: str, clips: int, seconds: float = 0.01) -> None:
    run = folder.run(run_id)
    run.mkdir(parents=True, exist_ok=True)
    old = {"event": "trained", "time": 5.0, "task": 0, "clips": 10**9, "seconds": 1.0}  # of an earlier process
    started = {"event": "started", "time": time.time(), "seconds": {}}
    trained = {"event": "trained", "time": time.time(), "task": 0, "clips": clips, "seconds": seconds}
    with (run / "events.jsonl").open("a") as file:
        file.writelines(json.dumps(event) + "\n" for event in (old, started, trained))


def test_a_gpu_gets_runs_while_the_rate_of_all_rises(tmp_path: Path) -> None:
    folder, lines = StudyFolder(tmp_path), list[str]()
    jobs = [RunJob(name, folder) for name in "abcd"]
    used = 2 * GB  # of others
    growth = Growth("0", 4, lambda: GpuReading(time.time(), used, 80 * GB, 0.5), lines.append, pace=NOW)
    for runs, clips in ((1, 10), (2, 8), (4, 3)):
        assert growth.runs == runs
        used = (2 + 5 * runs) * GB
        growth.look(jobs[:runs])  # the last one has not begun to train
        assert growth.runs == runs
        for job in jobs[:runs]:
            write_events(folder, job.run_id, clips)
        growth.look(jobs[:runs])
        for job in jobs[:runs]:
            write_events(folder, job.run_id, clips)
        growth.look(jobs[:runs])
    assert lines == [
        "gpu 0: 2 runs at a time: 1 before: idle 50%, 7.0 of 80 GB, 1000 clips/s",
        "gpu 0: 4 runs at a time: 2 before: idle 50%, 12.0 of 80 GB, 1600 clips/s",
        "gpu 0: 2 runs at a time from now on: the step from 2 to 4 changed 1600 clips/s to 1200, a gain below 10%",
    ]


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Replace nvidia-smi by a program that prints a text."""
    (tmp_path / "bin").mkdir()

    def prints(text: str) -> None:
        program = tmp_path / "bin" / "nvidia-smi"
        program.write_text(f"#!/bin/sh\nprintf '{text}'\n")
        program.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return prints


def test_gpus_are_read_by_number_or_name(smi: Callable[[str], None]) -> None:
    with pytest.raises(SettingsError, match="nvidia-smi is not found, and jobs auto can't measure without it"):
        GpuWatch(["0"])
    smi("0, GPU-aa1, 1, 80, 40\\n1, GPU-bb2, 3, 80, 100\\n2, GPU-cc3, 1, 80, [N/A]\\n")
    watch = GpuWatch(["0", "GPU-bb"])
    assert (watch.reading("0").used_bytes, watch.reading("0").idle) == (2**20, pytest.approx(0.6))
    assert (watch.reading("GPU-bb").used_bytes, watch.reading("GPU-bb").idle) == (3 * 2**20, 0)
    for gpu, reason in (("2", r"\[N/A\]' for GPU 2"), ("7", "reports no GPU 7"), ("MIG-aa", "reports no GPU MIG-aa")):
        with pytest.raises(SettingsError, match=reason):
            GpuWatch([gpu])


@pytest.fixture
def mps(smi: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace the daemon of MPS by a program that only listens; the folder in which daemons make theirs."""
    program = tmp_path / "bin" / "nvidia-cuda-mps-control"
    program.write_text('#!/bin/sh\ntouch "$CUDA_MPS_PIPE_DIRECTORY/control"\nexec sleep 100\n')
    program.chmod(0o755)
    (tmp_path / "daemons").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "daemons"))
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    monkeypatch.setattr(mps_module, "_TRIAL", "")
    monkeypatch.setattr(mps_module, "_DEFAULT_FOLDER", str(tmp_path / "none"))
    return tmp_path / "daemons"


@pytest.mark.parametrize(
    ("control", "trial", "reason"),
    [
        (None, "", "nvidia-cuda-mps-control is not found"),
        ("exit 7", "", "nvidia-cuda-mps-control ends at once, with status 7"),
        ("", "raise SystemExit(5)", "a program can't take GPU 0 through MPS (CUDA's error 5)"),
    ],
)
def test_runs_take_turns_where_mps_does_not_work(
    smi: Callable[[str], None], mps: Path, monkeypatch: pytest.MonkeyPatch, control: str | None, trial: str, reason: str
) -> None:
    program = mps.parent / "bin" / "nvidia-cuda-mps-control"
    if control is None:
        program.unlink()
    elif control:
        program.write_text(f"#!/bin/sh\n{control}\n")
    monkeypatch.setattr(mps_module, "_TRIAL", trial)
    smi("0, GPU-aa, 4000, 80000, 40\\n")
    lines = list[str]()
    executor = local.LocalRunExecutor(2, ("0",), auto=AutoJobs(8))
    executor.note = lines.append
    assert list(executor.run([])) == []
    assert lines[0] == f"without MPS, so that runs take turns on a GPU: {reason}"
    assert not list(mps.iterdir())
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(mps))
    (mps / "control").touch()
    assert list(executor.run([])) == []
    assert lines[2] == "MPS runs already, and the runs use it"


def test_mps_ends_where_a_gpu_is_lost_before_the_first_run(
    smi: Callable[[str], None], mps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi("0, GPU-aa, 4000, 80000, 40\\n")
    executor = local.LocalRunExecutor(2, ("0",), auto=AutoJobs(8))

    def lost(_self: object, _gpu: str) -> GpuReading:
        raise SettingsError("nvidia-smi reports no GPU 0")

    monkeypatch.setattr(GpuWatch, "reading", lost)
    with pytest.raises(SettingsError, match="reports no GPU 0"):
        list(executor.run([]))
    assert not list(mps.iterdir())


@pytest.mark.usefixtures("mps")
def test_mps_ends_with_a_study_that_is_killed() -> None:
    code = (
        "import time; from vclimb.study.running import mps; mps._TRIAL = ''; daemon = mps.MpsDaemon(['0'])\n"
        "print(daemon._process.pid, flush=True); time.sleep(100)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as study:
        assert study.stdout is not None
        daemon = psutil.Process(int(study.stdout.readline()))
        study.kill()
    daemon.wait(timeout=30)


class Process:
    """Stands for the process of a slot: a run that needs more memory than others leave, or than there is."""

    running: list[str]
    log: list[tuple[str, ...]]

    def __init__(self, folder: StudyFolder, run_id: str) -> None:
        self.run_id, self.folder, self.looks = run_id, folder, 0
        self.running.append(run_id)
        self.log.append(tuple(self.running))

    def status(self) -> int | None:
        self.looks += 1
        write_events(self.folder, self.run_id, 10)
        if self.run_id == "faulty" and len(self.running) > 1 and self.looks > 2:
            self.running.remove(self.run_id)
            return 1
        if self.run_id == "greedy" or (self.run_id == "large" and len(self.running) > 1 and self.looks > 2):
            self.running.remove(self.run_id)
            return GpuMemoryError.exit_status
        if self.looks > 8:
            self.running.remove(self.run_id)
            return 0
        return None


def test_runs_that_others_may_have_ended_are_tried_again_alone(
    smi: Callable[[str], None], mps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi("0, GPU-aa, 4000, 80000, 40\\n")
    folder, lines = StudyFolder(tmp_path / "study"), list[str]()
    Process.running, Process.log = [], []

    def started(_before: object, command: RunCommand, _study: Path) -> Process:
        assert command.environment["CUDA_VISIBLE_DEVICES"] == "0"
        assert Path(command.environment["CUDA_MPS_PIPE_DIRECTORY"], "control").exists()
        return Process(folder, command.log.stem)

    monkeypatch.setattr(local, "_LOOK_SECONDS", 0)
    monkeypatch.setattr(local, "started", started)
    monkeypatch.setattr(local, "stop_processes", lambda _processes: None)
    executor = local.LocalRunExecutor(3, ("0",), auto=AutoJobs(8), pace=NOW)
    executor.note = lines.append
    names = ["a", "b", "large", "c", "d", "faulty", "e", "greedy"]
    ends = [(job.run_id, status) for job, status in executor.run([RunJob(name, folder) for name in names])]
    assert sorted(ends) == [*((name, 0) for name in "abcde"), ("faulty", 0), ("greedy", 3), ("large", 0)]
    last = {"large", "greedy", "faulty"}
    assert {name for name, _ in ends[-3:]} == last  # alone, after all others
    assert Process.log[0] == ("a",)
    assert max(map(len, Process.log)) >= 2
    assert set(Process.log[-3:]) == {(name,) for name in last}
    assert lines[0] == "MPS was started, so that runs compute on a GPU at the same time"
    assert lines[1].startswith("1 run on each GPU at first, 3 at most: ")
    assert lines[2].startswith("gpu 0: 2 runs at a time: 1 before: idle 60%")
    assert "run faulty failed beside others, and is tried again alone at the end" in lines
    assert not list(mps.iterdir())  # the daemon has ended, and its folder is gone
    assert [line for line in lines if "run large found too little memory beside others" in line]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB. GPU 0"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
    ],
)
def test_lack_of_gpu_memory_has_an_exit_status_of_its_own(error: RuntimeError) -> None:
    device = torch.device("cuda:0")
    reason = "doesn't fit into the memory of cuda:0"
    with pytest.raises(GpuMemoryError, match=reason) as raised, memory_explained(device):
        raise error
    with pytest.raises(typer.Exit) as ended:
        explain_errors(lambda: throw(raised.value))
    assert ended.value.exit_code == 3
    with pytest.raises(RuntimeError, match="other"), memory_explained(device):
        raise RuntimeError("other")


def throw(error: Exception) -> None:
    raise error


def test_auto_is_refused_where_it_means_nothing(tmp_path: Path, synth_shards: Path) -> None:
    class Other(RunExecutor):
        run = local.LocalRunExecutor.run  # type: ignore[assignment]

    with pytest.raises(SettingsError, match="jobs auto is not possible with this executor"):
        Other.for_study(AutoJobs(1), "auto", None)
    with pytest.raises(SettingsError, match="jobs auto and jobs_per_gpu 2 are both given"):
        local.LocalRunExecutor.for_study(AutoJobs(1), "auto", 2)
    study = vclimb.Study({"base": {"method": "finetune"}, "axes": {"seed": [0]}})
    with pytest.raises(SettingsError, match="jobs 'many' is not understood; allowed: a number from 1, or auto"):
        study.run(synth_shards, tmp_path / "study", jobs="many")  # type: ignore[arg-type]
    for text in ("many", "0", "-1"):
        done = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(
            app, ["study", "run", "codecs", "--data", "x", "--out", str(tmp_path / "study"), "--jobs", text]
        )
        assert done.exit_code == 2
        assert f"'{text}' is not allowed; write a number from 1, or auto" in done.output
