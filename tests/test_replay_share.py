"""The share of exemplars in a batch: the order of clips for any numbers of them, and runs with one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_cases import JpegsInMemory
from training_cases import comparable, final_network, tiny_config

from vclimb.pipeline.clips.augment import Augmentation
from vclimb.pipeline.clips.mixing import Mixing, replayed_of
from vclimb.pipeline.clips.sampling import View, epoch_order
from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.stream.batches import BatchPlan, StreamSettings
from vclimb.pipeline.stream.cpu import CpuClipStream
from vclimb.training.learner import Learner
from vclimb.training.plan import plan_run
from vclimb.training.run import train

quickly = settings(deadline=None, max_examples=100)


@st.composite
def mixings(draw: st.DrawFn) -> Mixing:
    batch_size = draw(st.integers(2, 24))
    return Mixing(draw(st.integers(1, 60)), batch_size, draw(st.integers(1, batch_size - 1)))


@quickly
@given(mixings(), st.integers(1, 30), st.integers(0, 2**64 - 1))
def test_every_epoch_passes_once_over_the_new_items_and_every_batch_has_its_exemplars(
    mixing: Mixing, n_exemplars: int, seed: int
) -> None:
    n_items, shown = mixing.n_new + n_exemplars, Counter[int]()
    for epoch in range(3):
        new = epoch_order(mixing.n_new, seed, epoch)
        items, rounds = mixing.order(new, n_items, seed, epoch)
        assert len(items) == len(rounds) == mixing.n_clips
        is_replayed = items >= mixing.n_new
        assert items[~is_replayed].tolist() == new.tolist()
        assert (rounds[~is_replayed] == epoch).all()
        for first in range(0, len(items), mixing.batch_size):
            batch = is_replayed[first : first + mixing.batch_size]
            assert (np.diff(batch.astype(int)) >= 0).all()  # new items come first
            if len(batch) == mixing.batch_size:
                assert batch.sum() == mixing.replayed
            else:  # their share of a smaller batch, rounded
                new_clips = mixing.batch_size - mixing.replayed
                assert abs(batch.sum() - (~batch).sum() * mixing.replayed / new_clips) <= 0.5
        for item, number in zip(items[is_replayed].tolist(), rounds[is_replayed].tolist(), strict=True):
            assert number == shown[item]
            shown[item] += 1
    times = [shown[item] for item in range(mixing.n_new, n_items)]
    assert max(times) - min(times) <= 1


def test_exemplars_come_in_another_order_in_each_round() -> None:
    mixing = Mixing(n_new=400, batch_size=8, replayed=4)
    items, rounds = mixing.order(np.arange(400), 440, seed=0, epoch=0)
    orders = [tuple(items[(items >= 400) & (rounds == number)].tolist()) for number in range(10)]
    assert {tuple(sorted(order)) for order in orders} == {tuple(range(400, 440))}
    assert len({*orders}) == 10


@pytest.mark.parametrize(
    ("share", "size", "count"), [(0.5, 8, 4), (0.5, 5, 3), (0.01, 8, 0), (0.25, 2, 1), (0.9, 4, 4)]
)
def test_a_share_is_rounded(share: float, size: int, count: int) -> None:
    assert replayed_of(share, size) == count


# Streams


def plans_of(rank: int, world_size: int, epoch: int, start: int = 0) -> list[BatchPlan]:
    """Plan the batches of one process, of 8 clips over all processes, from 13 new items and 5 exemplars."""
    stream_settings = StreamSettings(
        batch_size=8 // world_size,
        views=(View(n_frames=2),),
        augmentation=Augmentation(32),
        mixing=Mixing(13, 8, 4),
        rank=rank,
        world_size=world_size,
    )
    with CpuClipStream(JpegsInMemory(18, 20), stream_settings, workers=0) as stream:
        assert stream.n_clips == 26
        assert len(stream) == 4
        return [*stream.plans(epoch, start)]


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_share_the_batches_of_one_and_both_kinds_of_items(world_size: int) -> None:
    alone = plans_of(0, 1, epoch=2)
    ranks = [plans_of(rank, world_size, epoch=2) for rank in range(world_size)]
    assert [len(plan.items) for plan in alone] == [8, 8, 8, 2]
    for number, plan in enumerate(alone):
        parts = [rank[number] for rank in ranks]
        for rank, part in enumerate(parts):
            assert part.items.tolist() == plan.items[rank::world_size].tolist()
            assert np.array_equal(part.frames["clip"], plan.frames["clip"][rank::world_size])
            assert np.array_equal(part.boxes, plan.boxes[rank::world_size])
            if len(plan.items) == 8:
                assert (part.items >= 13).sum() == 4 // world_size
    left = plans_of(0, 1, epoch=2, start=2)
    assert [plan.items.tolist() for plan in left] == [plan.items.tolist() for plan in alone[2:]]


def test_an_exemplar_that_comes_twice_in_an_epoch_is_another_clip() -> None:
    clips: dict[int, list[Any]] = {}
    for epoch in range(4):
        for plan in plans_of(0, 1, epoch):
            for slot in np.flatnonzero(plan.items >= 13).tolist():
                clip = plan.frames["clip"][slot].tolist(), plan.boxes[slot].tolist(), plan.flips[slot].tolist()
                clips.setdefault(int(plan.items[slot]), []).append(clip)
    assert sum(map(len, clips.values())) == 4 * 13
    for shown in clips.values():
        assert len({*map(str, shown)}) >= len(shown) - 2  # of 20 frames, two may be drawn again


def test_a_stream_whose_processes_take_another_batch_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"8 clips of a batch are shared .* 2 processes take 8 each"):
        StreamSettings(batch_size=8, world_size=2, mixing=Mixing(13, 8, 4))


# Runs


def test_a_run_with_a_share_shows_it_plans_it_and_goes_on_exactly(synth_shards: Path, tmp_path: Path) -> None:
    more = ("memory.share=0.5", "training.epochs=2", "compute.checkpoint_seconds=0")
    config = tiny_config(synth_shards, "naive", *more)
    batches: list[list[int]] = []
    steps, stop_at = Learner.step, 0

    def recorded(self: Learner, method: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        terms = steps(self, method, batch, *args, **kwargs)
        batches.append(batch.labels.tolist())
        if len(batches) == stop_at:
            raise KeyboardInterrupt
        return terms

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Learner, "step", recorded)
        whole = train(config, tmp_path / "whole")
        # 8 new clips: a batch of 8 in each epoch of the first task, then two batches of 4 and 4 exemplars.
        assert [task.steps for task in whole.tasks] == [2, 4, 4]
        for number, n_old in ((1, 2), (2, 4)):
            of_task = batches[2:6] if number == 1 else batches[6:]
            assert [sum(label < n_old for label in labels) for labels in of_task] == [4] * 4
            new = Counter(label for labels in of_task for label in labels if label >= n_old)
            assert set(new.values()) == {8}
        planned = plan_run(config)
        assert [task.steps for task in planned.tasks] == [2, 4, 4]
        assert [task.clips for task in planned.tasks] == [16, 32, 32]

        batches.clear()
        stop_at = 5  # in the second epoch of the second task
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "stopped")
    assert comparable(train(config, tmp_path / "stopped", resume=True)) == comparable(whole)
    first, second = final_network(tmp_path / "whole"), final_network(tmp_path / "stopped")
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    ("method", "more", "says"),
    [
        ("naive", ("memory.share=0.05",), r"memory.share 0.05 of training.batch_size 8 is 0 clips, .* 0.12 to 0.88"),
        ("naive", ("memory.share=0.95",), r"memory.share 0.95 of training.batch_size 8 is 8 clips"),
        ("gdumb", ("memory.share=0.5",), r"memory.share is 0.5, and method gdumb trains on exemplars alone; leave it"),
        ("features", ("memory.share=0.5", "memory.budget=9v"), r"method features trains on no clips of exemplars"),
        (
            "lwf",
            ("memory.share=0.5",),
            r"memory.share is 0.5, and method lwf trains on no clips of exemplars; leave it out",
        ),
    ],
)
def test_a_share_that_no_batch_can_have_is_refused(
    method: str, more: tuple[str, ...], says: str, synth_shards: Path
) -> None:
    with pytest.raises(SettingsError, match=says):
        plan_run(tiny_config(synth_shards, method, *more))


@pytest.mark.parametrize("share", ["0", "1", "1.5"])
def test_a_share_lies_between_0_and_1(share: str, synth_shards: Path) -> None:
    with pytest.raises(SettingsError, match=r"memory\.share"):
        tiny_config(synth_shards, "naive", f"memory.share={share}")
