"""Which videos of a class are kept: the contract for each strategy, and what only some of them have."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from video_choice_contract import VideoChoiceContract, candidates, features_of, quickly

from vclimb.memory.choice.videos import (
    TIE,
    VIDEO_CHOICES,
    Candidates,
    RandomVideos,
    SpreadVideos,
    VideoChoice,
    VideosByFeatures,
    herding,
    normalised,
    parse_video_choice,
    released_herding,
)
from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.errors import SettingsError, VclimbError

Features = npt.NDArray[np.floating]


class TestRandom(VideoChoiceContract):
    def make(self) -> VideoChoice:
        return RandomVideos(3)

    @quickly
    @given(these=candidates(), data=st.data())
    def test_a_key_has_its_place_whatever_comes_with_it(self, these: Candidates, data: st.DataObject) -> None:
        some = data.draw(st.lists(st.sampled_from(these.keys), unique=True)) if these.keys else []
        ranked, ranked_some = ([k[n] for n in self.make().rank(Candidates(k))] for k in (these.keys, some))
        assert ranked_some == [key for key in ranked if key in some]

    def test_every_key_comes_first_about_as_often(self) -> None:
        """4,000 rankings of 8: each first 500 times, give or take 5 deviations of 21."""
        keys = [f"class/{n}" for n in range(8)]
        first = Counter(int(RandomVideos(seed).rank(Candidates(keys))[0]) for seed in range(4000))
        assert max(abs(first[n] - 500) for n in range(8)) < 5 * 21

    def test_the_ranking_is_the_same_on_every_machine(self) -> None:
        """Frozen: a change here would change every memory that was ever made at random."""
        assert RandomVideos(5).rank(Candidates([f"k{n}" for n in range(8)])).tolist() == [0, 5, 1, 2, 6, 7, 3, 4]


class TestSpread(VideoChoiceContract):
    def make(self) -> VideoChoice:
        return SpreadVideos(3)

    @quickly
    @given(these=candidates())
    def test_no_group_comes_again_while_another_has_videos_that_came_less_often(self, these: Candidates) -> None:
        groups = [own or f"alone {n}" for n, own in enumerate(these.groups or [None] * len(these))]
        sizes, seen = Counter(groups), Counter[str]()
        for candidate in self.make().rank(these).tolist():
            group = groups[candidate]
            assert all(seen[other] >= min(seen[group], sizes[other]) for other in sizes)
            seen[group] += 1
        n_groups = len(sizes)
        assert len({groups[n] for n in self.make().rank(these).tolist()[:n_groups]}) == n_groups

    @quickly
    @given(these=candidates())
    def test_without_groups_it_is_chance(self, these: Candidates) -> None:
        alone = Candidates(these.keys)
        assert SpreadVideos(8).rank(alone).tolist() == RandomVideos(8).rank(alone).tolist()

    def test_the_ranking_is_the_same_on_every_machine(self) -> None:
        groups = ["a", "a", "b", "b", "b", None, None, "c"]
        assert SpreadVideos(5).rank(Candidates([f"k{n}" for n in range(8)], groups)).tolist() == [
            0,
            5,
            2,
            6,
            7,
            1,
            3,
            4,
        ]


class TestHerding(VideoChoiceContract):
    needs_features = True

    def make(self) -> VideoChoice:
        return VideosByFeatures(herding)

    @quickly
    @given(features=features_of())
    @example(np.zeros((3, 2), np.float32))
    def test_each_step_is_the_one_of_algorithm_4(self, features: Features) -> None:
        """With ties, rounding chooses: each step must be within `TIE` of the least distance, and the first of those."""
        ranking = herding(features).tolist()
        for k in range(1, len(ranking) + 1):
            distances = algorithm_4_distances(features, ranking[: k - 1])
            least, chosen = min(distances.values()), distances[ranking[k - 1]]
            assert chosen <= least + 2 * TIE
            assert all(d > least + TIE / 2 for n, d in distances.items() if n < ranking[k - 1])

    @pytest.mark.parametrize(("n", "dimensions"), [(1, 1), (3, 5), (40, 3), (60, 16), (150, 64)])
    @pytest.mark.parametrize("seed", [0, 1])
    def test_rankings_without_ties_are_those_of_algorithm_4(self, n: int, dimensions: int, seed: int) -> None:
        features = clusters(n, dimensions, seed)
        expected: list[int] = []
        for _ in range(n):
            distances = algorithm_4_distances(features, expected)
            expected.append(min(distances, key=distances.__getitem__))
        assert herding(features).tolist() == expected

    def test_a_worked_example(self) -> None:
        """Mean (1, 1) / 2 of two directions: the diagonal first, then the two beside it, which sum to it, last it."""
        features = np.array([[3, 0], [0, 7], [1, 1]], np.float32)
        assert herding(features).tolist() == [2, 0, 1]
        # the mean is nearer to (1, 0), and the second makes good what the first lacks
        features = np.array([[0, 5], [1, 0], [1, 0], [1, 0.1]], np.float32)
        assert herding(features).tolist()[:2] == [3, 1]

    def test_it_approximates_the_class_mean_better_than_random(self) -> None:
        """200 classes of clustered features: at every k of 1 to 30, the mean of herding's prefix lies nearer."""
        of_herding, of_random = np.zeros((200, 30)), np.zeros((200, 30))
        for seed in range(200):
            features = clusters(100, 16, seed)
            keys = [f"{seed}/{n}" for n in range(100)]
            of_herding[seed] = prefix_distances(features, herding(features))[:30]
            of_random[seed] = prefix_distances(features, RandomVideos(seed).rank(Candidates(keys)))[:30]
        better = of_random - of_herding
        # The mean difference is at least 5 of its standard errors above nothing, for every k.
        assert (better.mean(axis=0) > 5 * better.std(axis=0) / np.sqrt(200)).all()
        # Herding's error falls as 1 / k, chance's as 1 / sqrt(k).
        assert of_herding[:, 29].mean() < of_random[:, 29].mean() / 3
        assert (of_herding[:, 29] < of_random[:, 29]).all()

    def test_it_approximates_the_class_mean_better_than_the_released_code(self) -> None:
        features = [clusters(100, 16, seed) for seed in range(50)]
        ours = np.array([prefix_distances(f, herding(f))[9] for f in features])
        released = np.array([prefix_distances(f, released_herding(f))[9] for f in features])
        assert (ours < released).all()

    def test_ties_go_to_the_first_even_where_rounding_differs(self) -> None:
        """The same rows over and over: their products with a vector may round differently, by place in the matrix."""
        rows = np.random.default_rng(0).normal(size=(7, 33)).astype(np.float32)
        ranking = herding(np.tile(rows, (9, 1)))
        copies = [[n for n in ranking.tolist() if n % 7 == row] for row in range(7)]
        assert copies == [list(range(row, 63, 7)) for row in range(7)]


