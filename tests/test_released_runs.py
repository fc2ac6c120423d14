"""Released runs that are killed and resumed, or shared by two processes, end as those that are not."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fork_host import ForkHost
from training_cases import comparable, final_network, read_metrics, tiny_config, write_config

from vclimb.training.run import train


@pytest.fixture(scope="module")
def host() -> Iterator[ForkHost]:
    with ForkHost() as started:
        yield started


def test_a_killed_run_resumes_with_its_targets(host: ForkHost, synth_shards: Path, tmp_path: Path) -> None:
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
