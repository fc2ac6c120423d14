"""Budgets and quotas: nothing is exceeded, shares are equal, and rankings are kept from their start."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vclimb.memory.choice.budget import MemoryBudget, fill, shares
from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.sizes import parse_size, size_text

quickly = settings(deadline=None, max_examples=80)

amounts = st.integers(0, 60) | st.integers(0, 3000)
availables = st.lists(st.integers(0, 30), max_size=12)
multiples = st.integers(1, 20)
costs_of_classes = st.lists(st.lists(st.integers(1, 40), max_size=15), max_size=8)


@st.composite
def stores(draw: st.DrawFn) -> tuple[int, list[list[int]], list[int]]:
    """An amount, the costs of classes and their overheads."""
    costs = draw(costs_of_classes)
    return draw(amounts), costs, draw(st.lists(st.integers(0, 25), min_size=len(costs), max_size=len(costs)))


def quotas(budget: int, available: list[int], rebalance: bool = False) -> list[int]:
    """How many exemplars each class keeps where all cost the same."""
    return fill(budget, [(1,) * count for count in available], rebalance=rebalance)


def spent(costs: list[list[int]], overheads: list[int], kept: list[int]) -> list[int]:
    """What each class costs, by the definition."""
    return [sum(c[:n]) + (o if n else 0) for c, o, n in zip(costs, overheads, kept, strict=True)]


# Text


@pytest.mark.parametrize(
    ("text", "budget", "written"),
    [
        ("2020v", MemoryBudget("videos", 2020), "2020v"),
        ("16160f", MemoryBudget("frames", 16160), "16160f"),
        (" 8 F ", MemoryBudget("frames", 8), "8f"),
        ("64MB", MemoryBudget("bytes", 64 * 10**6), "64MB"),
        ("64mb", MemoryBudget("bytes", 64 * 10**6), "64MB"),
        ("64 MiB", MemoryBudget("bytes", 64 * 2**20), "64MiB"),
        ("1.5GiB", MemoryBudget("bytes", 3 * 2**29), "1536MiB"),
        ("1000K", MemoryBudget("bytes", 10**6), "1MB"),
        ("512000kB", MemoryBudget("bytes", 512 * 10**6), "512MB"),
        ("12345B", MemoryBudget("bytes", 12345), "12345B"),
        ("none", MemoryBudget("none"), "none"),
        ("All", MemoryBudget("all"), "all"),
    ],
)
def test_budgets_are_read_and_written(text: str, budget: MemoryBudget, written: str) -> None:
    assert MemoryBudget.parse(text) == budget
    assert str(budget) == written


@quickly
@given(st.sampled_from(["videos", "frames", "bytes"]), st.integers(1, 10**18 - 1))
@example("bytes", 2**50)
@example("bytes", 10**15)
def test_a_budget_that_is_written_is_read_as_the_same(kind: Any, amount: int) -> None:
    budget = MemoryBudget(kind, amount)
    assert MemoryBudget.parse(str(budget)) == budget


@quickly
@given(st.integers(1, 10**18 - 1) | st.builds(lambda n, u: n * u, st.integers(1, 999), st.sampled_from([10**9, 2**30])))
def test_sizes_that_are_written_are_read_as_the_same(size: int) -> None:
    assert parse_size(size_text(size)) == size


@pytest.mark.parametrize(
    "text",
    ["", "2020", "v", "MB", "-5v", "1.5v", "2020vv", "1e3f", "64TB", "0B", "0MB", "nothing", "٣v", "9" * 40 + "f"],
)
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        MemoryBudget.parse(text)
    assert str(caught.value) == (
        f"budget {text!r} is not understood; write videos (2020v), frames (16160f), bytes on disk (64MB, 64MiB), "
        "none or all"
    )


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (("videos", 0), "budget of 0 videos is out of range; allowed: 1 or more, or none for no memory"),
        (("bytes", -1), "budget of -1 bytes is out of range; allowed: 1 or more, or none for no memory"),
        (("all", 7), "budget 'all' takes no amount, but 7 was given; leave it out"),
        (("clips", 7), "budget of 'clips' is not known; allowed: videos, frames, bytes, none, all"),
    ],
)
def test_budgets_that_make_no_sense_are_refused(wrong: tuple[Any, int], says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        MemoryBudget(*wrong)
    assert str(caught.value) == says
    if wrong[1] == 0:
        with pytest.raises(SettingsError, match="budget of 0 videos"):
            MemoryBudget.parse("0v")


# Quotas of exemplars that all cost the same


@quickly
@given(amounts, st.integers(0, 40), multiples)
def test_shares_are_equal_and_never_grow_with_the_classes(amount: int, n_classes: int, multiple: int) -> None:
    ours = shares(amount, n_classes, multiple)
    assert len(ours) == n_classes
    assert sum(ours) == (amount // multiple * multiple if n_classes else 0)
    assert all(share % multiple == 0 for share in ours)
    assert ours == sorted(ours, reverse=True)  # the earliest get what doesn't come out even
    assert not ours or ours[0] - ours[-1] <= multiple
    later = shares(amount, n_classes + 1, multiple)
    assert all(after <= before for before, after in zip(ours, later, strict=False))


@quickly
@given(amounts, availables)
def test_quotas_without_rebalancing_are_shares_or_all_that_there_is(budget: int, available: list[int]) -> None:
    ours = quotas(budget, available)
    assert ours == [min(*pair) for pair in zip(available, shares(budget, len(available)), strict=True)]
    # The reference code keeps budget // classes: ours is that, or one more.
    for quota, have in zip(ours, available, strict=True):
        assert quota - min(have, budget // len(available)) in (0, 1)


@quickly
@given(amounts, availables)
@example(10, [1, 9, 9])
def test_rebalancing_fills_all_classes_to_one_level(budget: int, available: list[int]) -> None:
    """Water: nothing is left that could be used, and only a class without more lies below the others' level."""
    ours = quotas(budget, available, rebalance=True)
    assert sum(ours) == min(budget, sum(available))
    assert all(quota <= have for quota, have in zip(ours, available, strict=True))
    thirsty = [quota for quota, have in zip(ours, available, strict=True) if quota < have]
    assert thirsty == sorted(thirsty, reverse=True)
    assert not thirsty or max(ours) - min(thirsty) <= 1


