"""Bias correction: the newest classes' logits are scaled and shifted until they compare with the older classes'.

Source: BiC: Wu et al., "Large scale incremental learning", CVPR 2019: the hold-out, and equations 4 (the
correction) and 5 (its fit). In each task the network is trained first, without the hold-out. Then it is frozen, and the
scale and the offset are fitted on the hold-out's logits, which are computed only once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.clips.dice import bits, key_number
from vclimb.pipeline.errors import SettingsError, VclimbError

MAX_STEPS = 200
"""Limit of Newton steps; the fit takes about ten."""


@dataclass(frozen=True)
class BiasCorrection:
    """Correction q = scale * o + offset of each task's logits o; scale 1 and offset 0 correct nothing.

    Equation 4 corrects the newest classes alone: the network has learned from the corrected old model, so its logits of
    old classes need no correction. The benchmark's code keeps the scale and the offset of every task.

    Attributes:
        n_classes: Number of classes of each task so far.
        scales: Scale of each task, alpha.
        offsets: Offset of each task, beta.
    """

    n_classes: tuple[int, ...] = ()
    scales: tuple[float, ...] = ()
    offsets: tuple[float, ...] = ()

    @property
    def n_old(self) -> int:
        """Number of classes of all tasks but the newest."""
        return sum(self.n_classes[:-1])

    def next_task(self, n_new: int, keep: bool = False) -> BiasCorrection:
        """Add a task of `n_new` classes; earlier tasks stay corrected with `keep` alone, as in the benchmark's code."""
        tasks = len(self.n_classes)
        scales, offsets = (self.scales, self.offsets) if keep else ((1.0,) * tasks, (0.0,) * tasks)
        return BiasCorrection((*self.n_classes, n_new), (*scales, 1.0), (*offsets, 0.0))

    def newest(self, scale: float, offset: float) -> BiasCorrection:
        """Replace the newest task's scale and offset."""
        return replace(self, scales=(*self.scales[:-1], scale), offsets=(*self.offsets[:-1], offset))

    def __call__(self, logits: Tensor) -> Tensor:
        """Correct logits (B, C), where C is the number of classes so far; the result is float32."""
        if logits.ndim != 2 or logits.shape[1] != sum(self.n_classes):
            raise ValueError(f"logits {tuple(logits.shape)} don't fit; needs (B, {sum(self.n_classes)})")
        scales, offsets = (self._of_classes(values, logits.device) for values in (self.scales, self.offsets))
        return logits.float() * scales + offsets

    def _of_classes(self, values: tuple[float, ...], device: torch.device) -> Tensor:
        """Repeat the value of each task for its classes, by kernels alone: a copy from the CPU would make it wait."""
        parts = zip(self.n_classes, values, strict=True)
        return torch.cat([torch.full((n_classes,), value, device=device) for n_classes, value in parts])

    def fitted(self, logits: Tensor, labels: Tensor, decay: float = 1e-3) -> BiasCorrection:
        """Fit the newest task's scale and offset to the hold-out (equation 5), by Newton's method in float64.

        The cross-entropy is convex in both, so gradient descent would end at the same values. A small hold-out may be
        separable, so that the loss falls for ever as the scale grows: hence the decay.

        Args:
            logits: (n, C) uncorrected logits of the frozen network on the whole hold-out.
            labels: (n,) int64 label ids.
            decay: Factor d of the added term d / 2 * ((scale - 1)^2 + offset^2). The paper has no such term; its
                authors' code has d = 0.1 on the offset alone.

        Raises:
            VclimbError: logits hold NaN or infinity.
        """
        if not logits.isfinite().all():
            raise VclimbError(
                "logits hold NaN or infinity: the model has diverged; train it with a lower learning rate"
            )
        fixed = self.newest(1.0, 0.0)(logits.detach()).double()
        scale, offset = _newton(fixed, labels, self.n_old, decay)
        return self.newest(scale, offset)


Correct = Callable[[Tensor], Tensor]
"""Logits (B, C) -> corrected logits (B, C)."""


def released_step(
    correction: BiasCorrection, loss: Callable[[Correct], Tensor], learning_rate: float = 1e-3
) -> BiasCorrection:
    """Take a step of plain SGD on the newest task's scale and offset, as the benchmark's code does for each batch.

    The few steps of a hold-out's epochs end far from the minimum of equation 5.

    Args:
        loss: Loss of a batch, computed with the correction that is being fitted.
    """
    fixed = correction.newest(1.0, 0.0)
    newest = torch.tensor([correction.scales[-1], correction.offsets[-1]], requires_grad=True)
    with torch.enable_grad():
        value = loss(lambda logits: _shifted(fixed(logits.detach()), correction.n_old, newest))
        (gradient,) = torch.autograd.grad(value, newest)
    scale, offset = (newest.detach() - learning_rate * gradient).tolist()
    return correction.newest(scale, offset)


