"""What every choice of videos must hold."""

from __future__ import annotations

import abc

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vclimb.memory.choice.videos import Candidates, VideoChoice

# The contract's tests run for every strategy: an example that one of them failed is tried again with all.
quickly = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.differing_executors])
Features = npt.NDArray[np.float32]

numbers = st.floats(-100, 100, width=32) | st.integers(-2, 2).map(float)


@st.composite
def features_of(draw: st.DrawFn, n: int | None = None) -> Features:
    """(n, D) float32 with rows that are zero, alike, or multiples of one another."""
    n = draw(st.integers(0, 20)) if n is None else n
    rows = draw(arrays(np.float32, (n, draw(st.integers(1, 5))), elements=numbers))
    if n:
        copies = draw(st.lists(st.integers(0, n - 1), min_size=n, max_size=n))
        rows = rows[copies] if draw(st.booleans()) else rows
    return rows


@st.composite
def candidates(draw: st.DrawFn) -> Candidates:
    keys = draw(st.lists(st.text(max_size=4), unique=True, max_size=20))
    groups = draw(st.lists(st.none() | st.sampled_from("abcd"), min_size=len(keys), max_size=len(keys)) | st.none())
    return Candidates(keys, groups, draw(features_of(len(keys))))


def without_features(these: Candidates) -> Candidates:
    return Candidates(these.keys, these.groups)


class VideoChoiceContract(abc.ABC):
    """A strategy's tests inherit these."""

    needs_features = False

    @abc.abstractmethod
    def make(self) -> VideoChoice:
        """The strategy under test."""

    @quickly
    @given(these=candidates())
    def test_a_ranking_has_every_candidate_once_and_is_always_the_same(self, these: Candidates) -> None:
        ranking = self.make().rank(these)
        assert ranking.dtype == np.int64
        assert sorted(ranking.tolist()) == list(range(len(these)))
        np.testing.assert_array_equal(ranking, self.make().rank(these))

    @quickly
    @given(these=candidates())
    def test_features_are_looked_at_only_where_they_are_needed(self, these: Candidates) -> None:
        choice = self.make()
        assert choice.needs_features == self.needs_features
        if self.needs_features:
            with pytest.raises(ValueError, match="needs the features"):
                choice.rank(without_features(these))
        else:
            np.testing.assert_array_equal(choice.rank(these), choice.rank(without_features(these)))

    @quickly
    @given(these=candidates(), data=st.data())
    def test_what_is_left_of_a_ranking_is_a_prefix(self, these: Candidates, data: st.DataObject) -> None:
        """Quotas that shrink step by step leave what the last quota alone would: the order never depends on them."""
        ranking = self.make().rank(these).tolist()
        kept = ranking
        for quota in sorted(data.draw(st.lists(st.integers(0, len(these)), min_size=1, max_size=4)), reverse=True):
            kept = kept[:quota]
        assert kept == self.make().rank(these).tolist()[: len(kept)]

    @pytest.mark.parametrize("n", [0, 1, 2])
    def test_no_class_is_too_small(self, n: int) -> None:
        features = np.zeros((n, 3), np.float32)
        assert sorted(self.make().rank(Candidates(["a", "b"][:n], None, features))) == list(range(n))
