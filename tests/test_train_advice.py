"""What `vclimb train` advises after a stop works as it is printed."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from training_cases import read_metrics, tiny_config, write_config
from typer.testing import CliRunner

from vclimb.cli.main import app


@pytest.fixture(autouse=True)
def no_handlers_left() -> Iterator[None]:
    """Remove the handler by which the command prints warnings: other tests read the log."""
    yield
    logging.getLogger("vclimb").handlers.clear()
    logging.getLogger("vclimb").propagate = True


@pytest.fixture
def command(synth_shards: Path, tmp_path: Path) -> list[str]:
    """A run in a folder whose name a shell would split."""
    settings = write_config(tiny_config(synth_shards, "finetune", "scenario.tasks=2"), tmp_path)
    return ["train", "--config", str(settings), "--out", str(tmp_path / "it's a run")]


def run(arguments: list[str]) -> Result:
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "NO_COLOR": "1"})


def stop_at(patch: pytest.MonkeyPatch, place: str) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    patch.setattr(place, stop)


@pytest.mark.parametrize(
    "place",
    [
        "vclimb.training.api.make_config",
        "vclimb.training.run.make_context",
        "vclimb.training.run_folder.RunFolder.begin",
        "vclimb.training.run_folder.replace_file",
    ],
)
def test_stop_before_the_settings_are_written(
    place: str, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, place)
        stopped = run(command)
    assert (stopped.exit_code, stopped.stderr) == (130, "stopped. Nothing was begun: give the same command again.\n")
    resumed = run(["train", "--resume", *command[-2:]])
    assert (resumed.exit_code, resumed.stderr.count("error:")) == (1, 1)
    assert "holds no run to go on with" in resumed.stderr
    with monkeypatch.context() as patch:  # the same command gets as far as the training
        stop_at(patch, "vclimb.training.trainer.Trainer.train")
        assert "Go on with: vclimb train --resume" in run(command).stderr


@pytest.mark.parametrize("place", ["Trainer.train", "Trainer._begin", "Trainer._update_memory", "Measurements.add"])
def test_stop_after_the_settings_were_written(
    place: str, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, f"vclimb.training.trainer.{place}")
        stopped = run(command)
    assert stopped.exit_code == 130
    program, *advised = shlex.split(stopped.stderr.partition("Go on with: ")[2])
    assert (program, advised) == ("vclimb", ["train", "--resume", "--out", command[-1]])
    resumed = run(advised)
    assert resumed.exit_code == 0, resumed.output
    assert read_metrics(Path(command[-1])).complete
    refused = run(command)
    assert refused.exit_code == 1
    assert "holds a run already; go on with it by --resume" in refused.stderr
    assert run([*command, "--resume"]).exit_code == 0


def test_advice_to_several_processes_starts_as_many(
    command: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    stop_at(monkeypatch, "vclimb.training.trainer.Trainer.train")
    assert "Go on with: torchrun --nproc-per-node 2 -m vclimb.cli train --resume --out '" in run(command).stderr
