"""Two processes that share every batch end with the same memory, network and metrics as one process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fork_host import ForkHost
from safetensors.torch import load_file
from training_cases import (
    STATELESS_BACKBONE,
    comparable,
    events_of,
    final_network,
    read_metrics,
    tiny_config,
    write_config,
)

from vclimb.methods.registry import parse_method
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.errors import SettingsError
from vclimb.scenario import match
from vclimb.training.checks import check_settings
from vclimb.training.config import RunConfig
from vclimb.training.run import train
from vclimb.training.scenarios import find_scenario

# Nothing in this network depends on which clips a process sees together. 9 exemplars and 8 clips don't come out even.
SETTINGS = (f"model.backbone={STATELESS_BACKBONE}", "model.dropout=0.0")
TWICE = "training.epochs=2"
EXACT = 1e-5
# Half of each class is held out, which fills batches of stage 2.
RELEASED_STEPS = ("protocol=released", "method.hold_out=0.5", "training.batch_size=4")


@pytest.fixture(scope="module")
def host() -> Iterator[ForkHost]:
    with ForkHost() as started:
        yield started


def config_of(shards: Path, method: str, *more: str) -> RunConfig:
    memory = (
        ("memory.budget=9v", "consistency.weight=0.5") if method in ("icarl", "bic", "naive", "gdumb", "der++") else ()
    )
    return tiny_config(shards, method, *SETTINGS, *memory, *more)


def losses_of(run: Path) -> list[float]:
    return [value for event in events_of(run) if event["event"] == "epoch" for value in event["losses"].values()]


def assert_agree(one: Path, two: Path) -> None:
    assert comparable(read_metrics(two)) == comparable(read_metrics(one))
    assert losses_of(two) == pytest.approx(losses_of(one), rel=1e-4)
    alone, shared = final_network(one), final_network(two)
    for name, expected in alone.items():
        torch.testing.assert_close(shared[name], expected, rtol=0, atol=EXACT)


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("ewc", (TWICE,)),
        ("bic", (TWICE,)),
        ("bic", RELEASED_STEPS),
        ("joint", ()),
        ("gdumb", ()),
        ("der++", ("memory.share=0.5",)),
        ("icarl", ()),
        ("icarl", ("protocol=released",)),
        ("analytic", ("method.head=discriminant",)),
        ("features", ("memory.budget=12v",)),
    ],
)
def test_two_processes_agree_with_one(
    method: str, more: tuple[str, ...], host: ForkHost, synth_shards: Path, tmp_path: Path
) -> None:
    config = config_of(synth_shards, method, *more)
    one = train(config, tmp_path / "one")
    if (method, more) == ("icarl", ()):  # the last of its batches of 8, 8 and 1 clips leaves a rank without a clip
        assert one.tasks[2].train_instances + one.tasks[2].replay_exemplars == 17
    host.run_in_two_processes("train_run", write_config(config, tmp_path), tmp_path / "two", False)
    assert_agree(tmp_path / "one", tmp_path / "two")


def test_ranks_write_checkpoints_at_the_same_step(host: ForkHost, synth_shards: Path, tmp_path: Path) -> None:
    config = config_of(synth_shards, "finetune", TWICE)
    train(config, tmp_path / "one")
    settings = write_config(config, tmp_path)
    for fast_rank in range(2):
        two = tmp_path / f"fast rank {fast_rank}"
        host.run_in_two_processes("train_with_clocks_apart", settings, two, fast_rank)
        assert_agree(tmp_path / "one", two)


def test_both_processes_evaluate_one_network(host: ForkHost, synth_shards: Path, tmp_path: Path) -> None:
    """Batch normalisation gathers statistics from each rank's share; ranks must agree before they evaluate."""
    settings = write_config(tiny_config(synth_shards, "finetune"), tmp_path)
    host.run_in_two_processes("train_watched", settings, tmp_path / "two", tmp_path)
    for task in range(3):
        first, second = (load_file(tmp_path / f"{task}-{rank}.safetensors") for rank in range(2))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_batch_that_ranks_cannot_share_evenly_is_refused(synth_shards: Path) -> None:
    config = tiny_config(synth_shards, "finetune", "training.batch_size=7")
    dataset = StoredDataset.open(config.data)
    matched = match(find_scenario(config.scenario, dataset), dataset)
    kind, settings = parse_method(config.method)
    check_settings(config, kind(settings), matched.scenario, 1)
    with pytest.raises(SettingsError, match=r"training\.batch_size 7 can't be shared by 2 processes; allowed: mult"):
        check_settings(config, kind(settings), matched.scenario, 2)
