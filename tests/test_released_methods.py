"""The methods of the benchmark's released code: EWC and MAS' anchors, BiC's corrected losses and its second stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_methods import (
    LABELS,
    SECOND,
    TASKS,
    TinyData,
    TinyNetwork,
    clips_of,
    cross_entropy,
    in_second_task,
    log_softmax,
    make,
    numbers,
    total,
)
from torch import Tensor
from training_cases import comparable, final_network, tiny_config

from vclimb.methods.bias import BiasCorrection
from vclimb.methods.bic import BiC
from vclimb.methods.method import StepBatch, StepOutputs, TaskInfo
from vclimb.protocol import RELEASED
from vclimb.training.run import train
from vclimb.training.trainer import Trainer

FIRST, THIRD = TaskInfo(0, TASKS), TaskInfo(2, TASKS)


@pytest.mark.parametrize("name", ["ewc", "mas"])
def test_labels_begin_at_0_in_every_task(name: str) -> None:
    method = make(name, released=True)
    _, _, _, logits = in_second_task(method)
    batch = StepBatch(clips_of(4), torch.full((4,), 2), torch.arange(4))
    expected = cross_entropy(numbers(logits), np.zeros(4, np.int64))
    assert total(method, batch, StepOutputs(logits)) == pytest.approx(expected, rel=1e-5)


def released_importance(name: str, model: TinyNetwork, data: TinyData) -> Tensor:
    """Compute the importance of the head's weights from the gradient of each batch's mean, by hand."""
    total = torch.zeros_like(model.head.weight)
    for clips, labels in data.training_batches():
        logits = model(clips)
        if name == "ewc":
            slopes = (logits.softmax(1) - torch.eye(logits.shape[1])[labels]) / len(labels)
        else:
            slopes = logits / logits.norm(dim=1, keepdim=True) / len(labels)
        total += (slopes.T @ clips).detach()
    return total.square() if name == "ewc" else total.abs()


@pytest.mark.parametrize("name", ["ewc", "mas"])
def test_new_rows_are_anchored_where_they_start(name: str) -> None:
    """The head has the next task's outputs before importances are computed: their softmax and norm include these."""
    method = make(name, released=True, strength=4.0)
    old = TinyNetwork(2)
    data = TinyData(old, np.array([0, 1, 0, 1]))
    method.begin_task(FIRST, old)
    method.end_task(FIRST, old, data)
    grown = data.next_model()
    anchor = method.state_dict()["anchor"]
    assert torch.equal(anchor["values"]["head.weight"], grown.head.weight)
    torch.testing.assert_close(anchor["importance"]["head.weight"], released_importance(name, grown, data))


class LastTask(TinyData):
    def next_model(self) -> Any:
        return None


def test_no_importance_is_computed_after_the_last_task() -> None:
    method, model = make("ewc", released=True), TinyNetwork(2)
    method.begin_task(FIRST, model)
    method.end_task(FIRST, model, LastTask(model, np.array([0, 1, 0, 1])))
    assert method.penalty(model) == {}


@pytest.mark.parametrize(("mas_anchors", "each_task"), [("each-task", True), ("summed", False)])
def test_mas_keeps_an_anchor_of_each_task_or_one_around_the_newest_parameters(
    mas_anchors: Any, each_task: bool
) -> None:
    """Penalties of two tasks, lambda sum Omega_i (theta - theta_i)^2, or of the summed Omega around theta_2."""
    method = make("mas", RELEASED.replaced(importance="samples", mas_anchors=mas_anchors), strength=3.0)
    networks, omegas = [TinyNetwork(2), TinyNetwork(3)], []
    for number, (network, labels) in enumerate(zip(networks, ([0, 1, 0, 1], [2, 2, 2, 2]), strict=True)):
        method.begin_task(TaskInfo(number, TASKS), network)
        data = TinyData(network, np.array(labels))
        method.end_task(TaskInfo(number, TASKS), network, data)
        logits = network(data.clips).detach()  # the gradient of |W x + b|^2 by W is 2 (W x + b) x
        omegas.append((2 * logits[:, :, None] * data.clips[:, None]).abs().mean(0).double())
    bias = [(2 * network(clips_of(4)).detach()).abs().mean(0).double() for network in networks]
    moved = TinyNetwork(5)
    expected = 0.0
    for task, network in enumerate(networks):
        around = network if each_task else networks[-1]
        n = len(omegas[task])
        for importance, name in ((omegas[task], "weight"), (bias[task], "bias")):
            step = getattr(moved.head, name)[:n] - getattr(around.head, name)[:n]
            expected += 3 * float((importance * step.double() ** 2).sum().detach())
    # A penalty that is merged from those of all tasks differs from their sum by a constant.
    at_newest = method.penalty(networks[-1])["penalty"].item()
    constant = 0.0
    if each_task:
        for importance, name in ((omegas[0], "weight"), (bias[0], "bias")):
            step = getattr(networks[1].head, name)[:2] - getattr(networks[0].head, name)
            constant = constant + 3 * float((importance * step.double() ** 2).sum().detach())
    assert method.penalty(moved)["penalty"].item() - at_newest == pytest.approx(expected - constant, rel=1e-4)


class WithStatistics(TinyNetwork):
    """A network whose pass changes a buffer in training mode."""

    def __init__(self, n_classes: int) -> None:
        super().__init__(n_classes)
        self.register_buffer("passes", torch.zeros(()))

    def features(self, clips: Tensor) -> Tensor:
        self.passes += self.training
        return clips


