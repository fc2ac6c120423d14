"""Temporal consistency: the formula by hand, weights 0 and 1, and gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from method_cases import quickly, seeds
from torch import Tensor

from vclimb.methods.consistency import cross_entropy, temporal_consistency

LABELS = torch.tensor([0, 1])
LOGITS = torch.tensor([[math.log(3), 0.0], [0.0, 0.0]])  # probabilities 3/4, 1/4 and 1/2, 1/2
DOWN = torch.tensor([[0.0, math.log(4)], [0.0, math.log(9)]])  # 1/5, 4/5 and 1/10, 9/10
CE = -(math.log(3 / 4) + math.log(1 / 2)) / 2
CE_DOWN = -(math.log(1 / 5) + math.log(9 / 10)) / 2


def test_by_hand() -> None:
    assert cross_entropy(LOGITS, LABELS).item() == pytest.approx(CE)
    assert temporal_consistency(LOGITS, DOWN, LABELS).item() == pytest.approx((CE + CE_DOWN) / 2)
    assert temporal_consistency(LOGITS, DOWN, LABELS, 0.2).item() == pytest.approx(0.8 * CE + 0.2 * CE_DOWN)


@quickly
@given(st.floats(0, 1), seeds)
def test_the_loss_lies_between_both_losses(weight: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    whole, down = (10 * torch.randn(4, 3, generator=generator) for _ in range(2))
    labels = torch.randint(3, (4,), generator=generator)
    ends = [temporal_consistency(whole, down, labels, end).item() for end in (0.0, 1.0)]
    assert ends == [cross_entropy(whole, labels).item(), cross_entropy(down, labels).item()]
    between = temporal_consistency(whole, down, labels, weight).item()
    assert min(ends) - 1e-5 <= between <= max(ends) + 1e-5
    assert temporal_consistency(whole, whole, labels, weight).item() == pytest.approx(ends[0], rel=1e-5)


def test_gradients_are_weighted() -> None:
    whole, down = LOGITS.clone().requires_grad_(), LOGITS.clone().requires_grad_()
    from_whole, from_down = torch.autograd.grad(temporal_consistency(whole, down, LABELS, 0.25), [whole, down])
    (alone,) = torch.autograd.grad(cross_entropy(whole, LABELS), whole)
    torch.testing.assert_close(from_whole, 0.75 * alone)
    torch.testing.assert_close(from_down, 0.25 * alone)


def test_any_loss_on_labels_is_accepted() -> None:
    def mean_score(logits: Tensor, labels: Tensor) -> Tensor:
        return logits.gather(1, labels[:, None]).mean()

    loss = temporal_consistency(LOGITS, DOWN, LABELS, 0.5, mean_score)
    assert loss.item() == pytest.approx((math.log(3) / 2 + math.log(9) / 2) / 2)


def test_losses_of_bfloat16_logits_are_float32() -> None:
    logits = torch.tensor([[1e4, -1e4], [300.0, 301.0]], dtype=torch.bfloat16)
    loss = temporal_consistency(logits, logits, torch.tensor([1, 0]))
    assert loss.dtype == torch.float32
    expected = cross_entropy(logits.double(), torch.tensor([1, 0])).item()
    assert loss.item() == pytest.approx(expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert temporal_consistency(logits, logits, torch.tensor([1, 0])).item() == loss.item()


def test_the_loss_of_an_empty_batch_is_zero() -> None:
    """A process without samples in the last batch needs the gradient 0, not NaN."""
    weights = torch.ones(3, 2, requires_grad=True)
    logits = torch.empty(0, 3) @ weights
    temporal_consistency(logits, logits, torch.empty(0, dtype=torch.int64)).backward()  # type: ignore[no-untyped-call]
    assert weights.grad is not None
    assert weights.grad.tolist() == [[0, 0]] * 3