def test_quotas_of_the_benchmark() -> None:
    """2,020 videos of UCF101 over ten tasks: 11 classes and then 10 a task, 20 of each at the end."""
    assert quotas(2020, [100] * 11) == [100] * 11
    assert quotas(2020, [100] * 21) == [97] * 4 + [96] * 17
    assert quotas(2020, [100] * 101) == [20] * 101
    assert quotas(7, [1, 9, 9]) == [1, 2, 2]
    assert quotas(7, [1, 9, 9], rebalance=True) == [1, 3, 3]


@quickly
@given(st.integers(1, 200), st.integers(1, 16), availables, st.booleans())
def test_a_budget_of_frames_is_one_of_videos_with_as_many_frames(
    n_videos: int, n_frames: int, available: list[int], rebalance: bool
) -> None:
    costs = [[n_frames] * have for have in available]
    ones = [[1] * have for have in available]
    by_frames = MemoryBudget("frames", n_videos * n_frames).kept(costs, multiple=n_frames, rebalance=rebalance)
    assert by_frames == MemoryBudget("videos", n_videos).kept(ones, rebalance=rebalance)


# Exemplars of any cost


@quickly
@given(stores(), multiples, st.booleans())
def test_no_budget_is_ever_exceeded(
    store: tuple[int, list[list[int]], list[int]], multiple: int, rebalance: bool
) -> None:
    amount, costs, overheads = store
    kept = fill(amount, costs, overheads, multiple=multiple, rebalance=rebalance)
    assert all(0 <= n <= len(c) for n, c in zip(kept, costs, strict=True))
    assert sum(spent(costs, overheads, kept)) <= amount


@quickly
@given(stores(), multiples)
def test_each_class_keeps_the_longest_prefix_that_fits_its_share(
    store: tuple[int, list[list[int]], list[int]], multiple: int
) -> None:
    amount, costs, overheads = store
    kept = fill(amount, costs, overheads, multiple=multiple)
    for own, overhead, n, share in zip(costs, overheads, kept, shares(amount, len(costs), multiple), strict=True):
        assert n == 0 or overhead + sum(own[:n]) <= share
        assert n == len(own) or overhead + sum(own[: n + 1]) > share


