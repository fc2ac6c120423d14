"""Bias correction: the formula, the fit against finite differences, and the balance of the hold-out."""

from __future__ import annotations

import math
from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from method_cases import quickly, seeds
from torch import Tensor

from vclimb.methods.bias import BiasCorrection, Correct, hold_out, released_hold_out, released_step
from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.errors import SettingsError, VclimbError

TWO_TASKS = BiasCorrection().next_task(3).next_task(2)


def drawn(seed: int, n_samples: int = 60) -> tuple[Tensor, Tensor]:
    """Draw logits (n, 5) that favour the two newest classes, and labels (n,) that correlate with the logits."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n_samples) % 5
    logits = torch.randn(n_samples, 5, generator=generator)
    logits[torch.arange(n_samples), labels] += 1.0
    logits[:, 3:] = 1.5 * logits[:, 3:] + 2.0
    return logits, labels


def slow_loss(logits: Tensor, labels: Tensor, scale: float, offset: float, decay: float, n_old: int = 3) -> float:
    """Compute equation 5 with equation 4, sample by sample, plus the decay."""
    total = 0.0
    for row, label in zip(logits.double().tolist(), labels.tolist(), strict=True):
        q = [o if k < n_old else scale * o + offset for k, o in enumerate(row)]
        total -= math.log(math.exp(q[label]) / sum(math.exp(value) for value in q))
    return total / len(labels) + decay / 2 * ((scale - 1) ** 2 + offset**2)


def slopes(logits: Tensor, labels: Tensor, scale: float, offset: float, decay: float) -> tuple[float, float]:
    """Differentiate the loss by scale and offset, by finite differences."""
    step = 1e-5

    def loss(scale: float, offset: float) -> float:
        return slow_loss(logits, labels, scale, offset, decay)

    by_scale = (loss(scale + step, offset) - loss(scale - step, offset)) / (2 * step)
    return by_scale, (loss(scale, offset + step) - loss(scale, offset - step)) / (2 * step)


class TestCorrection:
    def test_by_hand(self) -> None:
        logits = torch.tensor([[1.0, 2.0, 3.0, 4.0, -5.0]])
        corrected = TWO_TASKS.newest(0.5, -1.0)(logits)
        assert corrected.tolist() == [[1, 2, 3, 1, -3.5]]
        assert logits.tolist() == [[1, 2, 3, 4, -5]]
        assert torch.equal(TWO_TASKS(logits), logits)

    def test_the_next_task_corrects_nothing_or_keeps_earlier_corrections(self) -> None:
        """The first as in the paper, the second as in the benchmark's code."""
        fitted = TWO_TASKS.newest(0.5, -1.0)
        logits = torch.arange(1.0, 7.0)[None]
        assert torch.equal(fitted.next_task(1)(logits), logits)
        assert fitted.next_task(1, keep=True)(logits).tolist() == [[1, 2, 3, 1, 1.5, 6]]
        third = fitted.next_task(1, keep=True).newest(2.0, 0.25)
        assert third(logits).tolist() == [[1, 2, 3, 1, 1.5, 12.25]]
        assert third.n_old == 5

    def test_corrected_logits_are_float32_and_pass_gradients(self) -> None:
        logits = torch.ones(1, 5, dtype=torch.bfloat16, requires_grad=True)
        corrected = TWO_TASKS.newest(0.5, 3.0)(logits)
        assert corrected.dtype == torch.float32
        (gradient,) = torch.autograd.grad(corrected.sum(), logits)
        assert gradient.tolist() == [[1, 1, 1, 0.5, 0.5]]

    def test_what_does_not_fit_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"logits \(1, 4\) don't fit; needs \(B, 5\)"):
            TWO_TASKS(torch.zeros(1, 4))


