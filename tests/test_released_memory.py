"""The memory of the benchmark's released code: its herding, and what it leaves of a budget unused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from video_choice_contract import Features, VideoChoiceContract, quickly

from vclimb.memory.choice.budget import MemoryBudget, shares
from vclimb.memory.choice.videos import VideoChoice, VideosByFeatures, herding, released_herding
from vclimb.methods.registry import METHODS, parse_method
from vclimb.protocol import RELEASED


def whole_matrix_ranking(features: Features) -> list[int]:
    """Rank in float64 as the released code writes it: in each step, the candidates' means are divided by the norm of
    their whole matrix, and the nearest k + 1 to the class mean of length 1 are gone through, nearest first.
    """
    phi = features.astype(np.float64)
    phi /= np.linalg.norm(phi, axis=1, keepdims=True)
    class_mean = phi.mean(axis=0)
    class_mean /= np.linalg.norm(class_mean)
    chosen: list[int] = []
    for k in range(len(phi)):
        means = (phi + phi[chosen].sum(axis=0)) / (k + 1)
        distances = np.sqrt(((class_mean - means / np.linalg.norm(means)) ** 2).sum(axis=1))
        chosen.append(next(n for n in np.argsort(distances)[: k + 1].tolist() if n not in chosen))
    return chosen


def clusters(n: int, dimensions: int, seed: int) -> Features:
    """Features of a class with three modes, all positive like those behind a ReLU."""
    rng = np.random.default_rng(seed)
    modes = rng.normal(size=(3, dimensions)) * 2
    return np.abs(modes[rng.integers(0, 3, n)] + rng.normal(size=(n, dimensions))).astype(np.float32)


class TestReleasedHerding(VideoChoiceContract):
    needs_features = True

    def make(self) -> VideoChoice:
        return VideosByFeatures(released_herding)

    @pytest.mark.parametrize(("n", "dimensions"), [(1, 1), (3, 5), (31, 64), (80, 32), (150, 16)])
    @pytest.mark.parametrize("seed", range(3))
    def test_each_step_is_the_one_of_the_released_code(self, n: int, dimensions: int, seed: int) -> None:
        features = clusters(n, dimensions, seed)
        assert released_herding(features).tolist() == whole_matrix_ranking(features)

    def test_recorded_choices(self) -> None:
        """Recorded from float32 arithmetic with `numpy.argpartition`, as in the released code."""
        rows, columns = np.indices((12, 5))
        features = ((rows**2 * 7 + rows * columns * 5 + columns**3 * 3 + 2) % 17 + 1).astype(np.float32)
        assert released_herding(features).tolist() == [2, 11, 9, 5, 8, 7, 6, 10, 4, 1, 0, 3]
        assert herding(features).tolist() == [2, 5, 11, 7, 9, 8, 10, 6, 4, 0, 3, 1]


@pytest.mark.parametrize("name", ["icarl", "bic"])
def test_a_method_with_herding_takes_the_rule_of_the_differences(name: str) -> None:
    kind, config = parse_method({"name": name})
    assert kind(config).video_choice == "herding"
    assert kind(config, RELEASED).video_choice == "released-herding"
    assert kind(config, RELEASED.replaced(herding="algorithm-4")).video_choice == "herding"
    assert METHODS.find("naive")(config, RELEASED).video_choice == "random"


def test_the_released_code_leaves_the_remainder_of_a_budget_unused() -> None:
    """105 videos, shared by 3 to 21 classes: measured in the released code's runs on J-HMDB-21."""
    held = [sum(shares(105, 3 * task, remainder="unused")) for task in range(1, 8)]
    assert held == [105, 102, 99, 96, 105, 90, 105]
    assert MemoryBudget("videos", 7).kept([[1] * 9] * 3, remainder="unused") == [2, 2, 2]
    assert MemoryBudget("videos", 7).kept([[1] * 9] * 3) == [3, 2, 2]


@quickly
@given(st.integers(0, 5000), st.integers(1, 40))
def test_released_shares_are_the_quotient(amount: int, n_classes: int) -> None:
    assert shares(amount, n_classes, remainder="unused") == [amount // n_classes] * n_classes
