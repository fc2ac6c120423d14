"""EWC's Fisher information and MAS' sensitivity, against formulas in NumPy and gradients of single samples."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import numpy as np
import pytest
import torch
from method_cases import N_CLASSES, N_FEATURES, Doubles, drawn_samples, make_linear
from torch import Tensor, nn

from vclimb.methods import importance
from vclimb.methods.anchor import Parameters
from vclimb.methods.anchored import whole_batch_gradients
from vclimb.methods.importance import (
    ImportanceSum,
    fisher_diagonal,
    output_sensitivity,
    released_fisher,
    released_gradient,
    released_sensitivity,
)
from vclimb.methods.method import TaskData
from vclimb.model.registry import make_network
from vclimb.model.settings import ModelConfig


@pytest.fixture
def linear() -> nn.Linear:
    return make_linear()


@pytest.fixture
def deep() -> nn.Sequential:
    """A model with trained batch norm and dropout, which evaluation mode changes."""
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Linear(N_FEATURES, 5), nn.BatchNorm1d(5), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(5, N_CLASSES)
    )
    model(torch.randn(50, N_FEATURES))
    return model


def batches(clips: Tensor, labels: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    return list(zip(clips.split(size), labels.split(size), strict=True))


def as_doubles(linear: nn.Linear) -> tuple[Doubles, Doubles]:
    return linear.weight.detach().double().numpy(), linear.bias.detach().double().numpy()


def log_likelihood_gradients(linear: nn.Linear, clip: Doubles) -> Doubles:
    """Gradients (C, C, D + 1) of log p(label | clip) by weight and bias, for each label: (onehot - p) x."""
    weight, bias = as_doubles(linear)
    logits = weight @ clip + bias
    p = np.exp(logits) / np.exp(logits).sum()
    return np.array([np.outer(np.eye(N_CLASSES)[label] - p, [*clip, 1]) for label in range(N_CLASSES)])


def assert_importance(result: Parameters, expected: Doubles, tolerance: float = 1e-5) -> None:
    """Compare the importance of a linear layer with expected values (C, D + 1)."""
    np.testing.assert_allclose(result["weight"].numpy(), expected[:, :-1], rtol=tolerance, atol=1e-7)
    np.testing.assert_allclose(result["bias"].numpy(), expected[:, -1], rtol=tolerance, atol=1e-7)


def mean_of_samples(model: nn.Module, clips: Tensor, labels: Tensor, kind: str) -> dict[str, Tensor]:
    """Average the squared gradient of the log-likelihood, or the magnitude of MAS' gradient, over single samples."""
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
        clips, labels = drawn_samples(7)
        squares = [
            log_likelihood_gradients(linear, clip)[label] ** 2
            for clip, label in zip(clips.double().numpy(), labels.tolist(), strict=True)
        ]
        result = fisher_diagonal(linear, batches(clips, labels, 3), chunk_size=2)
        assert result.n_samples == 7
        assert_importance(result.mean(), np.mean(squares, axis=0))

    def test_drawn_labels_give_the_fisher_itself_on_average(self, linear: nn.Linear) -> None:
        """The mean of 3,000 draws for each of 2 clips is within 5 deviations of the expectation over labels."""
        clips, labels = drawn_samples(2)
        expectation, deviation = np.zeros((2, N_CLASSES, N_FEATURES + 1))
        for clip in clips.double().numpy():
            weight, bias = as_doubles(linear)
            p = np.exp(weight @ clip + bias) / np.exp(weight @ clip + bias).sum()
            squares = log_likelihood_gradients(linear, clip) ** 2
            mean = np.einsum("k,kcd->cd", p, squares)
            expectation += mean / 2
            deviation += np.einsum("k,kcd->cd", p, (squares - mean) ** 2) / 4 / 3000
        many = [(clips.repeat(300, 1), labels.repeat(300))] * 10
        torch.manual_seed(0)
        result = fisher_diagonal(linear, many, "sampled", chunk_size=600).mean()
        difference = np.hstack([result["weight"].numpy(), result["bias"].numpy()[:, None]]) - expectation
        assert (np.abs(difference) < 5 * np.sqrt(deviation) + 1e-6).all()


