"""DER++: its formula, the logits that the memory keeps for it, and runs that are stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from damage_cases import flip
from hypothesis import given
from hypothesis import strategies as st
from method_cases import quickly, random_normal
from tiny_methods import TASKS, TinyNetwork, clips_of, cross_entropy, log_softmax, make, numbers, total
from training_cases import comparable, final_network, tiny_config

import vclimb
from vclimb.memory.replay import ReplayMemory
from vclimb.memory.store.errors import MemoryStoreError
from vclimb.memory.store.reader import MemoryStore
from vclimb.memory.store.stored_class import LOGITS
from vclimb.methods.der import logit_distance
from vclimb.methods.method import StepBatch, StepOutputs, TaskInfo
from vclimb.pipeline.errors import VclimbError
from vclimb.training.config import RunConfig
from vclimb.training.learner import Learner
from vclimb.training.run import train
from vclimb.training.stored_logits import logits_to_keep, read_logits

THIRD = TaskInfo(2, TASKS)  # classes 0 to 2 are old, 3 and 4 new
KNOWN = (2, 2, 3)  # columns that were there when a class entered


def stored_logits(labels: Any, seed: int = 0) -> torch.Tensor:
    """Draw the logits that are kept with exemplars of old classes; NaN elsewhere."""
    stored = random_normal(seed, len(labels), 5)
    for row, label in zip(stored, labels, strict=True):
        row[KNOWN[label] if label < 3 else 0 :] = torch.nan
    return stored


@quickly
@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.floats(0, 2), st.floats(0, 2), st.floats(0, 1))
def test_the_loss_is_its_formula(drawn: list[int], alpha: float, beta: float, consistency: float) -> None:
    labels = np.array(drawn)
    method, network = make("der++", alpha=alpha, beta=beta, consistency=consistency), TinyNetwork(5)
    method.begin_task(THIRD, network)
    stored = stored_logits(labels)
    clips = clips_of(len(labels))
    views = network(clips), network(clips / 2)
    expected = {"new": 0.0, "replay": 0.0, "logits": 0.0}
    for weight, logits in zip((1 - consistency, consistency), map(numbers, views), strict=True):
        for row, label in zip(log_softmax(logits), labels, strict=True):
            name, factor = ("new", 1.0) if label >= 3 else ("replay", beta)
            expected[name] -= weight * factor * row[label] / len(labels)
    for row, kept, label in zip(numbers(views[0]), numbers(stored), labels, strict=True):
        if label < 3:
            n = KNOWN[label]
            expected["logits"] += alpha * ((row[:n] - kept[:n]) ** 2).mean() / len(labels)
    batch = StepBatch(clips, torch.from_numpy(labels), torch.arange(len(labels)), stored)
    terms = method.loss(batch, StepOutputs(*views))
    assert {name: float(term.detach()) for name, term in terms.items()} == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_without_logits_it_is_plain_replay_and_without_old_classes_cross_entropy() -> None:
    method, network = make("der++", alpha=0.0, beta=1.0), TinyNetwork(5)
    labels = torch.tensor([0, 3, 4, 2])
    batch = StepBatch(clips_of(4), labels, torch.arange(4))
    outputs = StepOutputs(network(batch.clips))
    plain = cross_entropy(numbers(outputs.logits), labels.numpy())
    for task in (THIRD, TaskInfo(0, (5,))):
        method.begin_task(task, network)
        assert total(method, batch, outputs) == pytest.approx(plain, rel=1e-5)


def test_new_clips_and_later_columns_get_no_gradient_of_the_distance() -> None:
    labels = [0, 3, 2]
    logits = random_normal(1, 3, 5).requires_grad_()
    (gradient,) = torch.autograd.grad(logit_distance(logits, stored_logits(labels)), logits)
    moved = [[True] * 2 + [False] * 3, [False] * 5, [True] * 3 + [False] * 2]
    assert gradient.ne(0).tolist() == moved
    assert gradient.isfinite().all()
    assert float(logit_distance(torch.zeros(0, 5), torch.zeros(0, 5))) == 0


def test_an_unchanged_network_is_at_distance_0() -> None:
    logits = 20 * random_normal(2, 6, 4)
    kept = torch.from_numpy(logits_to_keep(logits)).float()
    assert float(logit_distance(logits, logits)) == 0
    rounding = 20 * 4 * 2.0**-11  # of 16-bit floats, for logits up to 80
    assert 0 < float(logit_distance(logits, kept)) < rounding**2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 70_000.0])
def test_logits_that_16_bits_cannot_hold_are_refused(value: float) -> None:
    with pytest.raises(VclimbError, match=r"logits up to (nan|inf|70000) can't be kept as 16-bit floats"):
        logits_to_keep(torch.tensor([[0.0, value]]))


def der(shards: Path, *more: str) -> RunConfig:
    return tiny_config(shards, "der++", "compute.checkpoint_seconds=0", "memory.budget=40kB", *more)


class Watched(NamedTuple):
    """A run, the labels and stored logits of its batches, and the logits in its memory after each task, by class."""

    folder: Path
    batches: list[tuple[torch.Tensor, torch.Tensor | None]]
    kept: list[dict[int, Any]]


@pytest.fixture(scope="module")
def watched(synth_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    folder = tmp_path_factory.mktemp("der") / "run"
    steps, update = Learner.step, ReplayMemory.update
    batches: list[tuple[torch.Tensor, torch.Tensor | None]] = []
    kept: list[dict[int, Any]] = []

    def step(self: Learner, method: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        batches.append((batch.labels.clone(), batch.stored_logits))
        return steps(self, method, batch, *args, **kwargs)

    def updated(self: ReplayMemory, provider: Any, new: Any, *args: Any, **kwargs: Any) -> Any:
        report = update(self, provider, new, *args, **kwargs)
        store = self.open()
        kept.append({label: store.rows(label, LOGITS) for label in store.classes})
        return report

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Learner, "step", step)
        patched.setattr(ReplayMemory, "update", updated)
        train(der(synth_shards), folder)
    return Watched(folder, batches, kept)


@pytest.fixture(scope="module")
def run(watched: Watched) -> Path:
    return watched.folder


def test_each_exemplar_meets_its_own_logits(watched: Watched) -> None:
    _, batches, kept = watched
    assert list(kept[2]) == list(range(6))
    for label, rows in kept[2].items():
        assert rows.dtype == np.float16
        assert rows.shape[1] == 2 * (label // 2 + 1)  # the classes known when it entered
    of_task: dict[int, list[Any]] = {2: [], 4: [], 6: []}
    for labels, logits in batches:
        of_task[2 if logits is None else logits.shape[1]].append((labels, logits))
    assert sum(len(labels) for labels, _ in of_task[2]) == 8
    for n_classes, memory in ((4, kept[0]), (6, kept[1])):
        shown = []
        for labels, logits in of_task[n_classes]:
            is_old = labels < n_classes - 2
            assert logits.dtype == torch.float32
            assert logits[~is_old].isnan().all()
            shown += zip(labels[is_old].tolist(), logits[is_old].tolist(), strict=True)
        expected = [
            (label, [*map(float, row), *[float("nan")] * (n_classes - len(row))])
            for label, rows in memory.items()
            for row in rows
        ]
        assert sorted(map(str, shown)) == sorted(map(str, expected))


def test_logits_count_in_the_budget(run: Path) -> None:
    metrics = vclimb.RunMetrics.load(run / "metrics.json")
    assert metrics.memory is not None
    assert metrics.memory.parts["logits"] > 2 * 6 * metrics.memory.videos / 2
    files = [file.stat().st_size for file in (run / "memory.zarr").rglob("*") if file.is_file()]
    assert metrics.memory.bytes_on_disk == sum(files) <= 40_000
    assert sum(files) > 0.9 * 40_000
    assert vclimb.Memory.open(run).verify(progress=False) == ()


def test_a_stopped_run_goes_on_exactly(run: Path, synth_shards: Path, tmp_path: Path) -> None:
    whole = comparable(vclimb.RunMetrics.load(run / "metrics.json"))
    for name, kind, method, stop_at in (
        ("step", Learner, Learner.step, 3),
        ("update", ReplayMemory, ReplayMemory.update, 2),
    ):
        calls = 0

        def stopped(*args: Any, method: Any = method, stop_at: int = stop_at, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            result = method(*args, **kwargs)
            if calls == stop_at:  # in the second task, after a step or the update of the memory
                raise KeyboardInterrupt
            return result

        again = tmp_path / name
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(kind, name, stopped)
            with pytest.raises(KeyboardInterrupt):
                train(der(synth_shards), again)
        assert comparable(train(der(synth_shards), again, resume=True)) == whole
        first, second = final_network(run), final_network(again)
        assert all(torch.equal(first[key], second[key]) for key in first)


def test_damaged_logits_are_left_out_by_name(run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    memory = MemoryStore.open(run / "memory.zarr")
    labels = [0, 3]
    whole = read_logits(memory, labels, 7, 6)
    assert whole is not None
    rows = whole.of(np.array([0, 7, 6]))
    assert np.isnan(rows[[0, 2]]).all()
    assert np.isfinite(rows[1, :2]).all()
    assert read_logits(memory, [], 7, 6) is None
    with pytest.raises(MemoryStoreError, match=r"logits of shape \(\d+, 4\), and 3 classes are known so far"):
        read_logits(memory, labels, 7, 3)
    stored = memory.classes[3].arrays[LOGITS]
    file = run / "memory.zarr" / stored.files[0]
    before = file.read_bytes()
    try:
        flip(file, 0)
        left = read_logits(memory, labels, 7, 6)
    finally:
        file.write_bytes(before)
    assert left is not None
    n_first = memory.classes[0].n_exemplars
    assert np.array_equal(left.table[:n_first], whole.table[:n_first], equal_nan=True)
    assert np.isnan(left.table[n_first:]).all()
    assert "exemplars replayed without their logits" in caplog.text
