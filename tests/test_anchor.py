"""Anchors of parameters, and the quadratic penalty of EWC and MAS."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from method_cases import N_CLASSES, N_FEATURES, drawn_samples, make_linear, quickly, seeds
from torch import nn

from vclimb.methods.anchor import Anchor, anchor_at, merge_anchors, quadratic_penalty
from vclimb.methods.importance import fisher_diagonal


@pytest.fixture
def linear() -> nn.Linear:
    return make_linear()


class TestPenalty:
    def test_by_hand(self) -> None:
        model = nn.Linear(2, 1)
        anchor = Anchor(
            {"weight": torch.tensor([[2.0, 3.0]]), "bias": torch.tensor([5.0])},
            {"weight": torch.tensor([[1.0, 1.0]]), "bias": torch.tensor([0.0])},
        )
        nn.init.constant_(model.weight, 3.0)
        nn.init.constant_(model.bias, -1.0)
        assert quadratic_penalty(model, anchor, 0.5).item() == 0.5 * (2 * 4 + 3 * 4 + 5 * 1)
        (gradient,) = torch.autograd.grad(quadratic_penalty(model, anchor, 0.5), model.weight)
        assert gradient.tolist() == [[2 * 2, 3 * 2]]

    @quickly
    @given(seeds, st.floats(0.1, 100))
    def test_it_is_zero_at_the_anchor_and_grows_with_the_square(self, seed: int, distance: float) -> None:
        torch.manual_seed(seed)
        model = nn.Linear(N_FEATURES, N_CLASSES)
        anchor = anchor_at(model, fisher_diagonal(model, [drawn_samples(5, seed)]).mean())
        assert quadratic_penalty(model, anchor, 3.0).item() == 0
        direction = torch.randn_like(model.weight)
        with torch.no_grad():
            model.weight.copy_(anchor.values["weight"] + direction)
        once = quadratic_penalty(model, anchor, 3.0).item()
        with torch.no_grad():
            model.weight.copy_(anchor.values["weight"] + distance * direction)
        assert once > 0
        # Near the anchor, its float32 digits hide part of the step.
        assert quadratic_penalty(model, anchor, 3.0).item() == pytest.approx(distance**2 * once, rel=1e-3)

    def test_an_anchor_is_a_copy(self, linear: nn.Linear) -> None:
        importance = fisher_diagonal(linear, [drawn_samples(5)]).mean()
        anchor = anchor_at(linear, importance)
        before = anchor.values["weight"].clone()
        with torch.no_grad():
            linear.weight += 1
            importance["weight"] += 1
        assert torch.equal(anchor.values["weight"], before)
        assert torch.equal(anchor.importance["weight"] + 1, importance["weight"])
        assert not anchor.values["weight"].requires_grad

    def test_the_first_rows_of_a_grown_head_are_held(self, linear: nn.Linear) -> None:
        anchor = anchor_at(linear, {"weight": torch.ones(4, 3), "bias": torch.ones(4)})
        grown = nn.Linear(N_FEATURES, 6)
        with torch.no_grad():
            grown.weight[:4], grown.bias[:4] = linear.weight, linear.bias
        assert quadratic_penalty(grown, anchor, 1.0).item() == 0
        with torch.no_grad():
            grown.weight[3, 0] += 2
            grown.weight[5] += 100
        penalty = quadratic_penalty(grown, anchor, 1.0)
        assert penalty.item() == pytest.approx(4)
        (gradient,) = torch.autograd.grad(penalty, grown.weight)
        assert (gradient[4:] == 0).all()

    def test_one_penalty_for_all_tasks(self, linear: nn.Linear) -> None:
        """Earlier importances are added; new rows have no earlier importance."""
        first = anchor_at(linear, {"weight": torch.full((4, 3), 2.0), "bias": torch.full((4,), 2.0)})
        grown = nn.Linear(N_FEATURES, 6)
        new = {"weight": torch.ones(6, 3), "bias": torch.ones(6)}
        second = anchor_at(grown, new, first)
        assert second.importance["bias"].tolist() == [3, 3, 3, 3, 1, 1]
        assert second.importance["weight"][:, 0].tolist() == [3, 3, 3, 3, 1, 1]
        assert torch.equal(second.values["weight"], grown.weight)
        assert new["bias"].tolist() == [1] * 6

    def test_the_penalty_is_float32_under_autocast(self, linear: nn.Linear) -> None:
        """In bfloat16, 1 + 2 ** -12 is 1."""
        nn.init.ones_(linear.weight)
        anchor = anchor_at(linear, {"weight": torch.ones(4, 3)})
        with torch.no_grad():
            linear.weight += 2**-12
        with torch.autocast("cpu", torch.bfloat16):
            penalty = quadratic_penalty(linear, anchor, 1.0)
        assert penalty.dtype == torch.float32
        assert penalty.item() == 12 * 2**-24


class TestMergedAnchors:
    def test_the_gradient_is_that_of_both_penalties(self) -> None:
        """The head grew by a row between the two anchors, and some importances are 0."""
        torch.manual_seed(1)
        model = nn.Linear(3, 2)
        earlier = anchor_at(model, {"weight": torch.rand(2, 3).round(decimals=1), "bias": torch.rand(2)})
        grown = nn.Linear(3, 3)
        importance = {"weight": torch.rand(3, 3), "bias": torch.zeros(3)}
        newest = anchor_at(grown, importance)
        moved = nn.Linear(3, 3)
        both = quadratic_penalty(moved, earlier, 0.7) + quadratic_penalty(moved, newest, 0.7)
        separate = torch.autograd.grad(both, [*moved.parameters()])
        merged = merge_anchors(earlier, newest)
        together = torch.autograd.grad(quadratic_penalty(moved, merged, 0.7), [*moved.parameters()])
        for expected, merged_gradient in zip(separate, together, strict=True):
            torch.testing.assert_close(merged_gradient, expected)

    def test_arguments_and_values_without_importance_are_unchanged(self) -> None:
        model = nn.Linear(1, 1, bias=False)
        earlier = Anchor({"weight": torch.zeros(1, 1)}, {"weight": torch.full((1, 1), 5.0)})
        newest = anchor_at(model, {"weight": torch.zeros(1, 1)})
        before = newest.values["weight"].clone()
        merged = merge_anchors(earlier, newest)
        assert torch.equal(merged.values["weight"], before)
        assert torch.equal(newest.values["weight"], before)
        assert merged.importance["weight"].item() == 0
