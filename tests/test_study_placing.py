"""What a study starts its runs with: a GPU, cores, and files where they lie now. Nothing is trained."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vclimb.pipeline.errors import SettingsError, TargetError
from vclimb.study.definition import Study
from vclimb.study.folder import StudyFolder
from vclimb.study.running.executor import LocalExecutor, OnProgress, RunJob, RunOutcome
from vclimb.study.running.gpus import gpus_of
from vclimb.study.running.run import run_study
from vclimb.training.config import RunConfig, read_config
from vclimb.training.run_folder import RunFolder


def test_runs_share_cores_and_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = LocalExecutor(StudyFolder(tmp_path), 4, ("0", "2"), threads=3)
    environments = [executor._environment(slot) for slot in range(4)]
    assert [environment["CUDA_VISIBLE_DEVICES"] for environment in environments] == ["0", "2", "0", "2"]
    assert {environment["OMP_NUM_THREADS"] for environment in environments} == {"3"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert gpus_of("auto") == ("3", "5")
    assert gpus_of("1, 0") == ("5", "3")
    for text in ("3", "0,2"):
        with pytest.raises(SettingsError, match=r"is not visible; allowed: 0, 1, which count CUDA_VISIBLE_DEVICES=3,5"):
            gpus_of(text)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-8932f937,1,-1,2")
    assert gpus_of("GPU-8932f937,1") == gpus_of("auto") == ("GPU-8932f937", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus_of("auto") == ()
    with pytest.raises(SettingsError, match="GPU '0' is not visible; no GPU is"):
        gpus_of("0")


class Endless:
    """An executor that notes its jobs' settings and their run folders', and ends none."""

    def __init__(self, folder: StudyFolder) -> None:
        self.folder = folder
        self.started: list[RunConfig] = []
        self.begun: list[RunConfig] = []

    def run(self, jobs: Sequence[RunJob], on_progress: OnProgress) -> Generator[RunOutcome, None, None]:
        for job in jobs:
            self.started.append(read_config(job.config))
            run = RunFolder(self.folder.run(job.run_id))
            with run.held():
                run.begin(self.started[-1], resume=True)
            self.begun.append(run.config())
            yield RunOutcome(job, "stopped")


def started(folder: StudyFolder, base: dict[str, Any], on_gpu: bool = False) -> Endless:
    """What runs of a study are started with."""
    study = Study.parse({"base": {"scenario": {"tasks": 2}, "method": "finetune", **base}, "axes": {"seed": [0]}})
    executor = Endless(folder)
    with folder.held():
        run_study(study.expand("shards/x"), study.to_toml(), folder, executor, 3, on_gpu=on_gpu)
    return executor


@pytest.mark.parametrize(
    ("asked", "on_gpu", "device"),
    [("auto", False, "auto"), ("auto", True, "cuda"), ("cpu", True, "cpu"), ("cuda", False, "cuda")],
)
def test_a_run_that_is_given_a_gpu_never_trains_on_the_cpu(
    tmp_path: Path, asked: str, on_gpu: bool, device: str
) -> None:
    (config,) = started(StudyFolder(tmp_path / "s"), {"compute": {"device": asked}}, on_gpu).started
    assert (config.compute.device, config.compute.workers) == (device, 3)


def test_a_run_resumes_with_another_path_of_the_same_file(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    config = RunConfig("shards/x", {"name": "finetune"})
    for name in ("a.pt", "b.pt", "c.pt"):
        (tmp_path / name).write_bytes(b"others" if name == "c.pt" else b"weights")
    configs = [replace(config, model=replace(config.model, weights=str(tmp_path / f"{x}.pt"))) for x in "abc"]
    with folder.held():
        folder.begin(configs[0], resume=False)
        folder.begin(configs[1], resume=True)
        with pytest.raises(TargetError, match=r"with other settings: model\.weights is"):
            folder.begin(configs[2], resume=True)
        (tmp_path / "a.pt").unlink()
        with pytest.raises(TargetError, match=r"with other settings: model\.weights is"):  # nobody knows what it held
            folder.begin(configs[1], resume=True)


def test_runs_go_on_with_files_where_they_lie_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = StudyFolder(tmp_path / "study")
    (tmp_path / "w.pt").write_bytes(b"weights")
    monkeypatch.chdir(tmp_path)

    def begun(path: str) -> str:
        (config,) = started(folder, {"model": {"weights": path}}).begun
        (_,) = (tmp_path / "study" / "runs").iterdir()
        return config.model.weights

    assert begun("w.pt") == "w.pt"
    assert begun(str(tmp_path / "w.pt")) == str(tmp_path / "w.pt")
    (tmp_path / "w.pt").rename(tmp_path / "v.pt")
    assert begun("v.pt") == "v.pt"
    (config,) = (tmp_path / "study" / "runs").glob("*/config.toml")
    config.write_text("=", "utf-8")
    with pytest.raises(SettingsError, match="are not TOML"):  # of the run, which the executor begins
        begun("v.pt")
