"""What every choice of frames must hold."""

from __future__ import annotations

import abc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vclimb.memory.choice.frames import FrameChoice, FrameCount
from vclimb.pipeline.arrays import Indices, Pixels
from vclimb.pipeline.errors import SettingsError

# The contract's tests run for every strategy: an example that one of them failed is tried again with all.
quickly = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.differing_executors])


class Video:
    """A made-up video in memory, which notes how many frames were asked for at once and in all."""

    def __init__(self, frames: Pixels) -> None:
        self.frames = frames
        self.most_at_once = 0
        self.decoded = 0

    def __call__(self, numbers: Indices) -> Pixels:
        assert numbers.dtype == np.int64
        assert (np.diff(numbers) > 0).all()
        self.most_at_once = max(self.most_at_once, len(numbers))
        self.decoded += len(numbers)
        return self.frames[numbers]


def noise(n_frames: int, seed: int = 0, height: int = 6, width: int = 9) -> Video:
    return Video(np.random.default_rng(seed).integers(0, 256, (n_frames, height, width, 3), np.uint8))


class FrameChoiceContract(abc.ABC):
    """A strategy's tests inherit these."""

    looks_at_pixels = False
    all_of_few = True
    """An instance of no more than K frames gives all of them; else its middle one."""

    @abc.abstractmethod
    def make(self, count: FrameCount) -> FrameChoice:
        """The strategy under test, with K frames."""

    def expected_count(self, n_frames: int, count: FrameCount) -> int:
        return n_frames if count == "all" else min(n_frames, count)

    @quickly
    @given(n_frames=st.integers(1, 80), count=st.integers(1, 90) | st.just("all"), key=st.text(max_size=5))
    def test_frames_rise_are_of_the_instance_and_as_many_as_said(
        self, n_frames: int, count: FrameCount, key: str
    ) -> None:
        choice, video = self.make(count), noise(n_frames)
        frames = choice.choose(n_frames, key, video)
        assert frames.dtype == np.int64
        assert frames.shape == (self.expected_count(n_frames, count),) == (choice.n_chosen(n_frames),)
        assert (np.diff(frames) > 0).all()
        assert frames[0] >= 0
        assert frames[-1] < n_frames
        assert video.decoded == 0 or self.looks_at_pixels

    @quickly
    @given(n_frames=st.integers(1, 80), count=st.integers(1, 90) | st.just("all"), key=st.text(max_size=5))
    def test_the_same_input_gives_the_same_frames(self, n_frames: int, count: FrameCount, key: str) -> None:
        first, second = (self.make(count).choose(n_frames, key, noise(n_frames)) for _ in range(2))
        np.testing.assert_array_equal(first, second)

    @pytest.mark.parametrize("count", [5, 6, "all"])
    def test_few_frames_are_all_kept_without_decoding_any(self, count: FrameCount) -> None:
        video = noise(5)
        frames = self.make(count).choose(5, "key", video).tolist()
        assert frames == ([0, 1, 2, 3, 4] if self.all_of_few else [2])
        assert video.decoded == 0

    def test_counts_and_instances_that_make_no_sense_are_refused(self) -> None:
        for count in (0, -3):
            with pytest.raises(SettingsError, match=f"frames per video {count} is out of range; allowed: 1 or more"):
                self.make(count)
        with pytest.raises(ValueError, match="an instance of 0 frames"):
            self.make(4).choose(0, "key", noise(0))
