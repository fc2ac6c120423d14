"""Bias correction: the newest classes' logits are scaled and shifted until they compare with the older ones'.

Source: BiC: Wu et al., "Large scale incremental learning", CVPR 2019: the hold-out, and equations 4 (the
correction) and 5 (its fit). In each task the network is trained first, without the hold-out; then it is frozen and
the two numbers are fitted on the hold-out's logits, which need computing only once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from vclimb.memory.choice.frames import key_number
from vclimb.methods.consistency import cross_entropy, temporal_consistency
from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.clips.dice import bits
from vclimb.pipeline.errors import SettingsError, VclimbError

MAX_STEPS = 200
"""Newton's steps; the fit takes about ten."""


@dataclass(frozen=True)
class BiasCorrection:
    """q = scale * o + offset, of each task's logits o: (1, 0) for a task that isn't corrected.

    Equation 4 corrects the newest classes alone: at each task the network has learned from the corrected old model,
    so its own old logits need nothing. The benchmark's code keeps each task's two numbers for good.

    Attributes:
        n_classes: of each task so far.
        scales: alpha of each task.
        offsets: beta of each task.
    """

    n_classes: tuple[int, ...] = ()
    scales: tuple[float, ...] = ()
    offsets: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.n_classes) == len(self.scales) == len(self.offsets):
            raise ValueError(
                f"{len(self.n_classes)} tasks don't fit {len(self.scales)} scales and {len(self.offsets)} offsets"
            )
        if min(self.n_classes, default=1) < 1:
            raise ValueError(f"tasks of {list(self.n_classes)} classes; needs 1 or more in each")

    @property
    def n_old(self) -> int:
        """Classes of all tasks but the newest."""
        return sum(self.n_classes[:-1])

    def next_task(self, n_new: int, keep: bool = False) -> BiasCorrection:
        """At the start of a task of `n_new` classes: none is corrected; `keep`: those before stay as they are.

        `keep` is what the benchmark's code does.
        """
        tasks = len(self.n_classes)
        scales, offsets = (self.scales, self.offsets) if keep else ((1.0,) * tasks, (0.0,) * tasks)
        return BiasCorrection((*self.n_classes, n_new), (*scales, 1.0), (*offsets, 0.0))

    def newest(self, scale: float, offset: float) -> BiasCorrection:
        """With other numbers for the newest task."""
        return replace(self, scales=(*self.scales[:-1], scale), offsets=(*self.offsets[:-1], offset))

    def __call__(self, logits: Tensor) -> Tensor:
        """(B, C) float32 corrected logits from (B, C), where C is the number of classes so far."""
        if logits.ndim != 2 or logits.shape[1] != sum(self.n_classes):
            raise ValueError(f"logits {tuple(logits.shape)} don't fit; needs (B, {sum(self.n_classes)})")
        scales = np.repeat(np.array(self.scales, np.float32), self.n_classes)
        offsets = np.repeat(np.array(self.offsets, np.float32), self.n_classes)
        return logits.float() * torch.from_numpy(scales).to(logits.device) + torch.from_numpy(offsets).to(logits.device)

    def fitted(self, logits: Tensor, labels: Tensor, decay: float = 1e-3) -> BiasCorrection:
        """The newest task's numbers that minimise the cross-entropy on the hold-out (equation 5), by Newton's method.

        The loss is convex in the two, so this is what descent would end at; float64, the same on every process. A
        small hold-out may be separable, where a scale without end would be best: hence the decay.

        Args:
            logits: (n, C) of the frozen network on the whole hold-out, not corrected.
            labels: (n,) int64.
            decay: d in the added d / 2 * ((scale - 1)^2 + offset^2). (The paper has none; its authors' code has 0.1
                on the offset alone.)

        Raises:
            SettingsError: the decay is not above 0.
            VclimbError: logits hold NaN or infinity.
        """
        if labels.shape != logits.shape[:1] or not len(labels):
            raise ValueError(
                f"labels {tuple(labels.shape)} don't fit logits {tuple(logits.shape)}; needs (n, C), n > 0"
            )
        if not decay > 0:
            raise SettingsError(f"decay {decay} of the bias is out of range; allowed: above 0")
        if not logits.isfinite().all():
            raise VclimbError(
                "logits hold NaN or infinity: the model has diverged; train it with a lower learning rate"
            )
        fixed = self.newest(1.0, 0.0)(logits.detach()).double()
        scale, offset = _newton(fixed, labels, self.n_old, decay)
        return self.newest(scale, offset)


