"""A linear head with softmax, fitted to features of a fixed network until it no longer changes.

The loss is convex and smooth, so that the head depends on the features alone, not on their order or on a seed, up to
the rounding of float64.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vclimb.methods.closed_form import LinearHead
from vclimb.pipeline.errors import VclimbError


def softmax_head(features: Tensor, labels: Tensor, n_classes: int, weight_decay: float, steps: int) -> LinearHead:
    """Fit a linear head by softmax cross-entropy in which all classes count the same, however many samples they have.

    The loss is the mean over classes of the mean cross-entropy of a class' samples, + weight_decay / 2 |W|^2 without
    the bias. W acts on features that are centred, and divided by the root of their mean squared distance from the
    centre, where classes count the same too: shifted or scaled features give the same predictions.

    Args:
        features: (N, D) features of any scale.
        labels: (N,) label ids below `n_classes`.
        steps: Limit of the iterations of L-BFGS.

    Raises:
        VclimbError: there are no samples, or features are not finite.
    """
    if not len(features):
        raise VclimbError("no class has samples; a linear head needs some")
    if not features.isfinite().all():
        raise VclimbError("features hold NaN or infinity; no linear head can be fitted to them")
    features = features.detach().cpu().double()
    counts = torch.bincount(labels, minlength=n_classes)
    present = counts > 0
    sample_weights = 1 / (counts[labels] * present.sum()).double()
    centre = sample_weights @ features
    scale = (sample_weights @ (features - centre).square().sum(1)).sqrt()
    scale = torch.where(scale > 0, scale, 1.0)
    inputs = (features - centre) / scale
    targets = (present.cumsum(0) - 1)[labels]  # numbers among the classes with samples

    weight = torch.zeros(int(present.sum()), features.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(len(weight), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weight, bias],
        max_iter=steps,
        max_eval=2 * steps,
        tolerance_grad=1e-9,
        tolerance_change=1e-14,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        entropies = nn.functional.cross_entropy(inputs @ weight.T + bias, targets, reduction="none")
        total = sample_weights @ entropies + weight_decay / 2 * weight.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    with torch.enable_grad():
        optimiser.step(loss)  # type: ignore[no-untyped-call]

    fitted = torch.zeros(n_classes, features.shape[1], dtype=torch.float64)
    biases = torch.full((n_classes,), -torch.inf, dtype=torch.float64)
    fitted[present] = weight.detach() / scale
    biases[present] = bias.detach() - fitted[present] @ centre
    return LinearHead(fitted, biases)
