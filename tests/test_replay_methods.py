"""ER-ACE and WA, against their formulas: in NumPy, in gradients, and in the lengths of the head's weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from method_cases import quickly, random_normal, seeds
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

from vclimb.methods.alignment import align_weights
from vclimb.methods.method import StepBatch, StepOutputs, TaskInfo
from vclimb.pipeline.arrays import Indices

THIRD = TaskInfo(2, TASKS)  # classes 0 to 2 are old, 3 and 4 new


def third_task_batch(labels: Indices) -> tuple[TinyNetwork, StepBatch]:
    return TinyNetwork(5), StepBatch(clips_of(len(labels)), torch.from_numpy(labels), np.arange(len(labels)))


@quickly
@given(st.sampled_from(["task", "batch"]), st.lists(st.integers(0, 4), min_size=1, max_size=8), st.floats(0, 1))
def test_er_ace_is_its_formula(present: str, drawn: list[int], consistency: float) -> None:
    labels = np.array(drawn)
    method = make("er-ace", present=present, consistency=consistency)
    network, batch = third_task_batch(labels)
    method.begin_task(THIRD, network)
    views = network(batch.clips), network(batch.clips / 2)
    expected = {"new": 0.0, "replay": 0.0}
    for weight, logits in zip((1 - consistency, consistency), map(numbers, views), strict=True):
        for row, label in zip(logits, labels, strict=True):
            classes = np.arange(5)
            if label >= 3:
                classes = np.array([3, 4]) if present == "task" else np.unique(labels[labels >= 3])
            value = -log_softmax(row[None, classes])[0, classes.tolist().index(label)] / len(labels)
            expected["new" if label >= 3 else "replay"] += weight * value
    terms = method.loss(batch, StepOutputs(*views))
    assert {name: float(term.detach()) for name, term in terms.items()} == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("present", ["task", "batch"])
def test_new_clips_of_er_ace_move_no_old_output(present: str) -> None:
    method = make("er-ace", present=present)
    network, batch = third_task_batch(np.array([0, 3, 4, 3, 2]))
    method.begin_task(THIRD, network)
    terms = method.loss(batch, StepOutputs(network(batch.clips)))
    weight, bias = torch.autograd.grad(terms["new"], [network.head.weight, network.head.bias], retain_graph=True)
    assert weight[:3].eq(0).all()
    assert bias[:3].eq(0).all()
    assert weight[3:].ne(0).all()
    (weight,) = torch.autograd.grad(terms["replay"], [network.head.weight])
    assert weight.ne(0).all()


def test_er_ace_begins_as_cross_entropy() -> None:
    method, network = make("er-ace"), TinyNetwork(2)
    method.begin_task(TaskInfo(0, TASKS), network)
    batch = StepBatch(clips_of(4), torch.tensor([0, 1, 1, 0]), torch.arange(4))
    logits = network(batch.clips)
    assert set(method.loss(batch, StepOutputs(logits))) == {"new"}
    assert total(method, batch, StepOutputs(logits)) == pytest.approx(
        cross_entropy(numbers(logits), batch.labels.numpy()), rel=1e-5
    )


@pytest.mark.parametrize("share", [None, 0.0, 0.3])
def test_wa_weights_distillation_by_the_share_of_old_classes(share: float | None) -> None:
    method = make("wa", distillation=share)
    old, _, batch, logits = in_second_task(method)
    soft = np.exp(log_softmax(numbers(old(batch.clips)) / 2))
    distillation = -(soft * log_softmax(numbers(logits)[:, :2] / 2)).sum(1).mean()
    weight = 2 / 3 if share is None else share
    expected = (1 - weight) * cross_entropy(numbers(logits), LABELS) + weight * distillation
    assert total(method, batch, StepOutputs(logits)) == pytest.approx(expected, rel=1e-5)


@quickly
@given(seeds, st.integers(1, 5), st.integers(1, 5), st.sampled_from([1e-6, 1.0, 1e6]))
def test_alignment_makes_lengths_equal_and_keeps_the_order_within_old_and_new(
    seed: int, n_old: int, n_new: int, length: float
) -> None:
    head = torch.nn.Linear(6, n_old + n_new)
    with torch.no_grad():
        head.weight.copy_(random_normal(seed, n_old + n_new, 6))
        head.weight[n_old:] *= length
        head.bias.zero_()
    features = random_normal(seed + 1, 20, 6)
    before, weight = head(features).detach(), head.weight.detach().clone()
    align_weights(head, n_old)
    after, lengths = head(features).detach(), head.weight.detach().norm(dim=1)
    torch.testing.assert_close(lengths[n_old:].mean(), lengths[:n_old].mean())
    assert torch.equal(head.weight[:n_old], weight[:n_old])
    assert torch.equal(after[:, :n_old].argmax(1), before[:, :n_old].argmax(1))
    assert torch.equal(after[:, n_old:].argmax(1), before[:, n_old:].argmax(1))
    aligned = head.weight.detach().clone()
    align_weights(head, n_old)
    torch.testing.assert_close(head.weight.detach(), aligned)


def test_alignment_that_favours_new_classes_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    head = torch.nn.Linear(4, 3)
    torch.nn.init.constant_(head.weight, 1.0)
    align_weights(head, 2)
    assert not caplog.records
    with torch.no_grad():
        head.weight[2] *= 0.25
    align_weights(head, 2)
    (record,) = caplog.records
    assert "makes the head's new rows 4.0 times as long, in favour of the new classes" in record.getMessage()
    align_weights(head, 2)
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("name", "settings", "aligns"), [("wa", {}, True), ("naive", {"align": True}, True), ("naive", {}, False)]
)
def test_new_weights_are_aligned_after_each_task_but_the_first(
    name: str, settings: dict[str, bool], aligns: bool
) -> None:
    for task, n_classes, changes in ((TaskInfo(0, TASKS), 2, False), (SECOND, 3, aligns)):
        method, network = make(name, **settings), TinyNetwork(n_classes)
        weight, bias = network.head.weight.detach().clone(), network.head.bias.detach().clone()
        method.end_task(task, network, TinyData(network, np.array([0, 1])))
        assert torch.equal(network.head.weight, weight) is not changes
        assert torch.equal(network.head.bias, bias)
        assert method.kept() == {}