class TestFit:
    @quickly
    @given(seeds, st.sampled_from([1e-6, 1e-3, 0.1]))
    def test_the_gradient_is_zero(self, seed: int, decay: float) -> None:
        """The loss is convex, so this is its minimum."""
        logits, labels = drawn(seed)
        fitted = TWO_TASKS.fitted(logits, labels, decay)
        by_scale, by_offset = slopes(logits, labels, fitted.scales[-1], fitted.offsets[-1], decay)
        assert max(abs(by_scale), abs(by_offset)) < 1e-6
        assert (fitted.scales[0], fitted.offsets[0]) == (1, 0)

    @quickly
    @given(seeds, st.floats(0.3, 3), st.floats(-5, 5))
    def test_a_distortion_of_the_new_logits_is_undone(self, seed: int, scale: float, offset: float) -> None:
        logits, labels = drawn(seed)
        distorted = logits.clone()
        distorted[:, 3:] = scale * logits[:, 3:] + offset
        straight = TWO_TASKS.fitted(logits, labels, 1e-9)(logits)
        again = TWO_TASKS.fitted(distorted, labels, 1e-9)(distorted)
        torch.testing.assert_close(again, straight, atol=1e-4, rtol=1e-4)

    def test_new_classes_are_no_longer_favoured(self) -> None:
        logits, labels = drawn(0, 200)
        before = (logits.argmax(1) >= 3).float().mean().item()
        corrected = TWO_TASKS.fitted(logits, labels)(logits)
        after = (corrected.argmax(1) >= 3).float().mean().item()
        assert before > 0.7
        assert after == pytest.approx(2 / 5, abs=0.15)

    def test_a_separable_hold_out_has_a_bounded_fit(self) -> None:
        """Without the decay, the loss would fall for ever as the scale grows."""
        logits = torch.tensor([[0.0, -2.0], [0.0, 2.0]])
        fitted = BiasCorrection().next_task(1).next_task(1).fitted(logits, torch.tensor([0, 1]))
        assert 1 < fitted.scales[-1] < 10
        assert fitted.offsets[-1] == pytest.approx(0, abs=1e-6)

    def test_large_logits(self) -> None:
        logits, labels = drawn(1)
        fitted = TWO_TASKS.fitted(1e3 * logits, labels)
        assert fitted(1e3 * logits).isfinite().all()
        assert 0 < fitted.scales[-1] < 2

    def test_earlier_tasks_stay_corrected_during_the_fit(self) -> None:
        """In the benchmark's code, earlier corrections are part of the frozen network."""
        logits, labels = drawn(2)
        kept = BiasCorrection().next_task(3).newest(0.5, 1.0).next_task(2, keep=True)
        fitted = kept.fitted(logits, labels, 1e-3)
        seen = kept(logits)
        by_scale, by_offset = slopes(seen, labels, fitted.scales[-1], fitted.offsets[-1], 1e-3)
        assert max(abs(by_scale), abs(by_offset)) < 1e-6
        assert (fitted.scales[0], fitted.offsets[0]) == (0.5, 1.0)

    def test_inputs_that_can_not_be_fitted_are_refused(self) -> None:
        logits, labels = drawn(3)
        with pytest.raises(VclimbError, match="logits hold NaN or infinity"):
            TWO_TASKS.fitted(logits * math.nan, labels)


class TestReleasedStep:
    def test_steps_of_descent(self) -> None:
        logits, labels = drawn(4)
        scale, offset, fitted = 1.0, 0.0, TWO_TASKS
        for start in (0, 20, 40, 0, 20, 40):
            some, some_labels = logits[start : start + 20], labels[start : start + 20]
            by_scale, by_offset = slopes(some, some_labels, scale, offset, 0)
            scale, offset = scale - 0.05 * by_scale, offset - 0.05 * by_offset
            loss = partial(loss_of_batch, some, some_labels)
            fitted = released_step(fitted, loss, learning_rate=0.05)
        assert (fitted.scales, fitted.offsets) == (
            (1.0, pytest.approx(scale, abs=1e-5)),
            (0.0, pytest.approx(offset, abs=1e-5)),
        )

    def test_many_steps_end_where_newton_does(self) -> None:
        logits, labels = drawn(7)
        fitted = TWO_TASKS
        for _ in range(1000):
            fitted = released_step(fitted, partial(loss_of_batch, logits, labels), learning_rate=1.0)
        best = TWO_TASKS.fitted(logits, labels, 1e-9)
        assert (fitted.scales[-1], fitted.offsets[-1]) == pytest.approx((best.scales[-1], best.offsets[-1]), abs=1e-3)


def loss_of_batch(logits: Tensor, labels: Tensor, correct: Correct) -> Tensor:
    return torch.nn.functional.cross_entropy(correct(logits), labels)


