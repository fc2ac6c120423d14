"""Sampling of frames and order of items: properties for every length, and frozen numbers."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.clips.dice import Purpose, below, bits, uniform
from vclimb.pipeline.clips.sampling import (
    View,
    dense_window,
    epoch_order,
    first_uses,
    grouped_order,
    random_in_segments,
    rank_share,
    segment_centres,
)
from vclimb.pipeline.errors import SettingsError

quickly = settings(deadline=None, max_examples=80)
lengths = st.integers(1, 40) | st.integers(1, 100_000)
counts = st.integers(1, 40)
strides = st.integers(1, 12)
seeds = st.integers(0, 2**64 - 1)
epochs = st.integers(0, 1000)
item_numbers = st.integers(0, 2**40)
JUST_BELOW_1 = 1 - 2.0**-53
draws_below_1 = st.floats(0, JUST_BELOW_1) | st.just(JUST_BELOW_1) | st.just(0.0)


def draws_of(count: int) -> st.SearchStrategy[list[float]]:
    return st.lists(draws_below_1, min_size=count, max_size=count)


views = st.builds(
    View,
    n_frames=st.integers(1, 20),
    sampling=st.sampled_from(["segments", "dense"]),
    random=st.booleans(),
    stride=strides,
    seen_frames=st.none() | st.integers(1, 20),
)


def published_centres(n_frames: int, count: int) -> list[int]:
    """The benchmark's formula in exact numbers: int(tick / 2 + tick * x), tick = n / K."""
    tick = Fraction(n_frames, count)
    return [int(tick / 2 + tick * x) for x in range(count)]


# Frames of an instance


@quickly
@given(lengths, counts)
def test_centres_are_those_of_the_published_formula(n_frames: int, count: int) -> None:
    assert segment_centres(np.array(n_frames), count).tolist() == published_centres(n_frames, count)


@quickly
@given(lengths, counts)
def test_there_is_a_centre_in_every_segment(n_frames: int, count: int) -> None:
    centres = segment_centres(np.array(n_frames), count)
    assert_in_segments(centres, n_frames, count)
    if n_frames >= count:
        assert len(set(centres.tolist())) == count


@quickly
@given(st.data(), lengths, counts)
@example(None, 4, 2)
def test_random_frames_lie_one_in_each_segment(data: st.DataObject | None, n_frames: int, count: int) -> None:
    draws = data.draw(draws_of(count)) if data else [JUST_BELOW_1] * count
    assert_in_segments(random_in_segments(np.array(n_frames), count, np.array(draws)), n_frames, count)


def assert_in_segments(frames: Indices, n_frames: int, count: int) -> None:
    """Assert frames in range and in order, and frame k in the segment [k n / T, (k + 1) n / T)."""
    assert frames.shape == (count,)
    assert ((frames >= 0) & (frames < n_frames)).all()
    assert (np.diff(frames) >= 0).all()
    for number, frame in enumerate(frames.tolist()):
        start, end = Fraction(number * n_frames, count), Fraction((number + 1) * n_frames, count)
        assert math.floor(start) <= frame < end


@pytest.mark.parametrize(("n_frames", "count"), [(40, 8), (43, 8), (8, 8), (3, 8), (1, 8), (5, 1)])
def test_random_frames_reach_all_frames_and_favour_none(n_frames: int, count: int) -> None:
    draws = uniform(7, np.arange(20_000)[:, None], np.arange(count))
    frames = random_in_segments(np.full(20_000, n_frames), count, draws)
    seen = np.bincount(frames.ravel(), minlength=n_frames)
    expected = frames.size / n_frames
    assert len(seen) == n_frames
    # a frame is drawn `expected` times on average; eight deviations of a Poisson number are never seen
    assert np.abs(seen - expected).max() < 8 * math.sqrt(expected)


