"""EWC's Fisher, MAS' sensitivity and the penalty, held against formulas in NumPy and gradients taken one by one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor, nn

from vclimb.methods import importance
from vclimb.methods.anchored import of_whole_batches
from vclimb.methods.importance import (
    Anchor,
    ImportanceSum,
    Parameters,
    anchored,
    fisher_diagonal,
    joined_anchors,
    output_sensitivity,
    quadratic_penalty,
    released_fisher,
    released_gradient,
    released_sensitivity,
)
from vclimb.methods.method import TaskData
from vclimb.model.tsn import TSN

quickly = settings(deadline=None, max_examples=30)
Doubles = npt.NDArray[np.float64]
N_FEATURES, N_CLASSES = 3, 4


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(N_FEATURES, N_CLASSES)


@pytest.fixture
def deep() -> nn.Sequential:
    """With batch norm that has seen something, and dropout: what evaluation mode is for."""
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Linear(N_FEATURES, 5), nn.BatchNorm1d(5), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(5, N_CLASSES)
    )
    model(torch.randn(50, N_FEATURES))
    return model


def drawn(n_samples: int, seed: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    clips = torch.randn(n_samples, N_FEATURES, generator=generator)
    return clips, torch.randint(N_CLASSES, (n_samples,), generator=generator)


def batches(clips: Tensor, labels: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    return list(zip(clips.split(size), labels.split(size), strict=True))


def as_doubles(linear: nn.Linear) -> tuple[Doubles, Doubles]:
    return linear.weight.detach().double().numpy(), linear.bias.detach().double().numpy()


def log_likelihood_gradients(linear: nn.Linear, clip: Doubles) -> Doubles:
    """(C, C, D + 1): of log p(label | clip) by weight and bias, for each label: (onehot - p) x."""
    weight, bias = as_doubles(linear)
    logits = weight @ clip + bias
    p = np.exp(logits) / np.exp(logits).sum()
    return np.array([np.outer(np.eye(N_CLASSES)[label] - p, [*clip, 1]) for label in range(N_CLASSES)])


def assert_importance(found: Parameters, expected: Doubles, tolerance: float = 1e-5) -> None:
    """Of a linear layer; expected: (C, D + 1)."""
    np.testing.assert_allclose(found["weight"].numpy(), expected[:, :-1], rtol=tolerance, atol=1e-7)
    np.testing.assert_allclose(found["bias"].numpy(), expected[:, -1], rtol=tolerance, atol=1e-7)


def one_by_one(model: nn.Module, clips: Tensor, labels: Tensor, kind: str) -> dict[str, Tensor]:
    """The mean over samples of the squared gradient of the log-likelihood, or of the magnitude of MAS' gradient."""
    mode = model.training
    model.eval()
    total = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
    for clip, label in zip(clips, labels, strict=True):
        model.zero_grad()
        logits = model(clip[None]).float()
        if kind == "fisher":
            logits.log_softmax(1)[0, label].backward()
        else:
            (logits**2).sum().backward()
        for name, value in model.named_parameters():
            assert value.grad is not None
            total[name] += value.grad**2 if kind == "fisher" else value.grad.abs()
    model.zero_grad()
    model.train(mode)
    return {name: value / len(clips) for name, value in total.items()}


class TestFisher:
    def test_as_its_formula(self, linear: nn.Linear) -> None:
        clips, labels = drawn(7)
        squares = [
            log_likelihood_gradients(linear, clip)[label] ** 2
            for clip, label in zip(clips.double().numpy(), labels.tolist(), strict=True)
        ]
        found = fisher_diagonal(linear, batches(clips, labels, 3), chunk_size=2)
        assert found.n_samples == 7
        assert_importance(found.mean(), np.mean(squares, axis=0))

    def test_drawn_labels_give_the_fisher_itself_on_average(self, linear: nn.Linear) -> None:
        """Its expectation over labels, to within 5 deviations of 3,000 draws of each of 2 clips."""
        clips, labels = drawn(2)
        expectation, deviation = np.zeros((2, N_CLASSES, N_FEATURES + 1))
        for clip in clips.double().numpy():
            weight, bias = as_doubles(linear)
            p = np.exp(weight @ clip + bias) / np.exp(weight @ clip + bias).sum()
            squares = log_likelihood_gradients(linear, clip) ** 2
            mean = np.einsum("k,kcd->cd", p, squares)
            expectation += mean / 2
            deviation += np.einsum("k,kcd->cd", p, (squares - mean) ** 2) / 4 / 3000
        many = [(clips.repeat(300, 1), labels.repeat(300))] * 10
        generator = torch.Generator().manual_seed(0)
        found = fisher_diagonal(linear, many, "sampled", chunk_size=600, generator=generator).mean()
        difference = np.hstack([found["weight"].numpy(), found["bias"].numpy()[:, None]]) - expectation
        assert (np.abs(difference) < 5 * np.sqrt(deviation) + 1e-6).all()
        again = fisher_diagonal(linear, many, "sampled", 600, torch.Generator().manual_seed(0)).mean()
        assert torch.equal(again["weight"], found["weight"])

    def test_labels_of_another_kind_are_refused(self, linear: nn.Linear) -> None:
        with pytest.raises(ValueError, match="labels 'best' are not known; allowed: true, sampled"):
            fisher_diagonal(linear, [], "best")  # type: ignore[arg-type]