@st.composite
def tasks(draw: st.DrawFn) -> tuple[Indices, list[str], int]:
    """Draw labels, keys and the number of old classes, of which at least one has two samples."""
    n_old = draw(st.integers(1, 4))
    old = draw(st.lists(st.integers(0, 30), min_size=n_old, max_size=n_old))
    old[draw(st.integers(0, n_old - 1))] = draw(st.integers(2, 30))
    counts = [*old, *draw(st.lists(st.integers(1, 60), min_size=1, max_size=3))]
    labels = draw(st.permutations([label for label, count in enumerate(counts) for _ in range(count)]))
    return np.array(labels, np.int64), [f"video {n}" for n in range(len(labels))], n_old


class TestHoldOut:
    @quickly
    @given(tasks(), st.floats(0.05, 0.5), st.integers(0, 9))
    def test_the_hold_out_is_balanced_and_no_sample_is_lost(
        self, task: tuple[Indices, list[str], int], fraction: float, seed: int
    ) -> None:
        labels, keys, n_old = task
        training, held_out = hold_out(labels, keys, n_old, fraction, seed)
        assert sorted([*training, *held_out]) == list(range(len(labels)))
        total, out = Counter(labels.tolist()), Counter(labels[held_out].tolist())
        smallest = min(total[label] for label in range(n_old) if total[label] > 1)
        per_class = max(1, math.floor(fraction * smallest))
        for label in range(max(n_old, int(labels.max()) + 1)):
            assert out[label] == min(per_class, max(total[label] - 1, 0))

    def test_one_in_ten_of_the_exemplars(self) -> None:
        """20 exemplars of each of two old classes, 100 samples of a new one."""
        labels = np.repeat([0, 1, 2], [20, 20, 100])
        _, held_out = hold_out(labels, [str(n) for n in range(140)], 2)
        assert Counter(labels[held_out].tolist()) == {0: 2, 1: 2, 2: 2}

    def test_the_choice_depends_on_neither_order_nor_other_samples(self) -> None:
        labels = np.repeat([0, 1, 2], [20, 30, 50])
        keys = [f"{label}/{n}" for n, label in enumerate(labels)]
        out = {keys[n] for n in hold_out(labels, keys, 2, seed=1)[1]}
        order = np.random.default_rng(0).permutation(100)
        shuffled = [keys[n] for n in order]
        assert {shuffled[n] for n in hold_out(labels[order], shuffled, 2, seed=1)[1]} == out
        without_last = slice(0, 80)  # of the new class, in which nothing else changes
        fewer = {keys[n] for n in hold_out(labels[without_last], keys[without_last], 2, seed=1)[1]}
        assert {key for key in fewer if not key.startswith("2/")} == {key for key in out if not key.startswith("2/")}
        assert {keys[n] for n in hold_out(labels, keys, 2, seed=2)[1]} != out

    def test_exemplars_in_the_memory_stay_held_out(self) -> None:
        """A class's quota shrinks from 40 to 20: its held-out exemplars were held out before."""
        keys = [f"a/{n}" for n in range(40)] + [f"b/{n}" for n in range(40)]
        _, before = hold_out(np.repeat([0, 1], 40), keys, 1)
        held = {keys[n] for n in before if keys[n].startswith("a/")}
        others = [key for key in keys[:40] if key not in held]
        kept = sorted(held) + others[:16] + keys[40:]
        kept_labels = np.array([key.startswith("b/") for key in kept], np.int64)
        after = {kept[n] for n in hold_out(kept_labels, kept, 1)[1] if kept[n].startswith("a/")}
        assert len(held) == 4
        assert len(after) == 2
        assert after < held

    def test_a_memory_too_small_is_refused(self) -> None:
        labels = np.array([0, 1, 2, 2, 2])
        with pytest.raises(SettingsError, match="no old class has two of them; take a larger memory"):
            hold_out(labels, list("abcde"), 2)

    @quickly
    @given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.floats(0.05, 0.5))
    def test_the_released_split(self, labels: list[int], fraction: float) -> None:
        """The first part of each class's samples trains the network."""
        training = []
        for label in set(labels):
            samples = [number for number, y in enumerate(labels) if y == label]
            training += samples[: int(len(samples) * (1 - fraction))]
        trained, held_out = released_hold_out(np.array(labels, np.int64), fraction)
        assert trained.tolist() == sorted(training)
        assert held_out.tolist() == sorted(set(range(len(labels))) - set(training))
