"""The commands `vclimb train` and `vclimb show`: plan, summary, picture, and errors in one line."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from sealed_cases import read_sealed
from training_cases import comparable, read_metrics, tiny_config, write_config
from typer.testing import CliRunner

from vclimb.cli.main import app
from vclimb.settings import read_table
from vclimb.training.config import make_config
from vclimb.training.run import train


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "200", "NO_COLOR": "1"})


@pytest.fixture(autouse=True)
def no_handlers_left() -> Iterator[None]:
    """Remove the handler by which the command prints warnings: other tests read the log."""
    yield
    logging.getLogger("vclimb").handlers.clear()
    logging.getLogger("vclimb").propagate = True


@pytest.fixture(scope="module")
def settings(synth_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_config(tiny_config(synth_shards, "icarl", "log.tensorboard=true"), tmp_path_factory.mktemp("settings"))


@pytest.fixture(scope="module")
def finished(settings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    done = run("train", "--config", settings, "--out", folder)
    assert done.exit_code == 0, done.output
    for line in ("training icarl: 3 tasks, 6 classes, on cpu", "decoder cpu: requested", "task 3/3 in"):
        assert line in done.stderr
    assert "run:" in done.stdout
    return folder


def test_summary_has_all_results(finished: Path) -> None:
    shown = run("show", finished)
    assert shown.exit_code == 0, shown.output
    metrics = read_metrics(finished)
    for text in (
        "icarl on",
        "3 tasks, 6 classes, paper protocol, seed 0",
        "nearest_mean",
        f"{100 * metrics.acc:.2f} %",
        "accuracy in % on each task (columns) after each task (rows)",
        "12 videos, 24 of their",
        "frames as copy,",
        f"{metrics.memory.bytes_on_disk:,} bytes on disk",
        "time:",
        str(finished),
    ):
        assert text in shown.output, text


def test_json_is_the_metrics_file(finished: Path) -> None:
    shown = run("show", finished, "--json")
    assert json.loads(shown.stdout) == read_metrics(finished).to_json() == read_sealed(finished / "metrics.json")


def test_damaged_metrics_are_named_and_written_anew_from_the_checkpoint(finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "a run")
    text = (folder / "metrics.json").read_text()
    damaged = text.replace('"steps": ', '"steps": 1', 1)
    (folder / "metrics.json").write_text(damaged)
    shown = run("show", folder)
    assert shown.exit_code == 1
    assert "metrics.json is damaged: its content doesn't have the SHA-256 that it names" in shown.stderr
    assert f"`vclimb train --resume --out '{folder}'` writes it anew" in shown.stderr
    resumed = run("train", "--resume", "--out", folder, "--json")
    assert resumed.exit_code == 0, resumed.output
    assert comparable(read_metrics(folder)) == comparable(read_metrics(finished))
    (folder / "metrics.json").write_text(damaged)
    shutil.rmtree(folder / "checkpoints")
    refused = run("train", "--resume", "--out", folder)
    assert refused.exit_code == 1
    assert f"where there is none, remove '{folder}' and train the run again" in refused.stderr
    assert (folder / "metrics.json").read_text() == damaged


def test_show_draws_a_png(finished: Path, tmp_path: Path) -> None:
    from PIL import Image

    shown = run("show", finished, "--png", tmp_path / "run.png")
    assert shown.exit_code == 0, shown.output
    with Image.open(tmp_path / "run.png") as image:
        assert image.format == "PNG"
        assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 20
    (tmp_path / "notes.txt").write_text("mine")
    refused = run("show", finished, "--png", tmp_path / "notes.txt")
    assert refused.exit_code == 1
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_tensorboard_has_losses_and_accuracies(finished: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(finished / "tensorboard"))
    board.Reload()
    assert {"loss/classification", "after_task/acc", "memory/bytes_on_disk"} <= set(board.Tags()["scalars"])
    values = [event.value for event in board.Scalars("after_task/acc")]
    assert values == pytest.approx(read_metrics(finished).acc_after_each_task, rel=1e-6)


@pytest.mark.parametrize("budget", ["9v", "10f", "60kB", "all"])
def test_run_does_what_its_plan_says(budget: str, settings: Path, tmp_path: Path) -> None:
    planned = run("train", "--config", settings, "--budget", budget, "--dry-run", "--json")
    assert planned.exit_code == 0, planned.output
    plan: dict[str, Any] = json.loads(planned.stdout)
    assert not list(tmp_path.iterdir())
    metrics = train(make_config(read_table(settings), {"memory": {"budget": budget}}), tmp_path / "run")
    for expected, done in zip(plan["tasks"], metrics.tasks, strict=True):
        assert expected["train_instances"] == done.train_instances
        if budget != "60kB":  # a plan only estimates what fits into a budget in bytes
            assert expected["replay_exemplars"] == done.replay_exemplars
            assert expected["steps"] == done.steps
            assert expected["memory"]["videos"] == done.memory.videos
            assert expected["memory"]["frames"] == done.memory.frames
        assert expected["memory"]["bytes"] == pytest.approx(done.memory.bytes_on_disk, rel=0.5)


def test_the_plan_is_printed(settings: Path) -> None:
    planned = run("train", "--config", settings, "--dry-run")
    assert planned.exit_code == 0, planned.output
    assert "nothing was trained" in planned.output


@pytest.mark.parametrize(
    ("arguments", "is_warned"),
    [
        (["--codec", "jpeg:50@24"], True),
        (["--codec", "h264:28@24"], True),
        (["--codec", "jpeg:50@32"], False),  # the size of the network's input
        (["--codec", "jpeg:50@24", "--set", "model.size=24"], False),
        (["--codec", "jpeg:50"], False),
        (["--codec", "jpeg:50@24", "--method", "finetune", "--budget", "none"], False),
        (["--codec", "jpeg:50@300", "--set", "model.size=320"], False),  # stored videos are smaller
    ],
)
def test_plan_warns_of_exemplars_smaller_than_the_input(settings: Path, arguments: list[str], is_warned: bool) -> None:
    planned = run("train", "--config", settings, "--dry-run", *arguments)
    assert planned.exit_code == 0, planned.output
    assert ("are blurred where the network sees 32" in " ".join(planned.output.split())) == is_warned


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--method", "icrl"], "did you mean 'icarl'?"),
        (["--set", "training.epoch=3"], "did you mean 'epochs'?"),
        (["--budget", "none"], "method icarl replays, and memory.budget is none"),
        (["--method", "ewc"], "method ewc keeps no exemplars"),
        (["--tasks", "7"], "7 tasks are more than the 6 classes"),
        (["--scenario", "none.json"], "is for a data set"),
        (["--preset", "ucf101-10/icar"], "did you mean 'ucf101-10/icarl'"),
        (["--set", "model.backbone=resnet3"], "backbone 'resnet3'"),
        (["--set", "model.weights=none.safetensors"], "is not a file"),
        (["--set", "training.select=best"], "needs a validation split beside the one that is reported"),
        (["--frames", "x"], "setting 'memory.frames' is 'x'"),
        (["--set", "compute.device=cuda"], "device cuda: torch sees 0 GPUs"),
        (["nowhere"], "nowhere"),
    ],
)
def test_errors_are_one_line_and_write_nothing(arguments: list[str], says: str, settings: Path, tmp_path: Path) -> None:
    import torch

    if "device=cuda" in arguments[-1] and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    done = run("train", *arguments, "--config", settings, "--out", tmp_path / "run")
    assert done.exit_code == 1
    assert says in done.stderr
    assert done.stderr.count("error:") == 1
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_missing_videos_are_refused_unless_allowed(settings: Path, synth_shards: Path, tmp_path: Path) -> None:
    assert run("scenario", "export", synth_shards, "--tasks", "3", "-o", tmp_path / "s.json").exit_code == 0
    text = (tmp_path / "s.json").read_text()
    (tmp_path / "s.json").write_text(text.replace('"video": "', '"video": "gone_', 1))
    table = read_table(settings)
    del table["scenario"]["tasks"]
    write_config(make_config(table, {"scenario": {"file": str(tmp_path / "s.json")}}), tmp_path)
    train_it = ["train", "--config", tmp_path / "settings.toml", "--out", tmp_path / "run"]
    stopped = run(*train_it)
    assert stopped.exit_code == 1
    assert "1 of the 36 instances" in stopped.stderr
    assert "gone_" in stopped.stderr
    assert not (tmp_path / "run").exists()
    done = run(*train_it, "--allow-missing")
    assert done.exit_code == 0, done.output
    assert "gone_" in done.stderr
    assert read_metrics(tmp_path / "run").scenario.left_out == {"missing": 1}


def test_run_without_a_folder_is_refused(settings: Path) -> None:
    done = run("train", "--config", settings)
    assert done.exit_code == 1
    assert "name one by --out" in done.stderr


def test_show_refuses_a_folder_without_a_run(tmp_path: Path) -> None:
    done = run("show", tmp_path)
    assert done.exit_code == 1
    assert "holds no run" in done.stderr
