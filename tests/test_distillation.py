"""The distillation losses, against slow transcriptions of their formulas in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from method_cases import Doubles, quickly, seeds
from torch import Tensor

from vclimb.methods import distillation as losses
from vclimb.methods.distillation import TEMPERATURE, icarl_classification, icarl_targets, lwf_targets


def lwf_distillation(logits: Tensor, old_logits: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    return losses.lwf_distillation(logits, lwf_targets(old_logits, temperature), temperature)


def icarl_distillation(logits: Tensor, old_logits: Tensor) -> Tensor:
    return losses.icarl_distillation(logits, icarl_targets(old_logits))


def bic_loss(classification: Tensor, logits: Tensor, old_logits: Tensor | None) -> Tensor:
    return losses.bic_loss(classification, logits, None if old_logits is None else lwf_targets(old_logits))


def drawn(seed: int, n_samples: int = 4, n_classes: int = 5, n_old: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Draw logits (B, C), old logits (B, n_old) and labels (B,)."""
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(n_samples, n_classes, generator=generator)
    old_logits = 4 * torch.randn(n_samples, n_old, generator=generator)
    return logits, old_logits, torch.randint(n_classes, (n_samples,), generator=generator)


def softened(row: Doubles, temperature: float) -> Doubles:
    """Soften as Li and Hoiem do: raise probabilities to the power 1 / T, and normalise them."""
    probabilities = np.exp(row) / np.exp(row).sum()
    powers = probabilities ** (1 / temperature)
    return np.asarray(powers / powers.sum())


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def slow_lwf(logits: Tensor, old_logits: Tensor, temperature: float) -> float:
    n_old, total = old_logits.shape[1], 0.0
    for new, old in zip(logits.double().numpy(), old_logits.double().numpy(), strict=True):
        now, before = softened(new[:n_old], temperature), softened(old, temperature)
        total += -sum(before[k] * math.log(now[k]) for k in range(n_old))
    return total / len(logits)


def slow_icarl(logits: Tensor, labels: Tensor, old_logits: Tensor | None) -> tuple[float, float]:
    """Compute the classification and the distillation part of algorithm 3, over samples and classes."""
    n_old = 0 if old_logits is None else old_logits.shape[1]
    classification = distillation = 0.0
    for sample, row in enumerate(logits.double().tolist()):
        for y, logit in enumerate(row):
            g = sigmoid(logit)
            if y >= n_old:
                classification -= math.log(g) if int(labels[sample]) == y else math.log(1 - g)
            elif old_logits is not None:
                q = sigmoid(float(old_logits[sample, y]))
                distillation -= q * math.log(g) + (1 - q) * math.log(1 - g)
    return classification / len(logits), distillation / len(logits)


def slow_cross_entropy(logits: Tensor, labels: Tensor) -> float:
    rows = logits.double().numpy()
    return float(np.mean([-math.log(softened(row, 1)[int(y)]) for row, y in zip(rows, labels, strict=True)]))


class TestLwf:
    @quickly
    @given(seeds, st.floats(0.5, 8))
    def test_as_its_formula(self, seed: int, temperature: float) -> None:
        logits, old_logits, _ = drawn(seed)
        expected = slow_lwf(logits, old_logits, temperature)
        assert lwf_distillation(logits, old_logits, temperature).item() == pytest.approx(expected, rel=1e-5)

    def test_by_hand(self) -> None:
        """Old probabilities 9 : 1 are 3 : 1 at temperature 2; the new ones are 1 : 1, beside a third class."""
        old_logits = torch.tensor([[math.log(9), 0.0]])
        assert lwf_distillation(torch.tensor([[0.0, 0.0, 7.0]]), old_logits).item() == pytest.approx(math.log(2))

    @quickly
    @given(seeds)
    def test_the_minimum_is_where_the_models_agree(self, seed: int) -> None:
        logits, old_logits, _ = drawn(seed)
        agreeing = old_logits + 3.0  # a softmax ignores a constant
        entropy = slow_lwf(old_logits, old_logits, 2)
        assert lwf_distillation(agreeing, old_logits).item() == pytest.approx(entropy, rel=1e-5)
        assert lwf_distillation(logits, old_logits).item() >= entropy - 1e-5