class TestSensitivity:
    def test_as_its_formula(self, linear: nn.Linear) -> None:
        """The gradient of |W x + b|^2 by W is 2 (W x + b) x."""
        clips, labels = drawn(7)
        weight, bias = as_doubles(linear)
        magnitudes = [np.abs(2 * np.outer(weight @ x + bias, [*x, 1])) for x in clips.double().numpy()]
        found = output_sensitivity(linear, batches(clips, labels, 3), chunk_size=2)
        assert_importance(found.mean(), np.mean(magnitudes, axis=0))

    def test_labels_are_not_looked_at(self, linear: nn.Linear) -> None:
        clips, labels = drawn(4)
        found = [output_sensitivity(linear, [(clips, y)]).mean()["weight"] for y in (labels, labels * 0)]
        assert torch.equal(found[0], found[1])


class TestBoth:
    @pytest.mark.parametrize("kind", ["fisher", "sensitivity"])
    def test_as_samples_one_by_one(self, deep: nn.Sequential, kind: str) -> None:
        clips, labels = drawn(9)
        estimate = fisher_diagonal if kind == "fisher" else output_sensitivity
        expected = one_by_one(deep, clips, labels, kind)
        for size, chunk in ((9, 9), (4, 3), (1, 1)):
            found = estimate(deep, batches(clips, labels, size), chunk_size=chunk).mean()
            assert found.keys() == expected.keys()
            for name in expected:
                torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=1e-4)

    @pytest.mark.parametrize("on_gpu", [False, True], ids=["", "chunks filled up, as on a GPU"])
    def test_on_clips_of_the_real_model(self, on_gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importance, "needs_plans", lambda device: on_gpu)
        torch.manual_seed(0)
        model = TSN(3, "test_resnet.r160_in1k").train()
        clips = torch.randint(0, 256, (3, 2, 3, 32, 32), dtype=torch.uint8)
        labels = torch.tensor([0, 2, 1])
        found = fisher_diagonal(model, [(clips, labels)], chunk_size=2).mean()
        for name, expected in one_by_one(model, clips, labels, "fisher").items():
            torch.testing.assert_close(found[name], expected, atol=1e-6, rtol=1e-3)
        with torch.autocast("cpu", torch.bfloat16):
            again = fisher_diagonal(model, [(clips, labels)], chunk_size=2).mean()
            released = released_fisher(model.eval(), [(clips, labels)])
        assert all(torch.equal(again[name], found[name]) for name in found)
        assert torch.equal(released["head.weight"], released_fisher(model, [(clips, labels)])["head.weight"])

    def test_the_model_is_as_it_was(self, deep: nn.Sequential) -> None:
        deep.train()
        deep[1].eval()  # as partial batch norm has it
        before = {name: value.clone() for name, value in deep.state_dict().items()}
        fisher_diagonal(deep, [drawn(4)])
        released_fisher(deep, [drawn(4)])
        assert [module.training for module in deep] == [True, False, True, True, True]
        assert all(torch.equal(value, before[name]) for name, value in deep.state_dict().items())
        assert all(value.grad is None for value in deep.parameters())

    def test_the_mode_comes_back_after_an_error(self, deep: nn.Sequential) -> None:
        deep.train()
        with pytest.raises(RuntimeError):
            fisher_diagonal(deep, [(torch.zeros(2, 99), torch.zeros(2, dtype=torch.int64))])
        assert all(module.training for module in deep.modules())

    def test_processes_add_up(self, linear: nn.Linear) -> None:
        clips, labels = drawn(8)
        parts = [fisher_diagonal(linear, [(clips[half], labels[half])]) for half in (slice(0, 3), slice(3, 8))]
        merged = ImportanceSum(
            {name: parts[0].total[name] + parts[1].total[name] for name in parts[0].total},
            parts[0].n_samples + parts[1].n_samples,
        )
        whole = fisher_diagonal(linear, [(clips, labels)]).mean()
        torch.testing.assert_close(merged.mean()["weight"], whole["weight"])

    def test_frozen_parameters_have_no_importance(self, linear: nn.Linear) -> None:
        linear.bias.requires_grad_(False)
        assert fisher_diagonal(linear, [drawn(2)]).mean().keys() == {"weight"}
        assert released_fisher(linear, [drawn(2)]).keys() == {"weight"}

    def test_empty_batches(self, linear: nn.Linear) -> None:
        found = fisher_diagonal(linear, [drawn(0), drawn(3), drawn(0)])
        assert found.n_samples == 3
        assert released_fisher(linear, [drawn(0), drawn(3)])["weight"].isfinite().all()
        with pytest.raises(ValueError, match="needs samples; the batches held none"):
            fisher_diagonal(linear, []).mean()
        with pytest.raises(ValueError, match="chunk size 0 is out of range"):
            fisher_diagonal(linear, [], chunk_size=0)


