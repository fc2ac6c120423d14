"""Trouble in long runs: damaged videos, a memory that empties, another data set, ranks without a clip."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stream_cases import damage_all_frames
from training_cases import METHODS, TINY_BACKBONE, comparable, events_of, tiny_config

import vclimb
from vclimb.memory.replay import ReplayMemory
from vclimb.memory.store.reader import MemoryStore
from vclimb.methods.method import StepBatch, TaskInfo
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.training.checkpoint import CheckpointError, checkpoints
from vclimb.training.learner import Learner
from vclimb.training.processes import Processes
from vclimb.training.run import make_method, train
from vclimb.training.run_context import RunContext
from vclimb.training.scenarios import find_scenario


def training_key(shards: Path) -> str:
    """Find the key of a training video of the first class."""
    dataset = StoredDataset.open(shards)
    first = find_scenario(tiny_config(shards).scenario, dataset).tasks[0].classes[0]
    return next(i.key for i in dataset.instances if (i.split, i.label) == ("train", first))


@pytest.mark.parametrize(
    ("method", "more"), [("icarl", ()), ("bic", ()), ("naive", ("compute.forward_transfer=true",))]
)
def test_run_survives_a_damaged_training_video(
    method: str, more: tuple[str, ...], synth_shards: Path, tmp_path: Path
) -> None:
    key = training_key(synth_shards)
    shards = tmp_path / "damaged"
    damage_all_frames(synth_shards, shards, key)
    metrics = train(tiny_config(shards, method, *more), tmp_path / "run")
    assert metrics.complete
    assert metrics.tasks[0].skipped_clips
    if method == "icarl":
        text = f"left out: {key!r} has frames that can't be read"
        assert text in [event.get("text") for event in events_of(tmp_path / "run")]
        memory = MemoryStore.open(tmp_path / "run" / "memory.zarr")
        assert key not in {kept for label in range(6) for kept in memory.table(label).keys}


def test_linear_classifier_is_reported_once_the_memory_is_empty(
    synth_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A memory empties where the share of a class falls below the bytes of one exemplar."""
    stored = RunContext.stored_memory
    monkeypatch.setattr(
        RunContext, "stored_memory", lambda run: None if len(events_of(tmp_path / "run")) > 8 else stored(run)
    )
    metrics = train(tiny_config(synth_shards, "icarl"), tmp_path / "run")
    assert metrics.complete
    assert metrics.classifier == "linear"
    nearest = metrics.classifiers["nearest_mean"]
    assert nearest.acc is None
    assert nearest.acc_after_each_task[0] is not None
    assert metrics.acc == metrics.classifiers["linear"].acc


@pytest.fixture
def stopped_in_task_2(synth_shards: Path, tmp_path: Path) -> Path:
    """Folder of a run that was killed just after the second task's classes joined the memory."""
    update, n_updates = ReplayMemory.update, 0

    def counted(*arguments: Any) -> Any:
        nonlocal n_updates
        report, n_updates = update(*arguments), n_updates + 1
        if n_updates == 2:
            raise KeyboardInterrupt
        return report

    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReplayMemory, "update", counted)
        with pytest.raises(KeyboardInterrupt):
            train(tiny_config(synth_shards), run)
    return run


def test_run_resumes_with_its_original_data_only(stopped_in_task_2: Path, synth_shards: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    vclimb.prepare(synth_shards.parent / "videos", other, short_side=32, workers=2, progress=False)
    with pytest.raises(CheckpointError, match=r"was started on different data"):
        train(tiny_config(other), stopped_in_task_2, resume=True)
    moved = tmp_path / "moved"
    shutil.copytree(synth_shards, moved)
    assert train(tiny_config(moved), stopped_in_task_2, resume=True).complete


def test_checkpoint_older_than_the_memory_is_refused(
    stopped_in_task_2: Path, synth_shards: Path, tmp_path: Path
) -> None:
    """Training would otherwise replay the task's own exemplars."""
    config, run = tiny_config(synth_shards), stopped_in_task_2
    newest = checkpoints(run / "checkpoints")[-1]
    whole = newest.read_bytes()
    newest.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="holds classes of task 2 already"):
        train(config, run, resume=True)
    newest.write_bytes(whole)
    assert comparable(train(config, run, resume=True)) == comparable(train(config, tmp_path / "undisturbed"))


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_rank_without_a_clip_takes_the_step_too(name: str, released: bool, synth_shards: Path) -> None:
    """The last batch may hold fewer clips than there are ranks."""
    protocol = "released" if released else "paper"
    config = tiny_config(synth_shards, name, f"model.backbone={TINY_BACKBONE}", f"protocol={protocol}")
    learner, method = Learner(config, Processes(0, 1, torch.device("cpu")), 2), make_method(config)
    clips = torch.zeros(0, 2, 3, 32, 32, dtype=torch.uint8)
    for number in range(2):
        method.begin_task(TaskInfo(number, (2, 3)), learner.model)
        if number:
            learner.grow(5, seed=0)
        learner.begin_task(method)
        before = {name: value.clone() for name, value in learner.model.named_parameters()}
        logits = torch.zeros(0, 5) if method.keeps_logits and number else None
        batch = StepBatch(clips, torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), logits)
        terms = learner.step(method, batch, None, n_global=3, progress=0.0)
        assert all(np.isfinite(value.item()) for value in terms.values())
        rate = config.training.weight_decay * config.training.learning_rate
        for parameter, value in learner.model.named_parameters():  # the gradient of this rank is 0
            torch.testing.assert_close(value, before[parameter] * (1 - rate), rtol=1e-4, atol=1e-6)
