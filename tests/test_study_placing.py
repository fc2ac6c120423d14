"""Settings that a study starts its runs with: GPU, cores, and current paths of files. Nothing is trained."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from vclimb.pipeline.errors import SettingsError, TargetError
from vclimb.study.definition import StudyDefinition
from vclimb.study.folder import StudyFolder
from vclimb.study.running.executor import RunExecutor, RunJob
from vclimb.study.running.places import Places, find_gpus
from vclimb.study.running.run import run_cells
from vclimb.training.config import RunConfig, make_config, read_config
from vclimb.training.run_folder import RunFolder


def test_runs_share_cores_and_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = RunJob("0123", StudyFolder(tmp_path), threads=3)
    assert job.command("2").environment["CUDA_VISIBLE_DEVICES"] == "2"
    assert "CUDA_VISIBLE_DEVICES" not in job.command().environment
    assert job.command().environment["OMP_NUM_THREADS"] == "3"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert find_gpus() == ("3", "5")
    assert find_gpus("1, 0") == find_gpus([1, 0]) == ("5", "3")
    assert (Places.find().jobs, Places.find(jobs_per_gpu=3).jobs) == (2, 6)
    with pytest.raises(SettingsError, match="jobs 2 and jobs_per_gpu 3 are both given; leave one of them out"):
        Places.find(2, jobs_per_gpu=3)
    for text in ("3", "0,2"):
        with pytest.raises(SettingsError, match=r"is not visible; allowed: 0, 1, which count CUDA_VISIBLE_DEVICES=3,5"):
            find_gpus(text)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-8932f937,1,-1,2")
    assert find_gpus("GPU-8932f937,1") == find_gpus() == ("GPU-8932f937", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert find_gpus() == ()
    with pytest.raises(SettingsError, match="GPU '0' is not visible; no GPU is"):
        find_gpus("0")


class EndlessExecutor(RunExecutor):
    """Notes the settings of jobs, and the settings in their run folders; stops every run at once."""

    def __init__(self, gpus: Sequence[str] = ()) -> None:
        super().__init__(1, gpus)
        self.started: list[RunConfig] = []
        self.begun: list[RunConfig] = []

    def run(self, jobs: Sequence[RunJob]) -> Generator[tuple[RunJob, int], None, None]:
        for job in jobs:
            self.started.append(read_config(job.study.config(job.run_id)))
            run = RunFolder(job.study.run(job.run_id))
            with run.held():
                run.begin(self.started[-1], resume=True)
            self.begun.append(run.config())
            yield job, 130


def started(folder: StudyFolder, base: dict[str, Any], gpus: tuple[str, ...] = ()) -> EndlessExecutor:
    """Start the runs of a study of one run."""
    study = StudyDefinition.parse(
        {"base": {"scenario": {"tasks": 2}, "method": "finetune", **base}, "axes": {"seed": [0]}}
    )
    executor = EndlessExecutor(gpus)
    with folder.held():
        run_cells(study.expand("shards/x"), folder, executor, progress=False)
    return executor


@pytest.mark.parametrize(
    ("setting", "on_gpu", "device"),
    [("auto", False, "auto"), ("auto", True, "cuda"), ("cpu", True, "cpu"), ("cuda", False, "cuda")],
)
def test_a_run_that_is_given_a_gpu_never_trains_on_the_cpu(
    tmp_path: Path, setting: str, on_gpu: bool, device: str
) -> None:
    gpus = ("0",) if on_gpu else ()
    (config,) = started(StudyFolder(tmp_path / "s"), {"compute": {"device": setting}}, gpus).started
    assert (config.compute.device, config.compute.workers) == (device, Places(1).cores)


def test_a_run_resumes_with_another_path_of_the_same_file(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    config = make_config({"data": "shards/x", "method": "finetune"})
    for name in ("a.pt", "b.pt", "c.pt"):
        (tmp_path / name).write_bytes(b"others" if name == "c.pt" else b"weights")
    configs = [config.replaced(model=config.model.replaced(weights=str(tmp_path / f"{name}.pt"))) for name in "abc"]
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
