"""Heads in closed form: equal to scikit-learn's and to a fit of all samples at once, whatever the order of classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge

from vclimb.methods.closed_form import Moments, RandomProjection, discriminant_head, nearest_mean_head, ridge_head
from vclimb.pipeline.errors import VclimbError

N_CLASSES, N_FEATURES = 5, 7


def samples(seed: int, n_samples: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Features around class means, with another spread in each direction; every class has some."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n_samples) % N_CLASSES
    means = torch.randn(N_CLASSES, N_FEATURES, generator=generator, dtype=torch.float64)
    spread = torch.rand(N_FEATURES, generator=generator, dtype=torch.float64) + 0.2
    noise = torch.randn(n_samples, N_FEATURES, generator=generator, dtype=torch.float64)
    return means[labels] + spread * noise + 3, labels


def moments(features: torch.Tensor, labels: torch.Tensor, n_classes: int = N_CLASSES) -> Moments:
    result = Moments(n_classes, features.shape[1])
    result.update(features, labels)
    return result


@given(st.integers(0, 2**20), st.sampled_from([0.01, 0.1, 0.5, 1.0]))
@settings(max_examples=20, deadline=None)
def test_discriminant_is_that_of_scikit_learn(seed: int, shrinkage: float) -> None:
    features, labels = samples(seed)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage, priors=[1 / N_CLASSES] * N_CLASSES)
    theirs.fit(features.numpy(), labels.numpy())
    ours = discriminant_head(moments(features, labels), shrinkage)
    expected = theirs.decision_function(features.numpy())  # holds the equal log priors too
    np.testing.assert_allclose(ours.scores(features).numpy() - np.log(N_CLASSES), expected, atol=1e-8)


@given(st.integers(0, 2**20), st.sampled_from([1e-3, 0.1, 10.0]))
@settings(max_examples=20, deadline=None)
def test_ridge_is_that_of_scikit_learn(seed: int, strength: float) -> None:
    features, labels = samples(seed)
    penalty = strength * float((features**2).sum()) / N_FEATURES
    theirs = Ridge(alpha=penalty, fit_intercept=False).fit(features.numpy(), np.eye(N_CLASSES)[labels.numpy()])
    ours = ridge_head(moments(features, labels), strength)
    np.testing.assert_allclose(ours.scores(features).numpy(), theirs.predict(features.numpy()), atol=1e-8)


@given(st.integers(0, 2**20), st.permutations(range(N_CLASSES)))
@settings(max_examples=20, deadline=None)
def test_task_by_task_equals_all_at_once_in_any_order(seed: int, order: list[int]) -> None:
    features, labels = samples(seed)
    place = torch.tensor([order.index(label) for label in range(N_CLASSES)])
    grown = Moments(0, N_FEATURES)
    for task in range(N_CLASSES):
        grown.grow(task + 1)
        shown = labels == order[task]
        grown.update(features[shown], place[labels[shown]])
    at_once = moments(features, labels)
    for fit in (lambda sums: discriminant_head(sums, 0.1), lambda sums: ridge_head(sums, 0.01)):
        by_task = fit(grown).scores(features)
        np.testing.assert_allclose(by_task[:, place].numpy(), fit(at_once).scores(features).numpy(), atol=1e-9)


@given(st.integers(0, 2**20))
@settings(max_examples=10, deadline=None)
def test_nearest_mean_is_that_of_the_smallest_angle(seed: int) -> None:
    features, labels = samples(seed)
    means = torch.stack([features[labels == label].mean(0) for label in range(N_CLASSES)])
    cosines = torch.nn.functional.cosine_similarity(features[:, None], means[None], dim=2)
    sums = Moments(N_CLASSES, N_FEATURES, with_products=False)
    sums.update(features, labels)
    scores = nearest_mean_head(sums).scores(features)
    np.testing.assert_allclose((scores / features.norm(dim=1, keepdim=True)).numpy(), cosines.numpy(), atol=1e-12)


@pytest.mark.parametrize("with_products", [False, True])
def test_packed_sums_come_back_rounded_to_float32(with_products: bool) -> None:
    features, labels = samples(5)
    whole = Moments(N_CLASSES, N_FEATURES, with_products)
    whole.update(features, labels)
    arrays = whole.packed()
    assert {array.dtype for array in arrays.values()} == {torch.float32}
    restored = Moments.unpacked(arrays)
    assert torch.equal(restored.counts, whole.counts)
    torch.testing.assert_close(restored.sums, whole.sums, rtol=1e-6, atol=0)
    assert all(torch.equal(again, arrays[name]) for name, again in restored.packed().items())
    if with_products:
        assert len(arrays["gram"]) == N_FEATURES * (N_FEATURES + 1) // 2
        torch.testing.assert_close(restored.products, whole.products, rtol=1e-6, atol=0)
    else:
        assert restored.products is None


def test_a_class_without_samples_is_never_predicted() -> None:
    features, labels = samples(0)
    for head in (discriminant_head(moments(features, labels, 8), 0.1), ridge_head(moments(features, labels, 8), 0.1)):
        assert head.scores(features).argmax(1).max() < N_CLASSES


def test_one_sample_of_a_class_leaves_the_distance_to_the_means() -> None:
    features, labels = samples(3, n_samples=N_CLASSES)
    head = discriminant_head(moments(features, labels), 0.01)
    others, _ = samples(4)
    assert (head.scores(others).argmax(1) == torch.cdist(others, features).argmin(1)).all()


def test_samples_that_no_head_fits_are_refused() -> None:
    with pytest.raises(VclimbError, match="no class has samples"):
        ridge_head(Moments(3, 4), 0.1)
    with pytest.raises(VclimbError, match="hold NaN or infinity"):
        discriminant_head(moments(torch.full((2, 4), torch.nan), torch.tensor([0, 1]), 2), 0.1)
    with pytest.raises(VclimbError, match="take a higher regularisation"):
        ridge_head(moments(torch.zeros(2, 4), torch.tensor([0, 1]), 2), 0.1)


def test_projection_follows_from_its_seed() -> None:
    features, _ = samples(1)
    projected = RandomProjection(N_FEATURES, 16, seed=3)(features)
    assert projected.shape == (len(features), 16)
    assert (projected >= 0).all()
    assert (projected == RandomProjection(N_FEATURES, 16, seed=3)(features)).all()
    assert (projected != RandomProjection(N_FEATURES, 16, seed=4)(features)).any()
