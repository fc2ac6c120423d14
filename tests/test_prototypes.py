"""The nearest-mean-of-exemplars classifier, against a slow transcription of iCaRL's algorithm 1."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from method_cases import Doubles, quickly, seeds
from torch import Tensor

from vclimb.methods.prototypes import ClassMeans, NearestMean
from vclimb.pipeline.errors import VclimbError


def drawn(seed: int, n_samples: int = 30, n_classes: int = 4, n_features: int = 6) -> tuple[Tensor, Tensor]:
    """Draw features (n, D) and labels (n,) with samples of every class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n_samples) % n_classes
    centres = torch.randn(n_classes, n_features, generator=generator)
    return centres[labels] + torch.randn(n_samples, n_features, generator=generator), labels


def fit(features: Tensor, labels: Tensor, n_classes: int = 4) -> NearestMean:
    means = ClassMeans(n_classes, features.shape[1])
    means.update(features, labels)
    return means.classifier()


def slow_distances(exemplars: Tensor, labels: Tensor, features: Tensor) -> Doubles:
    """(n, C) squared distances of features of length 1 to the means of length 1 of exemplars of length 1."""

    def unit(row: Doubles) -> Doubles:
        return row / math.sqrt(sum(value * value for value in row))

    distances = np.empty((len(features), int(labels.max()) + 1))
    for label in range(distances.shape[1]):
        units = [unit(row) for row, y in zip(exemplars.double().numpy(), labels.tolist(), strict=True) if y == label]
        mean = unit(np.sum(units, axis=0) / len(units))
        for number, row in enumerate(features.double().numpy()):
            distances[number, label] = sum((a - b) ** 2 for a, b in zip(unit(row), mean, strict=True))
    return distances


@quickly
@given(seeds)
def test_as_algorithm_1(seed: int) -> None:
    exemplars, labels = drawn(seed)
    features, _ = drawn(seed + 1)
    classifier = fit(exemplars, labels)
    distances = slow_distances(exemplars, labels, features)
    np.testing.assert_allclose(-classifier.scores(features).numpy(), distances, atol=2e-6)
    chosen = classifier.scores(features).argmax(1).numpy()
    assert (distances[np.arange(len(chosen)), chosen] <= distances.min(axis=1) + 1e-5).all()


def test_by_hand() -> None:
    """Lengths are ignored: the mean of (9, 0) and (0, 1) has the direction of (1, 1)."""
    exemplars = torch.tensor([[9.0, 0.0], [0.0, 1.0], [0.0, -5.0]])
    classifier = fit(exemplars, torch.tensor([0, 0, 1]), 2)
    half = math.sqrt(1 / 2)
    assert classifier.means.tolist() == [pytest.approx([half, half]), pytest.approx([0, -1])]
    scores = classifier.scores(torch.tensor([[3.0, 0.0]]))
    assert scores.tolist() == [pytest.approx([-(2 - 2 * half), -2.0])]
    assert classifier.scores(torch.tensor([[3.0, 0.0], [1.0, -9.0]])).argmax(1).tolist() == [0, 1]


@quickly
@given(seeds, st.lists(st.integers(-20, 20), min_size=30, max_size=30))
def test_the_length_of_features_does_not_matter(seed: int, exponents: list[int]) -> None:
    """Lengths are powers of two, which cause no rounding."""
    exemplars, labels = drawn(seed)
    features, _ = drawn(seed + 1)
    lengths = torch.tensor([2.0**exponent for exponent in exponents])[:, None]
    scaled = fit(exemplars * lengths, labels)
    assert torch.equal(scaled.means, fit(exemplars, labels).means)
    assert torch.equal(scaled.scores(features * lengths), scaled.scores(features))


@quickly
@given(seeds, st.integers(1, 30))
def test_the_split_into_batches_and_processes_does_not_matter(seed: int, size: int) -> None:
    exemplars, labels = drawn(seed)
    parts = [ClassMeans(4, 6), ClassMeans(4, 6)]
    for number, start in enumerate(range(0, 30, size)):
        parts[number % 2].update(exemplars[start : start + size], labels[start : start + size])
    parts[0].sums += parts[1].sums
    parts[0].counts += parts[1].counts
    whole = fit(exemplars, labels)
    torch.testing.assert_close(parts[0].classifier().means, whole.means, atol=1e-7, rtol=0)


def test_a_class_without_exemplars_is_never_predicted() -> None:
    classifier = fit(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 2]), 4)
    assert classifier.present.tolist() == [True, False, True, False]
    scores = classifier.scores(torch.tensor([[-1.0, -1.0]]))
    assert scores.isinf().tolist() == [[False, True, False, True]]
    assert set(classifier.scores(drawn(0, n_features=2)[0]).argmax(1).tolist()) <= {0, 2}


def test_features_come_from_autocast_and_with_gradients() -> None:
    """Distances are taken in float32: in bfloat16 these two classes could not be told apart."""
    exemplars = torch.tensor([[1.0, 0.0], [1.0, 0.001]], requires_grad=True)
    classifier = fit(exemplars, torch.tensor([0, 1]), 2)
    assert not classifier.means.requires_grad
    with torch.autocast("cpu", torch.bfloat16):
        scores = classifier.scores(exemplars)
        assert scores.dtype == torch.float32
        assert classifier.scores(exemplars).argmax(1).tolist() == [0, 1]
    assert fit(drawn(1)[0].bfloat16(), drawn(1)[1]).means.dtype == torch.float32


def test_an_empty_batch_and_features_of_zeros() -> None:
    means = ClassMeans(2, 3)
    means.update(torch.empty(0, 3), torch.empty(0, dtype=torch.int64))
    means.update(torch.tensor([[0.0, 0.0, 0.0], [0.0, 2.0, 0.0]]), torch.tensor([0, 1]))
    classifier = means.classifier()
    assert classifier.means.tolist() == [[0, 0, 0], [0, 1, 0]]
    assert classifier.scores(torch.empty(0, 3)).shape == (0, 2)
    assert classifier.scores(torch.zeros(1, 3)).argmax(1).tolist() == [0]


def test_no_exemplars_and_features_that_are_no_numbers_are_refused() -> None:
    means = ClassMeans(2, 3)
    with pytest.raises(VclimbError, match="no class has exemplars"):
        means.classifier()
    means.update(torch.tensor([[1.0, 0.0, 0.0], [math.nan, 0.0, 0.0]]), torch.tensor([0, 1]))
    with pytest.raises(VclimbError, match="features of 1 classes hold NaN or infinity, label id 1 is the first"):
        means.classifier()