@quickly
@given(lengths, counts, strides, draws_below_1)
def test_a_dense_window_is_evenly_spaced_and_in_range(n_frames: int, count: int, stride: int, draw: float) -> None:
    frames = dense_window(np.array(n_frames), count, stride, np.array(draw))
    span = (count - 1) * stride + 1
    assert frames.shape == (count,)
    assert ((frames >= 0) & (frames < n_frames)).all()
    if span <= n_frames:
        assert (np.diff(frames) == stride).all()
    else:
        assert frames.tolist() == [number * stride % n_frames for number in range(count)]


def test_a_dense_window_reaches_both_ends_and_its_middle_is_the_middle() -> None:
    def windows(draw: float) -> list[int]:
        return dense_window(np.array(20), 4, 3, np.array(draw)).tolist()

    assert windows(0.0) == [0, 3, 6, 9]
    assert windows(0.5) == [5, 8, 11, 14]
    assert windows(JUST_BELOW_1) == [10, 13, 16, 19]


# Views


@quickly
@given(views, seeds, epochs, st.lists(st.tuples(item_numbers, lengths), min_size=1, max_size=8))
def test_a_view_is_in_range_and_a_pure_function_of_the_item(
    view: View, seed: int, epoch: int, batch: list[tuple[int, int]]
) -> None:
    items, n_frames = np.array(batch).T
    frames = view.frames(seed, epoch, items, n_frames)
    assert frames.shape == (len(batch), view.n_frames)
    assert frames.dtype == np.int64
    assert ((frames >= 0) & (frames < n_frames[:, None])).all()
    alone = [view.frames(seed, epoch, items[i : i + 1], n_frames[i : i + 1])[0] for i in range(len(batch))]
    np.testing.assert_array_equal(frames, alone)
    np.testing.assert_array_equal(view.frames(seed, epoch, items[::-1], n_frames[::-1]), frames[::-1])


@quickly
@given(views, seeds, epochs, st.lists(st.tuples(item_numbers, lengths), min_size=1, max_size=8))
def test_a_view_of_segments_never_goes_back_in_time(
    view: View, seed: int, epoch: int, batch: list[tuple[int, int]]
) -> None:
    if view.sampling == "segments":
        items, n_frames = np.array(batch).T
        assert (np.diff(view.frames(seed, epoch, items, n_frames), axis=1) >= 0).all()


@quickly
@given(views, seeds, epochs, st.lists(st.tuples(item_numbers, lengths), min_size=1, max_size=8), st.integers(1, 20))
def test_a_down_sampled_view_shows_kept_frames_only(
    view: View, seed: int, epoch: int, batch: list[tuple[int, int]], seen_frames: int
) -> None:
    view = View(view.name, view.n_frames, view.sampling, view.random, view.stride, seen_frames)
    items, n_frames = np.array(batch).T
    for frames, n in zip(view.frames(seed, epoch, items, n_frames).tolist(), n_frames.tolist(), strict=True):
        assert set(frames) <= set(published_centres(n, seen_frames))


def test_a_view_without_chance_takes_the_centres_in_every_epoch() -> None:
    view = View(random=False)
    n_frames = np.array([1, 5, 8, 100])
    frames = view.frames(1, 2, np.arange(4), n_frames)
    assert frames.tolist() == [published_centres(n, 8) for n in n_frames.tolist()]
    np.testing.assert_array_equal(frames, view.frames(3, 4, np.arange(4), n_frames))


