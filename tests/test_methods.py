"""The loss of each method on tiny tensors, against values computed with NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_methods import (
    LABELS,
    SECOND,
    TinyData,
    TinyNetwork,
    bce,
    clips_of,
    cross_entropy,
    in_second_task,
    log_softmax,
    make,
    numbers,
    total,
)

from vclimb.methods.bias import BiasCorrection
from vclimb.methods.bic import BiC
from vclimb.methods.method import StepBatch, StepOutputs
from vclimb.methods.registry import METHODS, parse_method
from vclimb.pipeline.errors import SettingsError


@pytest.mark.parametrize("name", ["finetune", "naive", "joint"])
def test_cross_entropy_over_all_classes_and_temporal_consistency(name: str) -> None:
    method = make(name, consistency=0.25)
    _, new, batch, logits = in_second_task(method)
    down = new(clips_of(5)[:4])
    whole, seen = cross_entropy(numbers(logits), LABELS), cross_entropy(numbers(down), LABELS)
    assert total(method, batch, StepOutputs(logits)) == pytest.approx(whole, rel=1e-5)
    assert total(method, batch, StepOutputs(logits, down)) == pytest.approx(0.75 * whole + 0.25 * seen, rel=1e-5)


def test_lwf_classifies_new_classes_and_distils_old_ones() -> None:
    method = make("lwf", weight=0.7)
    old, _, _, _ = in_second_task(method)
    batch = StepBatch(clips_of(4), torch.full((4,), 2), torch.arange(4))
    logits = TinyNetwork(4)(batch.clips)
    old_logits = numbers(old(batch.clips))
    soft = np.exp(log_softmax(old_logits / 2))
    distillation = -(soft * log_softmax(numbers(logits)[:, :2] / 2)).sum(1).mean()
    classification = cross_entropy(numbers(logits)[:, 2:], np.zeros(4, np.int64))
    expected = classification + 0.7 * distillation
    assert total(method, batch, StepOutputs(logits)) == pytest.approx(expected, rel=1e-5)


def test_released_lwf_distils_nothing() -> None:
    method = make("lwf", released=True)
    _, new, batch, logits = in_second_task(method)
    sum(method.loss(batch, StepOutputs(logits)).values()).backward()  # type: ignore[union-attr]
    gradient = new.head.weight.grad
    assert gradient is not None
    new.zero_grad()
    torch.nn.functional.cross_entropy(new(batch.clips), batch.labels).backward()  # type: ignore[no-untyped-call]
    assert new.head.weight.grad is not None
    torch.testing.assert_close(gradient, new.head.weight.grad)


@pytest.mark.parametrize(("released", "over_classes"), [(False, "sum"), (False, "mean"), (True, "sum")])
def test_icarl(released: bool, over_classes: str) -> None:
    method = make("icarl", released=released, over_classes=over_classes)
    old, _, batch, logits = in_second_task(method)
    values, targets = numbers(logits), np.eye(3)[LABELS]
    distillation = bce(values[:, :2], 1 / (1 + np.exp(-numbers(old(batch.clips)))))
    classification = cross_entropy(values, LABELS) if released else bce(values[:, 2:], targets[:, 2:])
    expected = (classification + distillation) / (3 if over_classes == "mean" else 1)
    assert total(method, batch, StepOutputs(logits)) == pytest.approx(expected, rel=1e-5)
    assert method.video_choice == ("released-herding" if released else "herding")


def test_bic_distils_from_the_corrected_old_model() -> None:
    method = make("bic")
    assert isinstance(method, BiC)
    old, _, batch, logits = in_second_task(method)
    method._old_correction = BiasCorrection((2,), (1.5,), (0.25,))
    soft = np.exp(log_softmax((1.5 * numbers(old(batch.clips)) + 0.25) / 2))
    distillation = -(soft * log_softmax(numbers(logits)[:, :2] / 2)).sum(1).mean()
    expected = 2 / 3 * distillation + 1 / 3 * cross_entropy(numbers(logits), LABELS)
    assert total(method, batch, StepOutputs(logits)) == pytest.approx(expected, rel=1e-5)


def test_bic_fits_its_correction_on_the_hold_out() -> None:
    method = make("bic", hold_out=0.5)
    _, new, _, logits = in_second_task(method)
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2])
    data = TinyData(new, labels)
    trained = method.training_items(SECOND, data)
    assert trained is not None
    held_out = np.setdiff1d(np.arange(14), trained)
    assert np.bincount(labels[held_out]).tolist() == [2, 2, 2]
    method.end_task(SECOND, new, data)
    scores = numbers(method.scores(logits))
    assert np.allclose(scores[:, :2], numbers(logits)[:, :2])
    slope = (scores[:, 2] - scores[0, 2]) / (numbers(logits)[:, 2] - numbers(logits)[0, 2] + 1e-12)
    assert np.allclose(slope[1:], slope[1], rtol=1e-3)
    assert cross_entropy(numbers(method.scores(data.outputs(held_out).logits)), labels[held_out]) < cross_entropy(
        numbers(data.outputs(held_out).logits), labels[held_out]
    )


@pytest.mark.parametrize(("name", "factor"), [("ewc", 0.5), ("mas", 1.0)])
def test_penalties_hold_parameters_where_they_were(name: str, factor: float) -> None:
    method = make(name, strength=4.0)
    old, new, _, _ = in_second_task(method, learn_first=True)
    anchor = method.state_dict()["anchor"]
    expected = 0.0
    for key in ("head.weight", "head.bias"):
        rows = dict(new.named_parameters())[key][:2]
        moved = numbers(rows) - numbers(dict(old.named_parameters())[key])
        expected += float((numbers(anchor["importance"][key]) * moved**2).sum())
    (penalty,) = method.penalty(new).values()
    assert float(penalty.detach()) == pytest.approx(4.0 * factor * expected, rel=1e-5)
    assert all(float(value.detach()) == 0 for value in method.penalty(old).values())


def test_the_fisher_is_the_mean_of_squared_gradients() -> None:
    method = make("ewc")
    old, _, _, _ = in_second_task(method, learn_first=True)
    data = TinyData(old, np.array([0, 1, 0, 1]))
    squares = torch.zeros(2, 3)
    for clip, label in zip(data.clips, data.labels, strict=True):
        old.zero_grad()
        old(clip[None]).log_softmax(1)[0, label].backward()  # type: ignore[no-untyped-call]
        assert old.head.weight.grad is not None
        squares += old.head.weight.grad.square()
    torch.testing.assert_close(method.state_dict()["anchor"]["importance"]["head.weight"], squares / 4)


@pytest.mark.parametrize("name", METHODS.listings())
def test_a_restored_method_computes_the_same(name: str) -> None:
    """A method with another's state has the same loss, penalty and scores."""
    method, other = make(name), make(name)
    _, new, batch, logits = in_second_task(method, learn_first=name in ("ewc", "mas"))
    if name == "lwf":  # without replay, every clip is of a new class
        batch = StepBatch(batch.clips, torch.full((4,), 2), torch.arange(4))
    other.load_state_dict(method.state_dict(), new)
    assert total(other, batch, StepOutputs(logits)) == total(method, batch, StepOutputs(logits))
    penalties = [method.penalty(new), other.penalty(new)]
    assert penalties[0] == penalties[1]
    assert torch.equal(other.scores(logits), method.scores(logits))


def test_an_unknown_method_or_setting_suggests_one() -> None:
    with pytest.raises(SettingsError, match="did you mean 'icarl'"):
        parse_method({"name": "iCarl"})
    with pytest.raises(SettingsError, match=r"'method\.strenght' is not known; did you mean 'strength'"):
        parse_method({"name": "ewc", "strenght": 1})