class TestSensitivity:
    def test_as_its_formula(self, linear: nn.Linear) -> None:
        """The gradient of |W x + b|^2 by W is 2 (W x + b) x."""
        clips, labels = drawn_samples(7)
        weight, bias = as_doubles(linear)
        magnitudes = [np.abs(2 * np.outer(weight @ x + bias, [*x, 1])) for x in clips.double().numpy()]
        result = output_sensitivity(linear, batches(clips, labels, 3), chunk_size=2)
        assert_importance(result.mean(), np.mean(magnitudes, axis=0))

    def test_labels_are_ignored(self, linear: nn.Linear) -> None:
        clips, labels = drawn_samples(4)
        result = [output_sensitivity(linear, [(clips, y)]).mean()["weight"] for y in (labels, labels * 0)]
        assert torch.equal(result[0], result[1])


class TestBoth:
    @pytest.mark.parametrize("kind", ["fisher", "sensitivity"])
    def test_the_mean_over_single_samples(self, deep: nn.Sequential, kind: str) -> None:
        clips, labels = drawn_samples(9)
        estimate = fisher_diagonal if kind == "fisher" else output_sensitivity
        expected = mean_of_samples(deep, clips, labels, kind)
        for size, chunk in ((9, 9), (4, 3), (1, 1)):
            result = estimate(deep, batches(clips, labels, size), chunk_size=chunk).mean()
            assert result.keys() == expected.keys()
            for name in expected:
                torch.testing.assert_close(result[name], expected[name], atol=1e-6, rtol=1e-4)

    @pytest.mark.parametrize("on_gpu", [False, True], ids=["", "chunks filled up, as on a GPU"])
    def test_on_clips_of_the_real_model(self, on_gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importance, "plans_each_size", lambda device: on_gpu)
        torch.manual_seed(0)
        model = make_network(ModelConfig(backbone="test_resnet.r160_in1k", weights="none"), 3).train()
        clips = torch.randint(0, 256, (3, 2, 3, 32, 32), dtype=torch.uint8)
        labels = torch.tensor([0, 2, 1])
        result = fisher_diagonal(model, [(clips, labels)], chunk_size=2).mean()
        for name, expected in mean_of_samples(model, clips, labels, "fisher").items():
            torch.testing.assert_close(result[name], expected, atol=1e-6, rtol=1e-3)
        with torch.autocast("cpu", torch.bfloat16):
            again = fisher_diagonal(model, [(clips, labels)], chunk_size=2).mean()
            released = released_fisher(model.eval(), [(clips, labels)])
        assert all(torch.equal(again[name], result[name]) for name in result)
        assert torch.equal(released["head.weight"], released_fisher(model, [(clips, labels)])["head.weight"])

    def test_the_model_is_unchanged(self, deep: nn.Sequential) -> None:
        deep.train()
        deep[1].eval()  # as partial batch norm has it
        before = {name: value.clone() for name, value in deep.state_dict().items()}
        fisher_diagonal(deep, [drawn_samples(4)])
        assert [module.training for module in deep] == [True, False, True, True, True]
        assert all(torch.equal(value, before[name]) for name, value in deep.state_dict().items())
        assert all(value.grad is None for value in deep.parameters())

    def test_the_mode_is_restored_after_an_error(self, deep: nn.Sequential) -> None:
        deep.train()
        with pytest.raises(RuntimeError):
            fisher_diagonal(deep, [(torch.zeros(2, 99), torch.zeros(2, dtype=torch.int64))])
        assert all(module.training for module in deep.modules())

    def test_processes_add_up(self, linear: nn.Linear) -> None:
        clips, labels = drawn_samples(8)
        parts = [fisher_diagonal(linear, [(clips[half], labels[half])]) for half in (slice(0, 3), slice(3, 8))]
        merged = ImportanceSum(
            {name: parts[0].total[name] + parts[1].total[name] for name in parts[0].total},
            parts[0].n_samples + parts[1].n_samples,
        )
        whole = fisher_diagonal(linear, [(clips, labels)]).mean()
        torch.testing.assert_close(merged.mean()["weight"], whole["weight"])

    def test_frozen_parameters_have_no_importance(self, linear: nn.Linear) -> None:
        linear.bias.requires_grad_(False)
        assert fisher_diagonal(linear, [drawn_samples(2)]).mean().keys() == {"weight"}
        assert released_fisher(linear, [drawn_samples(2)]).keys() == {"weight"}

    def test_empty_batches(self, linear: nn.Linear) -> None:
        result = fisher_diagonal(linear, [drawn_samples(0), drawn_samples(3), drawn_samples(0)])
        assert result.n_samples == 3
        assert released_fisher(linear, [drawn_samples(0), drawn_samples(3)])["weight"].isfinite().all()
        with pytest.raises(ValueError, match="needs samples; the batches held none"):
            fisher_diagonal(linear, []).mean()