class TestIcarl:
    @quickly
    @given(seeds)
    def test_as_algorithm_3(self, seed: int) -> None:
        logits, old_logits, labels = drawn(seed)
        classification, distillation = slow_icarl(logits, labels, old_logits)
        assert icarl_classification(logits, labels, 3).item() == pytest.approx(classification, rel=1e-4)
        assert icarl_distillation(logits, old_logits).item() == pytest.approx(distillation, rel=1e-4)
        first_task, _ = slow_icarl(logits, labels, None)
        assert icarl_classification(logits, labels).item() == pytest.approx(first_task, rel=1e-4)

    def test_by_hand(self) -> None:
        """One old class with old probability 3/4 and new probability 1/2; the first of two new classes is true."""
        logits, old_logits = torch.tensor([[0.0, math.log(4), 0.0]]), torch.tensor([[math.log(3)]])
        classification = -math.log(4 / 5) - math.log(1 / 2)
        assert icarl_classification(logits, torch.tensor([1]), 1).item() == pytest.approx(classification)
        assert icarl_distillation(logits, old_logits).item() == pytest.approx(math.log(2))

    def test_an_exemplar_is_a_negative_of_new_classes_and_its_label_is_not_used(self) -> None:
        logits, _, _ = drawn(4, n_samples=1)
        first, second = (icarl_classification(logits, torch.tensor([label]), 3) for label in (0, 2))
        assert first.item() == second.item()
        (gradient,) = torch.autograd.grad(icarl_classification(logits.requires_grad_(), torch.tensor([0]), 3), logits)
        assert (gradient[0, 3:] > 0).all()
        assert (gradient[0, :3] == 0).all()


class TestBic:
    @quickly
    @given(seeds)
    def test_as_equation_3(self, seed: int) -> None:
        logits, old_logits, labels = drawn(seed)
        classification = torch.nn.functional.cross_entropy(logits, labels)
        expected = 3 / 5 * slow_lwf(logits, old_logits, 2) + 2 / 5 * slow_cross_entropy(logits, labels)
        assert bic_loss(classification, logits, old_logits).item() == pytest.approx(expected, rel=1e-5)

    def test_the_first_task_is_classification_alone(self) -> None:
        logits, _, _ = drawn(5)
        assert bic_loss(torch.tensor(1.25), logits, None).item() == 1.25


Distillation = Callable[[Tensor, Tensor], Tensor]
both = pytest.mark.parametrize("distillation", [lwf_distillation, icarl_distillation])


@both
@quickly
@given(seed=seeds)
def test_no_gradient_where_the_models_agree(distillation: Distillation, seed: int) -> None:
    logits, _, _ = drawn(seed)
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(distillation(logits, logits.detach()[:, :3]), logits)
    assert gradient.abs().max() < 1e-6
    other = logits.detach()[:, :3] + torch.tensor([1.0, 0.0, -1.0])
    (gradient,) = torch.autograd.grad(distillation(logits, other), logits)
    assert gradient.abs().max() > 1e-6


@both
def test_the_old_model_has_no_gradient(distillation: Distillation) -> None:
    logits, old_logits, _ = drawn(6)
    old_logits.requires_grad_()
    assert not distillation(logits, old_logits).requires_grad
    before = old_logits.detach().clone()
    distillation(logits.requires_grad_(), old_logits).backward()  # type: ignore[no-untyped-call]
    assert old_logits.grad is None
    assert torch.equal(old_logits, before)
    assert logits.grad is not None
    assert (logits.grad[:, 3:] == 0).all()


@both
def test_extreme_logits_give_finite_losses(distillation: Distillation) -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0], [-3e4, 3e4, 1.0]], requires_grad=True)
    loss = distillation(logits, torch.tensor([[-1e4, 1e4], [3e4, -3e4]]))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.isfinite()
    assert gradient.isfinite().all()


@both
def test_losses_of_bfloat16_logits_are_float32(distillation: Distillation) -> None:
    logits, old_logits = (part.bfloat16() for part in drawn(7)[:2])
    loss = distillation(logits, old_logits)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(distillation(logits.double(), old_logits.double()).item(), rel=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert distillation(logits, old_logits).item() == loss.item()


def test_the_loss_of_an_empty_batch_is_zero() -> None:
    weights = torch.ones(2, 5, requires_grad=True)
    logits, old_logits, labels = torch.empty(0, 2) @ weights, torch.empty(0, 3), torch.empty(0, dtype=torch.int64)
    losses = (
        lwf_distillation(logits, old_logits),
        icarl_distillation(logits, old_logits),
        icarl_classification(logits, labels, 3),
    )
    for loss in losses:
        (gradient,) = torch.autograd.grad(loss, weights, retain_graph=True)
        assert loss.item() == 0
        assert (gradient == 0).all()
