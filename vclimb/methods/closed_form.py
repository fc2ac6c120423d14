"""Heads in closed form over the features of a fixed network: class means, linear discriminants and ridge regression.

All follow from sums over the samples. So a head that is fitted task by task equals one that is fitted to all samples at
once, whatever the order of the classes. They are computed in float64.

Sources: class means, SimpleCIL, Zhou et al., IJCV 2024; streaming linear discriminant analysis (SLDA), Hayes and Kanan,
CVPR Workshops 2020, section 3; ridge regression on random projections, RanPAC, McDonnell et al., NeurIPS 2023, section
3.2, and ACIL, Zhuang et al., NeurIPS 2022.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vclimb.pipeline.errors import VclimbError


class Moments:
    """Sums over samples that heads are fitted from. To combine processes, add their sums up.

    Attributes:
        counts: (C,) float64 numbers of samples of each class.
        sums: (C, D) float64 sums of the features of each class.
        products: (D, D) float64 Gram matrix, the sum of the outer products of all features; None without one.
    """

    def __init__(self, n_classes: int, n_features: int, with_products: bool = True) -> None:
        self.counts = torch.zeros(n_classes, dtype=torch.float64)
        self.sums = torch.zeros(n_classes, n_features, dtype=torch.float64)
        self.products = torch.zeros(n_features, n_features, dtype=torch.float64) if with_products else None

    def update(self, features: Tensor, labels: Tensor) -> None:
        """Add a batch, which may be empty: features (B, D), and label ids (B,) below C."""
        features, labels = features.detach().to(self.sums), labels.to(torch.int64)
        self.counts.index_add_(0, labels, torch.ones_like(labels, dtype=torch.float64))
        self.sums.index_add_(0, labels, features)
        if self.products is not None:
            self.products.addmm_(features.T, features)

    def grow(self, n_classes: int) -> None:
        """Make room for more classes."""
        n_more = n_classes - len(self.counts)
        self.counts = nn.functional.pad(self.counts, (0, n_more))
        self.sums = nn.functional.pad(self.sums, (0, 0, 0, n_more))

    def means(self) -> Tensor:
        """Compute the class means, (C, D) float64; zeros for a class without samples."""
        return self.sums / self.counts.clamp(min=1)[:, None]

    def check(self) -> None:
        """Refuse moments of no samples, or of features that are not finite.

        Raises:
            VclimbError: no head can be fitted to them.
        """
        if not self.counts.any():
            raise VclimbError("no class has samples; a head in closed form needs some")
        if not self.sums.isfinite().all() or (self.products is not None and not self.products.isfinite().all()):
            raise VclimbError("features hold NaN or infinity; no head in closed form can be fitted to them")

    def packed(self) -> dict[str, Tensor]:
        """Pack the sums as float32: `counts`, `class_sums`, and `gram`, the upper triangle of the Gram matrix."""
        arrays = {"counts": self.counts.float(), "class_sums": self.sums.float()}
        if self.products is not None:
            arrays["gram"] = torch.cat([row[number:].float() for number, row in enumerate(self.products)])
        return arrays

    @classmethod
    def unpacked(cls, arrays: Mapping[str, Tensor]) -> Moments:
        """Restore the sums from `packed` arrays, rounded to float32."""
        n_classes, n_features = arrays["class_sums"].shape
        moments = cls(n_classes, n_features, with_products=False)
        moments.counts, moments.sums = arrays["counts"].double(), arrays["class_sums"].double()
        if "gram" in arrays:
            moments.products = torch.empty(n_features, n_features, dtype=torch.float64)
            for number, row in enumerate(torch.split(arrays["gram"].double(), list(range(n_features, 0, -1)))):
                moments.products[number, number:] = moments.products[number:, number] = row
        return moments


@dataclass(frozen=True, eq=False)
class LinearHead:
    """Linear scores of the classes.

    Attributes:
        weight: (C, D) float64.
        bias: (C,) float64; -inf for a class without samples, which is never predicted.
    """

    weight: Tensor
    bias: Tensor

    def scores(self, features: Tensor) -> Tensor:
        """Compute scores (B, C) float64 of features (B, D)."""
        return features.to(self.weight) @ self.weight.T + self.bias


def nearest_mean_head(moments: Moments) -> LinearHead:
    """Make the classifier by the class mean of the smallest angle: phi mu_c / |mu_c|."""
    moments.check()
    return LinearHead(nn.functional.normalize(moments.sums, dim=1), _only_present(moments))


def discriminant_head(moments: Moments, shrinkage: float) -> LinearHead:
    """Fit a linear discriminant with equal priors: phi S^-1 mu_c - mu_c S^-1 mu_c / 2.

    S is the mean covariance within classes, (1 - shrinkage) Sigma + shrinkage tr(Sigma) / D I.

    Args:
        shrinkage: From above 0, so that S can be inverted, to 1, which leaves distances to the means alone.
    """
    moments.check()
    assert moments.products is not None
    means = moments.means()
    within = (moments.products - (means.T * moments.counts) @ means) / moments.counts.sum()
    size = len(within)
    level = within.trace() / size
    if not level > 0:  # one sample a class: all that is left is the distance to the means
        level = torch.ones_like(level)
        within = torch.zeros_like(within)
        shrinkage = 1.0
    covariance = (1 - shrinkage) * within + shrinkage * level * torch.eye(size).to(within)
    weight = _solve(covariance, means.T).T
    return LinearHead(weight, _only_present(moments) - (weight * means).sum(1) / 2)


def ridge_head(moments: Moments, strength: float) -> LinearHead:
    """Fit a ridge regression from features to one-hot labels: (G + lambda I)^-1 Q, without a bias.

    G is the Gram matrix, and Q the sums of the features of each class.

    Args:
        strength: Lambda as a share of the mean of G's diagonal, above 0. A share means the same for any number of
            samples and any scale of the features.
    """
    moments.check()
    assert moments.products is not None
    size = len(moments.products)
    level = strength * moments.products.trace() / size
    weight = _solve(moments.products + level * torch.eye(size).to(moments.products), moments.sums.T).T
    return LinearHead(weight, _only_present(moments))


class RandomProjection:
    """Random features: the positive parts of D -> M random directions, max(0, phi W), with W from N(0, 1).

    W follows from the seed, so that it needs no memory.
    """

    def __init__(self, n_features: int, n_projected: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.directions = torch.randn(n_features, n_projected, generator=generator, dtype=torch.float64)

    def __call__(self, features: Tensor) -> Tensor:
        """Project features (B, D) to (B, M) float64."""
        return (features.to(self.directions) @ self.directions).relu()


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    """Solve a symmetric positive definite system."""
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if failed:
        raise VclimbError(
            "a head in closed form can't be fitted: the matrix of its features is singular; take a higher "
            "regularisation"
        )
    return torch.cholesky_solve(right, factor)


def _only_present(moments: Moments) -> Tensor:
    """Bias 0, or -inf for classes without samples."""
    return torch.zeros_like(moments.counts).masked_fill(moments.counts == 0, -torch.inf)