def released_fit(
    correction: BiasCorrection,
    batches: Iterable[tuple[Tensor, Tensor | None, Tensor]],
    consistency: float = 0.0,
    learning_rate: float = 1e-3,
) -> BiasCorrection:
    """The newest task's numbers as the benchmark's code fits them: a step of plain SGD for each batch.

    That is far from the minimum of equation 5 after the few steps that a hold-out's epochs have.

    Args:
        correction: of the tasks before, and the newest's where to start, (1, 0).
        batches: of all epochs: logits (B, C) of the frozen network, those of the down-sampled clips or None, labels
            (B,) int64.
        consistency: weight of temporal consistency.
        learning_rate: of SGD; no momentum, no weight decay.
    """
    fixed = correction.newest(1.0, 0.0)
    for logits, down_sampled, labels in batches:
        newest = torch.tensor([correction.scales[-1], correction.offsets[-1]], device=logits.device, requires_grad=True)
        with torch.enable_grad():
            views = [
                _shifted(fixed(view.detach()), correction.n_old, newest)
                for view in (logits, down_sampled)
                if view is not None
            ]
            if len(views) == 2:
                loss = temporal_consistency(views[0], views[1], labels, consistency)
            else:
                loss = cross_entropy(views[0], labels)
            (gradient,) = torch.autograd.grad(loss, newest)
        scale, offset = (newest.detach() - learning_rate * gradient).tolist()
        correction = correction.newest(scale, offset)
    return correction


@dataclass(frozen=True)
class HoldOut:
    """A task's samples, split: the two are disjoint and together all of them, each in rising order.

    Attributes:
        training: for the network.
        held_out: for the bias.
        per_class: samples held out of each class, or fewer of `short` ones.
        short: label ids of classes that have fewer held out, so that one sample is left to train on.
    """

    training: Indices
    held_out: Indices
    per_class: int
    short: tuple[int, ...] = ()


def hold_out(labels: Indices, keys: Sequence[str], n_old: int, fraction: float = 0.1, seed: int = 0) -> HoldOut:
    """Hold out as many samples of each class, old or new (BiC: 1 in 10 of the exemplars of an old class).

    Which ones depends on seed and key alone: of the exemplars that stay, those that were held out stay held out.

    Args:
        labels: (n,) label ids of exemplars and new samples.
        keys: (n,) of them, each once.
        n_old: label ids below it are old.
        fraction: of the exemplars of the old class that has the fewest (but more than one), rounded down; 1 at least.

    Raises:
        SettingsError: the fraction is out of range, or no old class has two exemplars.
    """
    if len(keys) != len(labels):
        raise ValueError(f"{len(keys)} keys don't fit {len(labels)} labels")
    if not 0 < fraction < 1:
        raise SettingsError(f"hold-out fraction {fraction} is out of range; allowed: between 0 and 1")
    counts = np.bincount(labels, minlength=n_old)
    splittable = counts[:n_old][counts[:n_old] > 1]
    if not len(splittable):
        raise SettingsError("BiC holds exemplars out, and no old class has two of them; take a larger memory")
    per_class = max(1, int(fraction * splittable.min()))
    numbers = np.array([key_number(key, "held out") for key in keys], np.uint64)
    draws = bits(seed, numbers.view(np.int64))
    order = np.lexsort((np.array(keys, np.str_), draws, labels))
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    rank = np.arange(len(labels)) - starts[labels[order]]  # within the class, by draw
    allowed = np.clip(counts - 1, 0, per_class)
    is_out = np.zeros(len(labels), np.bool_)
    is_out[order] = rank < allowed[labels[order]]
    short = np.flatnonzero((allowed < per_class) & ((counts > 0) | (np.arange(len(counts)) < n_old)))
    return HoldOut(np.flatnonzero(~is_out), np.flatnonzero(is_out), per_class, tuple(short.tolist()))


def released_hold_out(labels: Indices, fraction: float = 0.1) -> HoldOut:
    """As the benchmark's code splits: the last samples of each class as they come, `fraction` of its own number.

    New classes, which have more samples, are most of it: it isn't balanced. `per_class` is that of the smallest class.
    """
    if not 0 < fraction < 1:
        raise SettingsError(f"hold-out fraction {fraction} is out of range; allowed: between 0 and 1")
    if not len(labels):
        raise ValueError("there are no samples to split")
    counts = np.bincount(labels)
    trained = (counts * (1 - fraction)).astype(np.int64)
    order = np.argsort(labels, kind="stable")
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    is_out = np.zeros(len(labels), np.bool_)
    is_out[order] = np.arange(len(labels)) - starts[labels[order]] >= trained[labels[order]]
    return HoldOut(np.flatnonzero(~is_out), np.flatnonzero(is_out), int((counts - trained)[counts > 0].min()))


def _shifted(logits: Tensor, n_old: int, newest: Tensor) -> Tensor:
    """Logits (B, C) with scale and offset (2,) applied to the newest classes'."""
    return torch.cat([logits[:, :n_old], newest[0] * logits[:, n_old:] + newest[1]], dim=1)


def _newton(logits: Tensor, labels: Tensor, n_old: int, decay: float) -> tuple[float, float]:
    """Scale and offset of the newest classes that minimise the mean cross-entropy plus the decay."""
    start = torch.tensor([1.0, 0.0], dtype=torch.float64, device=logits.device)
    # What each logit gains by scale and by offset: (n, C, 2).
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
        # Halved until the loss falls by a part of what the slope promises (Armijo), or by what rounding hides.
        length, before, promised = 1.0, loss_at(point), gradient @ step
        while loss_at(point - length * step) > before - 1e-4 * length * promised + 1e-14 * (1 + before):
            length /= 2
        point = point - length * step
    raise VclimbError(
        f"the bias' fit has not ended after {MAX_STEPS} steps, at scale {float(point[0]):.3g} and offset "
        f"{float(point[1]):.3g}; are the logits of a sensible size?"
    )