class TwoProcesses:
    """The sums of two processes, of which the other one's part is known."""

    def __init__(self, others: list[Tensor]) -> None:
        self._others = others

    def sum_over_processes(self, tensor: Tensor) -> Tensor:
        return tensor + self._others.pop(0)


def _mean_of(released: Any) -> Any:
    if released is released_fisher:
        return nn.functional.cross_entropy
    return lambda logits, labels: torch.linalg.vector_norm(logits, dim=1).mean()


class TestReleased:
    def test_the_fisher_is_the_square_of_a_sum(self, linear: nn.Linear) -> None:
        clips, labels = drawn(7)
        total = np.zeros((N_CLASSES, N_FEATURES + 1))
        for some, some_labels in batches(clips, labels, 3):
            rows = zip(some.double().numpy(), some_labels.tolist(), strict=True)
            total += np.mean([-log_likelihood_gradients(linear, clip)[label] for clip, label in rows], axis=0)
        assert_importance(released_fisher(linear, batches(clips, labels, 3)), total**2, 1e-4)

    def test_the_sensitivity_is_the_magnitude_of_a_sum(self, linear: nn.Linear) -> None:
        """The gradient of |W x + b| by W is (W x + b) x / |W x + b|."""
        clips, labels = drawn(7)
        weight, bias = as_doubles(linear)
        total = np.zeros((N_CLASSES, N_FEATURES + 1))
        for some, _ in batches(clips, labels, 3):
            outputs = [(weight @ x + bias, x) for x in some.double().numpy()]
            total += np.mean([np.outer(o, [*x, 1]) / np.linalg.norm(o) for o, x in outputs], axis=0)
        assert_importance(released_sensitivity(linear, batches(clips, labels, 3)), np.abs(total), 1e-4)

    @pytest.mark.parametrize("released", [released_fisher, released_sensitivity])
    def test_two_processes_that_share_each_batch_find_what_one_does(self, linear: nn.Linear, released: Any) -> None:
        clips, labels = drawn(8)
        expected = released(linear, batches(clips, labels, 4))
        halves = [[(some[half::2], of[half::2]) for some, of in batches(clips, labels, 4)] for half in range(2)]
        of_one = released_gradient(linear, halves[1], _mean_of(released))
        both = TwoProcesses([torch.ones(()), *of_one.values()])
        found = released(linear, halves[0], partial(of_whole_batches, data=cast(TaskData, both)))
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-7)

    def test_samples_cancel(self) -> None:
        """Two samples that pull a parameter apart: it matters, and the released importance of it is 0."""
        model = nn.Linear(1, 2)
        nn.init.zeros_(model.weight)
        nn.init.zeros_(model.bias)
        batch = (torch.ones(2, 1), torch.tensor([0, 1]))
        assert released_fisher(model, [batch])["weight"].tolist() == [[0], [0]]
        assert fisher_diagonal(model, [batch]).mean()["weight"].tolist() == [[0.25], [0.25]]

    def test_dropout_is_on_where_the_model_trains(self, deep: nn.Sequential) -> None:
        def gradient(seed: int) -> Tensor:
            torch.manual_seed(seed)
            return released_gradient(deep, [drawn(6)], nn.functional.cross_entropy)["4.weight"]

        deep.train()
        assert not torch.equal(gradient(0), gradient(1))
        deep.eval()
        assert torch.equal(gradient(0), gradient(1))