Split = tuple[Indices, Indices]
"""Numbers of the samples that train the network, and of those held out to fit the bias, each in ascending order."""


def hold_out(labels: Indices, keys: Sequence[str], n_old: int, fraction: float = 0.1, seed: int = 0) -> Split:
    """Hold out the same number of samples of each class, old or new (BiC: 1 in 10 of an old class's exemplars).

    At least one sample of each class is left for training. The choice depends on seed and key alone: of the exemplars
    that stay in the memory, the held-out ones stay held out.

    Args:
        labels: (n,) label ids of exemplars and new samples.
        keys: Unique keys of the n samples.
        n_old: Number of old classes, whose label ids are below it.
        fraction: Share of the exemplars of the smallest old class with two or more; rounded down, but at least one.
        seed: Seed of the choice.

    Raises:
        SettingsError: no old class has two exemplars.
    """
    counts = np.bincount(labels, minlength=n_old)
    splittable = counts[:n_old][counts[:n_old] > 1]
    if not len(splittable):
        raise SettingsError("BiC holds exemplars out, and no old class has two of them; take a larger memory")
    per_class = max(1, int(fraction * splittable.min()))
    numbers = np.array([key_number(key, "held out") for key in keys], np.uint64)
    draws = bits(seed, numbers.view(np.int64))
    order = np.lexsort((np.array(keys, np.str_), draws, labels))
    return _hold_out_places(labels, order, np.zeros_like(counts), np.clip(counts - 1, 0, per_class))


def released_hold_out(labels: Indices, fraction: float = 0.1) -> Split:
    """Split as the benchmark's code does: hold out the last samples of each class, a fraction of the class's number.

    The hold-out isn't balanced: new classes have more samples.
    """
    counts = np.bincount(labels)
    trained = (counts * (1 - fraction)).astype(np.int64)
    return _hold_out_places(labels, np.argsort(labels, kind="stable"), trained, counts)


def _hold_out_places(labels: Indices, order: Indices, first: Indices, end: Indices) -> Split:
    """Hold out, of each class, the samples from place `first` to `end` in an order by class."""
    counts = np.bincount(labels)
    place = np.arange(len(labels)) - np.concatenate([[0], np.cumsum(counts)[:-1]])[labels[order]]
    held_out = np.zeros(len(labels), np.bool_)
    held_out[order] = (first[labels[order]] <= place) & (place < end[labels[order]])
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _shifted(logits: Tensor, n_old: int, newest: Tensor) -> Tensor:
    """Apply scale and offset (2,) to the newest classes' logits, of all logits (B, C)."""
    return torch.cat([logits[:, :n_old], newest[0] * logits[:, n_old:] + newest[1]], dim=1)


def _newton(logits: Tensor, labels: Tensor, n_old: int, decay: float) -> tuple[float, float]:
    """Find the newest classes' scale and offset that minimise the mean cross-entropy plus the decay."""
    start = torch.tensor([1.0, 0.0], dtype=torch.float64, device=logits.device)
    # Derivatives of each logit by scale and by offset: (n, C, 2).
    slopes = torch.stack([logits, torch.ones_like(logits)], dim=2)
    slopes[:, :n_old] = 0
    true = slopes[torch.arange(len(labels), device=labels.device), labels]

    def loss_at(point: Tensor) -> Tensor:
        loss = nn.functional.cross_entropy(_shifted(logits, n_old, point), labels)
        return loss + decay / 2 * (point - start).square().sum()

    point = start
    for _ in range(MAX_STEPS):
        probabilities = _shifted(logits, n_old, point).softmax(1)
        expected = torch.einsum("nc,ncd->nd", probabilities, slopes)
        gradient = (expected - true).mean(0) + decay * (point - start)
        if gradient.abs().max() < 1e-9:
            return float(point[0]), float(point[1])
        spread = torch.einsum("nc,ncd,nce->de", probabilities, slopes, slopes) - expected.T @ expected
        curvature = spread / len(labels) + decay * torch.eye(2, dtype=torch.float64, device=logits.device)
        step = torch.linalg.solve(curvature, gradient)
        # Halve the step until the loss falls by a part of what its slope promises (Armijo), or rounding hides the fall.
        length, before, promised = 1.0, loss_at(point), gradient @ step
        while loss_at(point - length * step) > before - 1e-4 * length * promised + 1e-14 * (1 + before):
            length /= 2
        point = point - length * step
    raise VclimbError(
        f"the fit of the bias did not converge in {MAX_STEPS} steps; it reached scale {float(point[0]):.3g} and offset "
        f"{float(point[1]):.3g}; are the logits of a sensible size?"
    )