@pytest.mark.parametrize("view", [View(), View(sampling="dense", n_frames=2), View(seen_frames=16)])
def test_epochs_seeds_and_items_draw_independently(view: View) -> None:
    items, n_frames = np.arange(4000), np.full(4000, 400)
    frames = view.frames(0, 0, items, n_frames)[:, 0]
    others = {
        "epoch": view.frames(0, 1, items, n_frames)[:, 0],
        "seed": view.frames(1, 0, items, n_frames)[:, 0],
        "item": np.roll(frames, 1),
    }
    for what, other in others.items():
        assert abs(np.corrcoef(frames, other)[0, 1]) < 0.08, what  # 5 deviations of 1 / sqrt(4000)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"sampling": "keyframes"}, "sampling 'keyframes' is not known; allowed: segments, whole-segments, dense"),
        ({"n_frames": 0}, "frames 0 is out of range; allowed: 1 or more"),
        ({"stride": 0}, "stride 0 is out of range; allowed: 1 or more"),
        ({"seen_frames": -1}, "seen frames -1 is out of range; allowed: 1 or more"),
        ({"seen_frames": 0}, "seen frames 0 is out of range; allowed: 1 or more"),
    ],
)
def test_views_that_make_no_sense_are_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        View(**wrong)  # type: ignore[arg-type]
    assert str(caught.value) == says


# Order


@quickly
@given(st.integers(0, 300), seeds, epochs)
def test_an_epoch_is_a_permutation(n_items: int, seed: int, epoch: int) -> None:
    order = epoch_order(n_items, seed, epoch)
    assert sorted(order.tolist()) == list(range(n_items))
    np.testing.assert_array_equal(order, epoch_order(n_items, seed, epoch))
    assert epoch_order(n_items, seed, epoch, shuffle=False).tolist() == list(range(n_items))


@quickly
@given(st.lists(st.integers(-1, 12), max_size=120), st.integers(1, 14), seeds, epochs)
def test_groups_of_shards_come_one_after_another(numbers: list[int], group: int, seed: int, epoch: int) -> None:
    shards = np.array(numbers, np.int64)
    order = grouped_order(shards, seed, epoch, group)
    assert sorted(order.tolist()) == list(range(len(shards)))
    np.testing.assert_array_equal(order, grouped_order(shards, seed, epoch, group))
    ordered = shards[order]
    used, places = first_uses(ordered)
    stored = ordered[ordered >= 0].tolist()
    assert used.tolist() == list(dict.fromkeys(stored))
    assert ordered[places].tolist() == used.tolist()
    for first in range(0, len(used), group):  # each group is through before the next begins
        count = int(np.isin(stored, used[first : first + group]).sum())
        assert set(stored[:count]) == set(used[first : first + group].tolist())
        del stored[:count]
    if len(used) <= group:
        np.testing.assert_array_equal(order, epoch_order(len(shards), seed, epoch))


def test_items_of_no_shard_are_spread_over_the_groups() -> None:
    shards = np.concatenate([np.repeat(np.arange(10), 20), np.full(600, -1)])
    loose = shards[grouped_order(shards, 0, 0, 2)].reshape(5, -1) < 0  # five groups of 40 stored clips each
    assert loose.sum(1).min() > 90


def test_orders_are_shuffled_alike_by_no_two_epochs() -> None:
    orders = np.array([epoch_order(50, 0, epoch) for epoch in range(2000)])
    assert len({tuple(order) for order in orders.tolist()}) == 2000
    # every item comes at every place about as often: 2,000 epochs, 50 places
    places = np.stack([np.bincount(orders[:, place], minlength=50) for place in range(50)])
    assert np.abs(places - 40).max() < 8 * math.sqrt(40)


@quickly
@given(st.integers(0, 200), st.integers(1, 9), st.integers(1, 20))
def test_ranks_see_every_item_once_in_equally_many_batches(n_items: int, world_size: int, batch_size: int) -> None:
    order = epoch_order(n_items, 3, 1)
    ranks = [rank_share(order, rank, world_size, batch_size, drop_last=False) for rank in range(world_size)]
    assert len({len(batches) for batches in ranks}) == 1
    seen = Counter(int(item) for batches in ranks for batch in batches for item in batch)
    assert seen == Counter(range(n_items))
    for batches in ranks:
        assert all(len(batch) == batch_size for batch in batches[:-1])
        assert all(len(batch) <= batch_size for batch in batches)