class TwoProcesses:
    """Task data of two processes; the second process's tensors are given."""

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
        clips, labels = drawn_samples(7)
        total = np.zeros((N_CLASSES, N_FEATURES + 1))
        for some, some_labels in batches(clips, labels, 3):
            rows = zip(some.double().numpy(), some_labels.tolist(), strict=True)
            total += np.mean([-log_likelihood_gradients(linear, clip)[label] for clip, label in rows], axis=0)
        assert_importance(released_fisher(linear, batches(clips, labels, 3)), total**2, 1e-4)

    def test_the_sensitivity_is_the_magnitude_of_a_sum(self, linear: nn.Linear) -> None:
        """The gradient of |W x + b| by W is (W x + b) x / |W x + b|."""
        clips, labels = drawn_samples(7)
        weight, bias = as_doubles(linear)
        total = np.zeros((N_CLASSES, N_FEATURES + 1))
        for some, _ in batches(clips, labels, 3):
            outputs = [(weight @ x + bias, x) for x in some.double().numpy()]
            total += np.mean([np.outer(o, [*x, 1]) / np.linalg.norm(o) for o, x in outputs], axis=0)
        assert_importance(released_sensitivity(linear, batches(clips, labels, 3)), np.abs(total), 1e-4)

    @pytest.mark.parametrize("released", [released_fisher, released_sensitivity])
    def test_two_processes_give_the_result_of_one(self, linear: nn.Linear, released: Any) -> None:
        clips, labels = drawn_samples(8)
        expected = released(linear, batches(clips, labels, 4))
        halves = [
            [(clips[half::2], labels[half::2]) for clips, labels in batches(clips, labels, 4)] for half in range(2)
        ]
        other_gradients = released_gradient(linear, halves[1], _mean_of(released))
        both = TwoProcesses([torch.ones(()), *other_gradients.values()])
        result = released(linear, halves[0], partial(whole_batch_gradients, data=cast(TaskData, both)))
        for name, value in expected.items():
            torch.testing.assert_close(result[name], value, rtol=1e-4, atol=1e-7)

    def test_samples_cancel(self) -> None:
        """Two samples pull a parameter in opposite directions: it matters, and its released importance is 0."""
        model = nn.Linear(1, 2)
        nn.init.zeros_(model.weight)
        nn.init.zeros_(model.bias)
        batch = (torch.ones(2, 1), torch.tensor([0, 1]))
        assert released_fisher(model, [batch])["weight"].tolist() == [[0], [0]]
        assert fisher_diagonal(model, [batch]).mean()["weight"].tolist() == [[0.25], [0.25]]

    def test_batch_statistics_are_gathered_and_no_gradient_is_left(self, deep: nn.Sequential) -> None:
        """As in the released code, whose pass is in training mode: momentum 0.1 of the mean of each batch."""
        samples = [drawn_samples(4, seed) for seed in (3, 4)]
        before = deep[1].running_mean.clone()
        released_fisher(deep.train(), samples)
        for clips, _ in samples:
            before = 0.9 * before + 0.1 * deep[0](clips).mean(0)
        torch.testing.assert_close(deep[1].running_mean, before)
        assert all(value.grad is None for value in deep.parameters())

    def test_dropout_is_on_where_the_model_trains(self, deep: nn.Sequential) -> None:
        def gradient(seed: int) -> Tensor:
            torch.manual_seed(seed)
            return released_gradient(deep, [drawn_samples(6)], nn.functional.cross_entropy)["4.weight"]

        deep.train()
        assert not torch.equal(gradient(0), gradient(1))
        deep.eval()
        assert torch.equal(gradient(0), gradient(1))