def test_the_next_task_begins_with_the_statistics_of_the_pass_for_importances() -> None:
    """The task that ended is evaluated without them; they survive a checkpoint."""
    method, model = make("ewc", released=True), WithStatistics(2).eval()
    data = TinyData(model, np.array([0, 1, 0, 1]))
    method.begin_task(FIRST, model)
    method.end_task(FIRST, model, data)
    assert model.passes == 0
    other = make("ewc", released=True)
    other.load_state_dict(method.state_dict(), model)
    other.begin_task(SECOND, model)
    assert model.passes == 2
    other.begin_task(THIRD, model)
    assert model.passes == 2


def test_bic_losses_act_on_corrected_logits() -> None:
    """Classification and distillation see the logits corrected by the scales and offsets of all tasks so far."""
    method = make("bic", released=True, consistency=0.25)
    assert isinstance(method, BiC)
    old, new, batch, logits = in_second_task(method)
    method._correction = BiasCorrection((2, 1), (1.5, 1.0), (0.25, 0.0))
    method._old_correction = BiasCorrection((2,), (1.5,), (0.25,))
    down = new(clips_of(5)[:4])

    def corrected(values: Tensor) -> Any:
        return numbers(values) * [1.5, 1.5, 1.0] + [0.25, 0.25, 0.0]

    soft = np.exp(log_softmax((1.5 * numbers(old(batch.clips)) + 0.25) / 2))
    distillation = -(soft * log_softmax(corrected(logits)[:, :2] / 2)).sum(1).mean()
    classification = 0.75 * cross_entropy(corrected(logits), LABELS) + 0.25 * cross_entropy(corrected(down), LABELS)
    expected = 2 / 3 * distillation + 1 / 3 * classification
    assert total(method, batch, StepOutputs(logits, down)) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(numbers(method.scores(logits)), corrected(logits), rtol=1e-5)
    method.begin_task(THIRD, new)
    assert method._correction.scales == (1.5, 1.0, 1.0)


LABELS_OF_TASK = np.repeat([0, 1, 2], [10, 10, 40])


class ScoredData(TinyData):
    """Data whose selection scores are given."""

    def __init__(self, model: TinyNetwork, scores: list[float | None]) -> None:
        super().__init__(model, LABELS_OF_TASK)
        self.scores = scores

    def selection_score(self, epoch: int | None = None) -> float | None:
        return self.scores.pop(0)


def stage_2(consistency: float, model: TinyNetwork) -> list[tuple[float, float]]:
    """Compute scale and offset after each of 3 epochs by finite differences, in float64."""
    held_out = np.concatenate([np.arange(9, 10), np.arange(19, 20), np.arange(56, 60)])  # the last tenth of each class
    data = TinyData(model, LABELS_OF_TASK)

    def loss(at: Any, outputs: StepOutputs, labels: Any) -> float:
        both = (numbers(outputs.logits), 1 - consistency), (numbers(outputs.down_sampled), consistency)
        corrected = [(values * [1, 1, at[0]] + [0, 0, at[1]], weight) for values, weight in both]
        return sum(weight * cross_entropy(values, labels) for values, weight in corrected)

    point = np.array([1.0, 0.0])
    reached = []
    for epoch in data.training_epochs(held_out):
        for outputs, labels in epoch:
            these = (outputs, labels.numpy())
            slopes = [(loss(point + h, *these) - loss(point - h, *these)) / 2e-5 for h in 1e-5 * np.eye(2)]
            point = point - 1e-3 * np.array(slopes)
        reached.append((point[0], point[1]))
    return reached


@pytest.mark.parametrize(
    ("scores", "kept"),
    [
        ([None] * 4, 2),  # the last epoch counts
        ([0.5, 0.5, 0.6, 0.4], 1),
        ([0.5, 0.5, 0.5, 0.5], 2),  # the later of equals
        ([0.5, None, 0.4, 0.5], 2),  # an epoch that isn't measured isn't kept
        ([0.9, 0.5, 0.6, 0.4], None),  # no epoch of stage 2 is as good as the best of stage 1
    ],
)
def test_bic_takes_steps_on_training_clips_that_compete_with_stage_1(
    scores: list[float | None], kept: int | None
) -> None:
    method = make("bic", released=True, consistency=0.25)
    assert isinstance(method, BiC)
    _, new, _, _ = in_second_task(method)
    method.end_task(SECOND, new, ScoredData(new, scores))
    scale, offset = (1.0, 0.0) if kept is None else stage_2(0.25, new)[kept]
    assert method._correction.scales == pytest.approx((1.0, scale), abs=1e-6)
    assert method._correction.offsets == pytest.approx((0.0, offset), abs=1e-6)
    assert kept is None or abs(scale - 1) > 1e-4


def test_a_run_resumes_with_the_statistics_of_the_pass(
    synth_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stop after the first task's importances were computed, before the next task begins with their statistics."""
    config = tiny_config(synth_shards, "ewc", "protocol=released")
    expected = train(config, tmp_path / "undisturbed")

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_update_memory", stop)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "run")
    assert comparable(train(config, tmp_path / "run", resume=True)) == comparable(expected)
    networks = [final_network(tmp_path / name) for name in ("run", "undisturbed")]
    assert all(torch.equal(networks[0][name], networks[1][name]) for name in networks[1])