class TestPenalty:
    def test_by_hand(self) -> None:
        model = nn.Linear(2, 1)
        anchor = Anchor(
            {"weight": torch.tensor([[2.0, 3.0]]), "bias": torch.tensor([5.0])},
            {"weight": torch.tensor([[1.0, 1.0]]), "bias": torch.tensor([0.0])},
        )
        nn.init.constant_(model.weight, 3.0)
        nn.init.constant_(model.bias, -1.0)
        assert quadratic_penalty(model, [anchor], 0.5).item() == 0.5 * (2 * 4 + 3 * 4 + 5 * 1)
        assert quadratic_penalty(model, [anchor, anchor], 0.5).item() == 25
        assert quadratic_penalty(model, [], 0.5).item() == 0
        (gradient,) = torch.autograd.grad(quadratic_penalty(model, [anchor], 0.5), model.weight)
        assert gradient.tolist() == [[2 * 2, 3 * 2]]

    @quickly
    @given(st.integers(0, 2**31), st.floats(0.1, 100))
    def test_it_is_zero_at_the_anchor_and_grows_with_the_square(self, seed: int, distance: float) -> None:
        torch.manual_seed(seed)
        model = nn.Linear(N_FEATURES, N_CLASSES)
        anchor = anchored(model, fisher_diagonal(model, [drawn(5, seed)]).mean())
        assert quadratic_penalty(model, [anchor], 3.0).item() == 0
        direction = torch.randn_like(model.weight)
        with torch.no_grad():
            model.weight.copy_(anchor.values["weight"] + direction)
        once = quadratic_penalty(model, [anchor], 3.0).item()
        with torch.no_grad():
            model.weight.copy_(anchor.values["weight"] + distance * direction)
        assert once > 0
        # Near the anchor, its float32 digits hide part of the step.
        assert quadratic_penalty(model, [anchor], 3.0).item() == pytest.approx(distance**2 * once, rel=1e-3)

    def test_an_anchor_is_a_copy(self, linear: nn.Linear) -> None:
        importance = fisher_diagonal(linear, [drawn(5)]).mean()
        anchor = anchored(linear, importance)
        before = anchor.values["weight"].clone()
        with torch.no_grad():
            linear.weight += 1
            importance["weight"] += 1
        assert torch.equal(anchor.values["weight"], before)
        assert torch.equal(anchor.importance["weight"] + 1, importance["weight"])
        assert not anchor.values["weight"].requires_grad

    def test_of_a_head_that_has_grown_the_first_rows_are_held(self, linear: nn.Linear) -> None:
        anchor = anchored(linear, {"weight": torch.ones(4, 3), "bias": torch.ones(4)})
        grown = nn.Linear(N_FEATURES, 6)
        with torch.no_grad():
            grown.weight[:4], grown.bias[:4] = linear.weight, linear.bias
        assert quadratic_penalty(grown, [anchor], 1.0).item() == 0
        with torch.no_grad():
            grown.weight[3, 0] += 2
            grown.weight[5] += 100
        penalty = quadratic_penalty(grown, [anchor], 1.0)
        assert penalty.item() == pytest.approx(4)
        (gradient,) = torch.autograd.grad(penalty, grown.weight)
        assert (gradient[4:] == 0).all()

    def test_one_penalty_for_all_tasks(self, linear: nn.Linear) -> None:
        """Online EWC: importances add, the earlier ones decayed; rows that are new have none of the earlier."""
        first = anchored(linear, {"weight": torch.full((4, 3), 2.0), "bias": torch.full((4,), 2.0)})
        grown = nn.Linear(N_FEATURES, 6)
        new = {"weight": torch.ones(6, 3), "bias": torch.ones(6)}
        second = anchored(grown, new, first, decay=0.5)
        assert second.importance["bias"].tolist() == [2, 2, 2, 2, 1, 1]
        assert second.importance["weight"][:, 0].tolist() == [2, 2, 2, 2, 1, 1]
        assert torch.equal(second.values["weight"], grown.weight)
        assert new["bias"].tolist() == [1] * 6
        assert anchored(grown, new, first).importance["bias"].tolist() == [3, 3, 3, 3, 1, 1]

    def test_it_is_stored_as_safetensors(self, linear: nn.Linear) -> None:
        anchor = anchored(linear, fisher_diagonal(linear, [drawn(5)]).mean())
        again = Anchor.from_state_dict(load(save(anchor.state_dict())))
        assert again.values.keys() == anchor.values.keys()
        assert all(torch.equal(again.importance[name], anchor.importance[name]) for name in anchor.importance)
        assert quadratic_penalty(linear, [again], 1.0).item() == 0

    def test_under_autocast_it_is_float32(self, linear: nn.Linear) -> None:
        """A step of 2 ** -12 of 1 is none in bfloat16."""
        nn.init.ones_(linear.weight)
        anchor = anchored(linear, {"weight": torch.ones(4, 3)})
        with torch.no_grad():
            linear.weight += 2**-12
        with torch.autocast("cpu", torch.bfloat16):
            penalty = quadratic_penalty(linear, [anchor], 1.0)
        assert penalty.dtype == torch.float32
        assert penalty.item() == 12 * 2**-24

    def test_what_does_not_fit_is_refused(self, linear: nn.Linear) -> None:
        anchor = anchored(linear, {"weight": torch.ones(4, 3)})
        with pytest.raises(ValueError, match="the model has no parameter 'weight', which is anchored"):
            quadratic_penalty(nn.Sequential(linear), [anchor], 1.0)
        with pytest.raises(ValueError, match=r"the model has no parameter 'module\.weight'"):
            anchored(linear, {"module.weight": torch.ones(4, 3)})
        with pytest.raises(ValueError, match=r"'weight' \(2, 3\) is no grown \(4, 3\); only rows may be added"):
            quadratic_penalty(nn.Linear(3, 2), [anchor], 1.0)
        with pytest.raises(ValueError, match=r"'weight' \(4, 5\) is no grown \(4, 3\)"):
            quadratic_penalty(nn.Linear(5, 4), [anchor], 1.0)
        with pytest.raises(ValueError, match="'weight' had an importance after the task before, and has none now"):
            anchored(linear, {"bias": torch.ones(4)}, anchor)
        with pytest.raises(ValueError, match="'bias' has no importance or no value"):
            Anchor({"bias": torch.ones(4)}, {})
        with pytest.raises(ValueError, match=r"'bias' \(4,\) has importances \(3,\)"):
            Anchor({"bias": torch.ones(3)}, {"bias": torch.ones(4)})


