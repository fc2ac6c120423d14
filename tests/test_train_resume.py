"""A run that is killed at any moment resumes and ends with the same metrics and network, bit for bit."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from dataset_cases import RunningCommand
from fork_host import ForkHost
from training_cases import comparable, events_of, final_network, read_metrics, tiny_config, write_config
from typer.testing import CliRunner

from vclimb.cli.main import app
from vclimb.pipeline.errors import TargetBusyError, TargetError
from vclimb.training.config import read_config
from vclimb.training.run import train
from vclimb.training.run_folder import RunFolder

METHOD = "bic"  # the method with most kinds of state: old model, bias correction, hold-out, memory
SETTINGS = ("training.epochs=2", "consistency.weight=0.5", "compute.checkpoint_seconds=0")

MOMENTS = [
    pytest.param("vclimb.training.learner", "Learner.step", 3, "after", id="in the first task"),
    pytest.param("vclimb.training.learner", "Learner.step", 9, "before", id="in the middle of a later epoch"),
    pytest.param("vclimb.methods.bic", "BiC.end_task", 2, "before", id="after the training of a task"),
    pytest.param("vclimb.memory.store.writer", "MemoryWriter.stage", 3, "after", id="while a memory is written"),
    pytest.param("vclimb.memory.store.writer", "MemoryWriter.commit", 2, "before", id="before a memory changes"),
    pytest.param("vclimb.memory.store.writer", "MemoryWriter.commit", 2, "after", id="after a memory has changed"),
    pytest.param("vclimb.training.predictor", "Predictor.class_means", 2, "before", id="in an evaluation"),
    pytest.param("vclimb.training.predictor", "Predictor.counts", 2, "after", id="after an evaluation"),
    pytest.param("vclimb.training.checkpoint", "move_synced", 3, "before", id="in the middle of a checkpoint"),
    pytest.param("vclimb.training.run_folder", "RunFolder.write_metrics", 3, "before", id="before the last metrics"),
]


@pytest.fixture(scope="module")
def settings(synth_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_config(tiny_config(synth_shards, METHOD, *SETTINGS), tmp_path_factory.mktemp("settings"))


@pytest.fixture(scope="module")
def host() -> Iterator[ForkHost]:
    with ForkHost() as started:
        yield started


@pytest.fixture(scope="module")
def undisturbed(host: ForkHost, settings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    assert host.run("train_run", settings, run, False) == [0]
    return run


def assert_same(run: Path, undisturbed: Path) -> None:
    assert comparable(read_metrics(run)) == comparable(read_metrics(undisturbed))
    network, expected = final_network(run), final_network(undisturbed)
    assert network.keys() == expected.keys()
    assert all(torch.equal(network[name], expected[name]) for name in expected)
    kept = {path.name for path in run.iterdir()}
    assert kept == {path.name for path in undisturbed.iterdir()}


@pytest.mark.parametrize(("module", "name", "call", "when"), MOMENTS)
def test_killed_and_resumed(
    module: str, name: str, call: int, when: str, host: ForkHost, settings: Path, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    (status,) = host.run("train_killed", settings, run, module, name, call, when)
    assert os.WIFSIGNALED(status), "the run was not killed: the moment never came"
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert not (run / "metrics.json").exists() or not read_metrics(run).complete
    assert host.run("train_run", settings, run, True) == [0]
    assert_same(run, undisturbed)


def test_no_epoch_is_lost_to_the_selection(host: ForkHost, synth_shards: Path, tmp_path: Path) -> None:
    """Kill a run at the end of an epoch, before the selection evaluates it."""
    more = ("training.epochs=2", "training.select=best-reported", "compute.checkpoint_seconds=0")
    config = tiny_config(synth_shards, "finetune", *more)
    expected = train(config, tmp_path / "undisturbed")
    settings = write_config(config, tmp_path)
    for call in (1, 3):
        assert expected.tasks[call // 2].selected_epoch == 0, "the epoch that could be lost must be the chosen one"
        run = tmp_path / f"run{call}"
        where = ("vclimb.training.task_training", "TaskTraining._select", call, "before")
        (status,) = host.run("train_killed", settings, run, *where)
        assert os.WTERMSIG(status) == signal.SIGKILL
        assert host.run("train_run", settings, run, True) == [0]
        assert_same(run, tmp_path / "undisturbed")


def test_a_killed_released_run_resumes_with_its_targets(host: ForkHost, synth_shards: Path, tmp_path: Path) -> None:
    """Kill iCaRL in its second task: the old model is gone, and the checkpoint holds the targets and statistics."""
    more = ("protocol=released", "scenario.tasks=2", "training.batch_size=5", "compute.checkpoint_seconds=0")
    config = tiny_config(synth_shards, "icarl", *more)
    settings, run = write_config(config, tmp_path), tmp_path / "run"
    train(config, tmp_path / "undisturbed")
    n_first = read_metrics(tmp_path / "undisturbed").tasks[0].steps
    where = ("vclimb.training.learner", "Learner.step", n_first + 2, "before")
    (status,) = host.run("train_killed", settings, run, *where)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert host.run("train_run", settings, run, True) == [0]
    assert comparable(read_metrics(run)) == comparable(read_metrics(tmp_path / "undisturbed"))
    network, expected = final_network(run), final_network(tmp_path / "undisturbed")
    assert all(torch.equal(network[name], expected[name]) for name in expected)


def test_ctrl_c_stops_the_command_between_two_steps_without_loss(
    settings: Path, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    started = RunningCommand("train", "--config", settings, "--out", run)

    def has_trained() -> bool:
        return (run / "events.jsonl").exists() and any(event["event"] == "epoch" for event in events_of(run))

    assert started.wait_until(has_trained)
    os.killpg(started.process.pid, signal.SIGINT)
    _, errors = started.process.communicate(timeout=120)
    assert started.process.returncode == 130, errors
    assert f"vclimb train --resume --out {run}" in errors
    assert "Traceback" not in errors
    assert not started.wait_until_alone()
    done = CliRunner().invoke(app, ["train", "--resume", "--out", str(run), "--json"])
    assert done.exit_code == 0, done.output
    assert_same(run, undisturbed)


def test_complete_run_is_not_touched(settings: Path, undisturbed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")}
    metrics = train(read_config(settings), undisturbed, resume=True)
    assert metrics == read_metrics(undisturbed)
    assert {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")} == before


def test_other_settings_neither_overwrite_nor_resume_a_run(settings: Path, undisturbed: Path) -> None:
    config = read_config(settings)
    with pytest.raises(TargetError, match="holds a run already; go on with it by --resume"):
        train(config, undisturbed)
    longer = config.replaced(training=config.training.replaced(epochs=3))
    with pytest.raises(TargetError, match=r"training\.epochs is 2 there and 3 now"):
        train(longer, undisturbed, resume=True)


def test_folder_takes_one_run_at_a_time(settings: Path, tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run").held(), pytest.raises(TargetBusyError, match="another run is training in"):
        train(read_config(settings), tmp_path / "run")


def test_folder_with_other_files_is_refused(settings: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(TargetError, match=r"'notes\.txt'"):
        train(read_config(settings), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