def algorithm_4_distances(features: Features, chosen: list[int]) -> dict[int, float]:
    """Step k of the paper's Algorithm 4, as it is written: for each x not chosen, |mu - (phi(x) + sum phi(p_j)) / k|.

    Squared and times k^2, as `TIE` is meant.
    """
    phi = []
    for row in features.astype(np.float64):
        length = np.sqrt((row**2).sum())
        phi.append(row / length if length > 0 else row)
    mu = sum(phi) / len(phi)
    k = len(chosen) + 1
    distances = {}
    for n in range(len(phi)):
        if n not in chosen:
            mean = (phi[n] + sum(phi[j] for j in chosen)) / k
            distances[n] = float(k**2 * ((mu - mean) ** 2).sum())
    return distances


def clusters(n: int, dimensions: int, seed: int) -> Features:
    """Features of a class with three modes, all positive like those behind a ReLU."""
    rng = np.random.default_rng(seed)
    modes = rng.normal(size=(3, dimensions)) * 2
    return np.abs(modes[rng.integers(0, 3, n)] + rng.normal(size=(n, dimensions))).astype(np.float32)


def prefix_distances(features: Features, ranking: Indices) -> npt.NDArray[np.float64]:
    """Distance of the mean of the first k from the class mean, for every k from 1."""
    phi = normalised(features)
    means = np.cumsum(phi[ranking], axis=0) / np.arange(1, len(phi) + 1)[:, None]
    return np.asarray(np.linalg.norm(means - phi.mean(axis=0), axis=1))


# What is given


@quickly
@given(features=features_of())
def test_features_of_any_length_are_made_length_1(features: Features) -> None:
    rows = normalised(features)
    zero = ~features.any(axis=1)
    assert rows.dtype == np.float64
    assert not rows[zero].any()
    np.testing.assert_allclose((rows**2).sum(axis=1), np.where(zero, 0, 1), atol=1e-12)


def test_very_large_and_very_small_features_are_made_length_1() -> None:
    features = np.array([[3e300, 4e300], [3e-300, 4e-300], [5e-324, 0]])
    np.testing.assert_allclose(normalised(features), [[0.6, 0.8], [0.6, 0.8], [1.0, 0.0]])
    half = np.array([[30000, 40000]], np.float16)
    np.testing.assert_allclose(normalised(half), [[0.6, 0.8]], rtol=1e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_features_that_are_no_numbers_are_refused(bad: float) -> None:
    features = np.ones((4, 3), np.float32)
    features[2, 1] = features[3, 0] = bad
    with pytest.raises(VclimbError) as caught:
        Candidates(["a", "b", "c", "d"], None, features)
    assert str(caught.value) == (
        "features of 2 of 4 videos hold NaN or infinity, the first of them 'c'; allowed: finite numbers. The model "
        "that made them has probably diverged: train it with a lower learning rate, or choose videos by a rule "
        "that needs no features: random, spread"
    )


def test_candidates_must_fit_together() -> None:
    with pytest.raises(ValueError, match="two candidates have one key"):
        Candidates(["a", "a"])
    with pytest.raises(ValueError, match="1 groups don't fit 2 candidates"):
        Candidates(["a", "b"], ["g"])
    for shape in ((3, 4), (2,)):
        with pytest.raises(ValueError, match="don't fit 2 candidates"):
            Candidates(["a", "b"], None, np.zeros(shape, np.float32))


def test_strategies_are_found_by_name() -> None:
    assert {name: parse_video_choice(name, 9) for name in VIDEO_CHOICES} == {
        "random": RandomVideos(9),
        "herding": VideosByFeatures(herding),
        "released-herding": VideosByFeatures(released_herding),
        "spread": SpreadVideos(9),
    }
    with pytest.raises(SettingsError) as caught:
        parse_video_choice("best")
    assert str(caught.value) == "video choice 'best' is not known; allowed: random, herding, released-herding, spread"
