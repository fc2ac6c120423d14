"""Which frames an exemplar keeps: the contract for each strategy, and what only some of them have."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from frame_choice_contract import FrameChoiceContract, Video, noise, quickly
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vclimb.memory.choice.frames import (
    FRAME_CHOICES,
    FRAMES_IN_PIECE,
    DiverseFrames,
    FirstFrames,
    FrameChoice,
    FrameCount,
    MiddleFrame,
    RandomFrames,
    UniformFrames,
    farthest_points,
    parse_frame_choice,
    parse_frame_count,
    thumbnails,
)
from vclimb.pipeline.arrays import Indices, Pixels
from vclimb.pipeline.clips.dice import key_number
from vclimb.pipeline.errors import SettingsError


def must_not_be_read(numbers: Indices) -> Pixels:
    raise AssertionError(f"frames {numbers} were decoded")


class TestUniform(FrameChoiceContract):
    def make(self, count: FrameCount) -> FrameChoice:
        return UniformFrames(count)

    @quickly
    @given(n_frames=st.integers(1, 100_000), count=st.integers(1, 64))
    def test_frames_are_those_of_the_published_formula(self, n_frames: int, count: int) -> None:
        tick = Fraction(n_frames, count)
        published = [int(tick / 2 + tick * x) for x in range(count)]
        frames = UniformFrames(count).choose(n_frames, "key", must_not_be_read).tolist()
        assert frames == (published if n_frames > count else list(range(n_frames)))


class TestRandom(FrameChoiceContract):
    def make(self, count: FrameCount) -> FrameChoice:
        return RandomFrames(count, seed=3)

    def test_keys_and_seeds_draw_independently_and_evenly(self) -> None:
        """4,000 draws of 5 of 50 frames: each frame 400 times, give or take 5 deviations of 19."""
        draws = [RandomFrames(5, seed).choose(50, f"k{n}", must_not_be_read) for seed in (0, 1) for n in range(2000)]
        seen = np.bincount(np.concatenate(draws), minlength=50)
        assert np.abs(seen - 400).max() < 5 * 19
        assert len({tuple(draw) for draw in draws}) > 3980  # 2.1 million choices: 4 repetitions are expected

    @quickly
    @given(n_frames=st.integers(1, 60), few=st.integers(1, 60), more=st.integers(0, 20))
    def test_a_smaller_count_keeps_frames_of_the_larger(self, n_frames: int, few: int, more: int) -> None:
        kept, all_kept = (self.make(k).choose(n_frames, "key", must_not_be_read) for k in (few, few + more))
        assert set(kept.tolist()) <= set(all_kept.tolist())

    def test_the_draws_are_the_same_on_every_machine(self) -> None:
        """Frozen: a change here would change every memory that was ever made at random."""
        assert key_number("a/b", "exemplar frames") == 9816810924158869057
        assert RandomFrames(8, seed=7).choose(100, "a/b", must_not_be_read).tolist() == [10, 25, 45, 49, 55, 69, 74, 77]


class TestFirst(FrameChoiceContract):
    def make(self, count: FrameCount) -> FrameChoice:
        return FirstFrames(count)

    def test_frames_are_the_first(self) -> None:
        assert FirstFrames(3).choose(10, "key", must_not_be_read).tolist() == [0, 1, 2]


class TestMiddle(FrameChoiceContract):
    all_of_few = False

    def make(self, count: FrameCount) -> FrameChoice:
        return MiddleFrame(count)

    def expected_count(self, n_frames: int, count: FrameCount) -> int:
        return 1

    @pytest.mark.parametrize(("n_frames", "middle"), [(1, 0), (2, 1), (3, 1), (4, 2), (101, 50)])
    @pytest.mark.parametrize("count", [1, 16, "all"])
    def test_the_frame_is_the_middle_one(self, n_frames: int, middle: int, count: FrameCount) -> None:
        frames = MiddleFrame(count).choose(n_frames, "key", must_not_be_read)
        assert frames.tolist() == [middle] == UniformFrames(1).choose(n_frames, "key", must_not_be_read).tolist()


class TestDiverse(FrameChoiceContract):
    looks_at_pixels = True

    def make(self, count: FrameCount) -> FrameChoice:
        return DiverseFrames(count)

    def test_a_frame_of_each_scene_is_kept(self) -> None:
        """Five still scenes of very different lengths, the least of them one frame: every scene is seen."""
        levels = [0, 60, 120, 180, 240]
        lengths = [100, 1, 30, 2, 7]
        scenes = np.repeat(np.arange(5), lengths)
        frames = np.full((len(scenes), 8, 8, 3), 0, np.uint8) + np.array(levels, np.uint8)[scenes][:, None, None, None]
        kept = DiverseFrames(5).choose(len(scenes), "key", Video(frames))
        assert scenes[kept].tolist() == [0, 1, 2, 3, 4]
        assert set(scenes[UniformFrames(5).choose(len(scenes), "key", must_not_be_read)]) == {0, 2}

    def test_a_still_video_is_covered_evenly(self) -> None:
        still = Video(np.full((65, 4, 4, 3), 77, np.uint8))
        assert DiverseFrames(5).choose(65, "key", still).tolist() == [0, 16, 32, 48, 64]
        assert DiverseFrames(1).choose(65, "key", still).tolist() == [32]

    def test_a_long_video_is_read_in_small_pieces_and_once(self) -> None:
        video = noise(1000, height=4, width=4)
        assert len(DiverseFrames(8).choose(1000, "key", video)) == 8
        assert video.most_at_once == FRAMES_IN_PIECE
        assert video.decoded == 1000

    @quickly
    @given(pictures=arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 4))), data=st.data())
    def test_each_frame_is_the_farthest_from_those_before(self, pictures: Pixels, data: st.DataObject) -> None:
        """Against a slow search in exact numbers: the farthest, then the farthest in time, then the first."""
        count = data.draw(st.integers(1, len(pictures)))
        rows = pictures.tolist()
        expected = [len(rows) // 2]
        while len(expected) < count:
            left = [n for n in range(len(rows)) if n not in expected]
            expected.append(max(left, key=lambda n: (*distance_from(rows, expected, n), -n)))
        assert farthest_points(pictures, count).tolist() == expected

    @quickly
    @given(pictures=arrays(np.uint8, st.tuples(st.integers(1, 8), st.just(2))), data=st.data())
    def test_no_choice_leaves_frames_less_than_half_as_far(self, pictures: Pixels, data: st.DataObject) -> None:
        """Gonzalez's bound: at most twice the best radius. Squared, since differences are squares: four times."""
        count = data.draw(st.integers(1, len(pictures)))
        rows = pictures.tolist()

        def radius(chosen: list[int]) -> int:
            return max(distance_from(rows, chosen, n)[0] for n in range(len(rows)))

        best = min(radius(list(chosen)) for chosen in itertools.combinations(range(len(rows)), count))
        assert radius(farthest_points(pictures, count).tolist()) <= 4 * best

    @pytest.mark.parametrize(
        "wrong",
        [np.zeros((3, 4, 4, 3), np.uint8), np.zeros((4, 4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8)],
        ids=["count", "dtype", "grey"],
    )
    def test_pixels_that_are_not_what_was_asked_for_are_refused(self, wrong: Pixels) -> None:
        with pytest.raises(ValueError, match="4 frames were asked for, not"):
            DiverseFrames(2).choose(4, "key", lambda numbers: wrong)


def distance_from(rows: list[list[int]], chosen: list[int], n: int) -> tuple[int, int]:
    """Of frame n from those chosen: the least squared difference, and the least distance in time."""
    return (
        min(sum((a - b) ** 2 for a, b in zip(rows[n], rows[c], strict=True)) for c in chosen),
        min(abs(n - c) for c in chosen),
    )


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 40), (16, 16), (17, 33), (240, 320)])
def test_thumbnails_are_the_mean_grey_of_equal_blocks(height: int, width: int) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (3, height, width, 3), np.uint8)
    grey = frames @ np.array([0.299, 0.587, 0.114])
    rows, columns = min(height, 16), min(width, 16)
    tops = [row * height // rows for row in range(rows + 1)]
    lefts = [column * width // columns for column in range(columns + 1)]
    blocks = [
        [grey[:, t:b, left:r].mean(axis=(1, 2)) for left, r in itertools.pairwise(lefts)]
        for t, b in itertools.pairwise(tops)
    ]
    expected = np.moveaxis(np.array(blocks), -1, 0).reshape(3, -1)
    small = thumbnails(frames)
    assert small.shape == expected.shape
    assert small.dtype == np.uint8
    difference = expected - small  # rounded down
    assert difference.min() > -1e-6
    assert difference.max() < 1 + 1e-6


def test_thumbnails_do_not_overflow() -> None:
    for height, width in ((2160, 3840), (6000, 16), (16, 70_000)):
        assert thumbnails(np.full((1, height, width, 3), 255, np.uint8)).tolist() == [[255] * 256]


def test_strategies_are_found_by_name() -> None:
    found = {name: parse_frame_choice(name, 4, 9) for name in FRAME_CHOICES}
    assert found == {
        "uniform": UniformFrames(4),
        "random": RandomFrames(4, 9),
        "first": FirstFrames(4),
        "middle": MiddleFrame(4),
        "diverse": DiverseFrames(4),
    }
    with pytest.raises(SettingsError) as caught:
        parse_frame_choice("keyframes", 4)
    assert str(caught.value) == (
        "frame choice 'keyframes' is not known; allowed: uniform, random, first, middle, diverse"
    )


@pytest.mark.parametrize(("text", "count"), [("8", 8), (" 16 ", 16), ("all", "all"), ("ALL", "all")])
def test_counts_are_read(text: str, count: FrameCount) -> None:
    assert parse_frame_count(text) == count


@pytest.mark.parametrize("text", ["", "0", "-1", "4.5", "many", "٣", "²", "1e3", "9" * 30])
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_frame_count(text)
    assert str(caught.value) == f"frames per video {text!r} is not understood; write 1 or more, e.g. 8, or all"


def test_purposes_and_keys_have_numbers_of_their_own() -> None:
    keys = [f"class/{n}" for n in range(1000)] + ["", "é", "\udcff"]
    numbers = {key_number(key, purpose) for key in keys for purpose in ("exemplar frames", "exemplar videos")}
    assert len(numbers) == 2 * len(keys)