@quickly
@given(st.integers(0, 200), st.integers(1, 9), st.integers(1, 20))
def test_dropping_the_last_leaves_full_batches_only(n_items: int, world_size: int, batch_size: int) -> None:
    order = epoch_order(n_items, 3, 1)
    ranks = [rank_share(order, rank, world_size, batch_size, drop_last=True) for rank in range(world_size)]
    seen = Counter(int(item) for batches in ranks for batch in batches for item in batch)
    n_batches = n_items // (world_size * batch_size)
    assert {len(batches) for batches in ranks} == {n_batches}
    assert {len(batch) for batches in ranks for batch in batches} <= {batch_size}
    assert seen == Counter(order[: n_batches * world_size * batch_size].tolist())


# Dice


def test_the_dice_are_the_same_on_every_machine() -> None:
    """Frozen: a change of these numbers changes every run."""
    assert bits(0).tolist() == 0xE220A8397B1DCDAF  # SplitMix64's first number for the seed 0, as published
    assert uniform(1, 2, Purpose.FRAMES, 3).tolist() == 0.751424204485591
    assert below(1000, 1, 2, Purpose.FLIP, np.arange(5)).tolist() == [130, 410, 910, 334, 448]
    assert epoch_order(8, seed=5, epoch=6).tolist() == [5, 1, 7, 6, 4, 3, 0, 2]
    assert View().frames(0, 0, np.array([11]), np.array([300])).tolist() == [[32, 69, 78, 142, 157, 212, 232, 289]]
    assert {purpose.name: purpose.value for purpose in Purpose} == {
        "ORDER": 1,
        "FRAMES": 2,
        "CROP_SCALE": 3,
        "CROP_PLACE": 4,
        "FLIP": 5,
        "REPLACEMENT": 6,
        "OWN_DRAWS": 7,
        "COLOURS": 8,
        "SHARD_ORDER": 9,
        "REPLAY_ORDER": 10,
    }


@quickly
@given(st.lists(st.integers(-(2**63), 2**64 - 1), min_size=1, max_size=5))
def test_draws_are_in_the_unit_interval(chain: list[int]) -> None:
    draw = uniform(*chain)
    assert draw.shape == ()
    assert 0 <= draw < 1


@quickly
@given(seeds, st.integers(1, 5), st.integers(1, 5), st.integers(1, 2**31))
def test_a_draw_depends_on_its_integers_and_not_on_the_array_around(seed: int, rows: int, columns: int, n: int) -> None:
    row_numbers, column_numbers = np.arange(rows)[:, None], np.arange(columns)
    together = uniform(seed, row_numbers, column_numbers)
    assert together.shape == (rows, columns)
    assert together.tolist() == [[float(uniform(seed, r, c)) for c in range(columns)] for r in range(rows)]
    limited = below(n, seed, row_numbers, column_numbers)
    assert ((limited >= 0) & (limited < n)).all()


def test_draws_are_uniform_and_independent_of_their_neighbours() -> None:
    n = 200_000
    for draws in (uniform(0, 0, np.arange(n)), uniform(0, np.arange(n), 0), uniform(np.arange(n), 0, 0)):
        seen = np.bincount((draws * 100).astype(int), minlength=100)
        chi_squared = ((seen - n / 100) ** 2 / (n / 100)).sum()
        assert 40 < chi_squared < 180  # 99 degrees of freedom: 99 +- 14
        assert abs(np.corrcoef(draws[1:], draws[:-1])[0, 1]) < 0.012  # 5 deviations of 1 / sqrt(n)
    purposes = [uniform(0, 0, purpose, np.arange(n)) for purpose in Purpose]
    correlations = np.corrcoef(purposes) - np.eye(len(purposes))
    assert np.abs(correlations).max() < 0.012


def test_the_order_of_the_integers_matters() -> None:
    assert len({int(bits(*chain)) for chain in [(1, 2, 3), (3, 2, 1), (2, 1, 3), (1, 2), (1, 2, 3, 0), (0, 1, 2)]}) == 6