class TestJoinedAnchors:
    def test_has_the_gradient_of_the_two_penalties(self) -> None:
        """A head that has grown by a row between the two; importances of 0 among them."""
        torch.manual_seed(1)
        model = nn.Linear(3, 2)
        earlier = anchored(model, {"weight": torch.rand(2, 3).round(decimals=1), "bias": torch.rand(2)})
        grown = nn.Linear(3, 3)
        importance = {"weight": torch.rand(3, 3), "bias": torch.zeros(3)}
        newest = anchored(grown, importance)
        moved = nn.Linear(3, 3)
        separate = torch.autograd.grad(quadratic_penalty(moved, [earlier, newest], 0.7), [*moved.parameters()])
        joined = joined_anchors(earlier, newest)
        together = torch.autograd.grad(quadratic_penalty(moved, [joined], 0.7), [*moved.parameters()])
        for one, other in zip(separate, together, strict=True):
            torch.testing.assert_close(one, other)

    def test_leaves_its_arguments_and_keeps_what_mattered_to_neither(self) -> None:
        model = nn.Linear(1, 1, bias=False)
        earlier = Anchor({"weight": torch.zeros(1, 1)}, {"weight": torch.full((1, 1), 5.0)})
        newest = anchored(model, {"weight": torch.zeros(1, 1)})
        before = newest.values["weight"].clone()
        joined = joined_anchors(earlier, newest)
        assert torch.equal(joined.values["weight"], before)
        assert torch.equal(newest.values["weight"], before)
        assert joined.importance["weight"].item() == 0