@quickly
@given(stores(), multiples)
def test_rebalancing_takes_from_none_and_leaves_nothing_that_fits(
    store: tuple[int, list[list[int]], list[int]], multiple: int
) -> None:
    amount, costs, overheads = store
    plain = fill(amount, costs, overheads, multiple=multiple)
    kept = fill(amount, costs, overheads, multiple=multiple, rebalance=True)
    assert all(after >= before for before, after in zip(plain, kept, strict=True))
    left = amount - sum(spent(costs, overheads, kept))
    for own, overhead, n in zip(costs, overheads, kept, strict=True):
        assert n == len(own) or own[n] + (0 if n else overhead) > left


@quickly
@given(stores(), st.lists(costs_of_classes, max_size=4), multiples, st.booleans())
def test_a_class_never_grows_when_classes_come_over_tasks(
    store: tuple[int, list[list[int]], list[int]], later: list[list[list[int]]], multiple: int, rebalance: bool
) -> None:
    """Task by task, with what was dropped gone; without rebalancing, that is what one step from the start gives."""
    amount, costs, overheads = store
    everything, stored, counts = list(costs), list(costs), [len(own) for own in costs]
    for new in [[], *later]:
        everything, stored = everything + new, stored + new
        counts += [len(own) for own in new]
        overheads = [*overheads, *[5] * len(new)]
        kept = fill(amount, stored, overheads, multiple=multiple, rebalance=rebalance)
        assert all(after <= before for before, after in zip(counts, kept, strict=True))
        assert sum(spent(stored, overheads, kept)) <= amount
        if not rebalance:
            assert kept == fill(amount, everything, overheads, multiple=multiple)
        stored, counts = [own[:n] for own, n in zip(stored, kept, strict=True)], kept


def test_what_is_dropped_does_not_come_back_when_rebalancing() -> None:
    """A full class shrinks for a second one; the small third's unused share goes to no one who has nothing left."""
    assert quotas(12, [12], rebalance=True) == [12]
    assert quotas(12, [12, 12], rebalance=True) == [6, 6]
    assert quotas(12, [6, 6, 1], rebalance=True) == [6, 5, 1]
    assert quotas(12, [4, 4, 1], rebalance=True) == [4, 4, 1]


def test_what_makes_no_sense_is_refused() -> None:
    for wrong in (
        {"amount": -1, "costs": [[1]]},
        {"amount": 5, "costs": [[1, 0]]},
        {"amount": 5, "costs": [[1]], "overheads": [-1]},
        {"amount": 5, "costs": [[1]], "multiple": 0},
    ):
        with pytest.raises(ValueError, match="can't be shared out"):
            fill(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="2 overheads don't fit 1 classes"):
        fill(5, [[1]], [0, 0])


# A whole budget


def test_an_exemplar_costs_what_its_budget_counts() -> None:
    texts = ("9v", "9f", "9B", "none", "all")
    assert [MemoryBudget.parse(text).cost(16, 4096) for text in texts] == [1, 16, 4096, 1, 1]


@quickly
@given(costs_of_classes, st.booleans())
def test_none_keeps_nothing_and_all_keeps_everything(costs: list[list[int]], rebalance: bool) -> None:
    assert MemoryBudget("none").kept(costs, rebalance=rebalance) == [0] * len(costs)
    assert MemoryBudget("all").kept(costs, rebalance=rebalance) == [len(own) for own in costs]


@quickly
@given(stores(), st.integers(0, 500), st.booleans())
def test_a_budget_of_bytes_counts_the_store_itself(
    store: tuple[int, list[list[int]], list[int]], root_bytes: int, rebalance: bool
) -> None:
    amount, costs, overheads = store
    budget = MemoryBudget("bytes", amount + root_bytes + 1)
    kept = budget.kept(costs, root_bytes=root_bytes, class_bytes=overheads, rebalance=rebalance)
    assert root_bytes + sum(spent(costs, overheads, kept)) <= budget.amount
    assert kept == fill(amount + 1, costs, overheads, rebalance=rebalance)


def test_a_budget_of_bytes_below_an_empty_store_is_refused() -> None:
    with pytest.raises(SettingsError) as caught:
        MemoryBudget.parse("1kB").kept([[10]], root_bytes=1001)
    assert str(caught.value) == (
        "budget 1kB is 1000 bytes, but a memory without exemplars takes 1001; allow more, or write none for no memory"
    )
    assert MemoryBudget.parse("1kB").kept([[10]], root_bytes=1000) == [0]


def test_a_budget_of_videos_or_frames_counts_no_bytes() -> None:
    for text in ("2v", "2f"):
        assert MemoryBudget.parse(text).kept([[1, 1, 1]], root_bytes=10**6, class_bytes=[10**6]) == [2]
