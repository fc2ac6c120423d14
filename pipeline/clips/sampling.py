"""Sampling of a clip's frames, and the order of items: pure functions of (seed, epoch, item).

Sources: temporal segment networks (Wang et al., ECCV 2016, section 3.1): T segments of equal length, a random frame of
each in training, the centre frames in evaluation. The benchmark's memory (Villa et al., CVPR 2022): K frames at
`int(tick / 2 + tick * x)`, tick = n / K, which is the rule of the centres.

A clip of T = 4 frames, marked x, from an instance of 20 frames:

    centres             ..x....x....x....x..    View(n_frames=4, random=False)
    random in segments  x.......x.x........x    View(n_frames=4)
    dense window        .....x.x.x.x........    View(n_frames=4, sampling="dense", stride=2)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.clips.dice import Integers, Purpose, bits, uniform
from vclimb.pipeline.errors import SettingsError


def segment_centres(n_frames: Indices, count: int) -> Indices:
    """Choose the centre frame of each of `count` equal segments: (..., count) from n_frames (...).

    Frames repeat where there are fewer frames than segments.
    """
    n_frames = np.asarray(n_frames, np.int64)[..., None]
    # floor((2k + 1) n / 2T), in integers
    return (2 * np.arange(count) + 1) * n_frames // (2 * count)


def random_in_segments(n_frames: Indices, count: int, draws: npt.NDArray[np.float64]) -> Indices:
    """Choose a random frame of each of `count` equal segments: (..., count), in non-decreasing order.

    `n_frames` (...) are at least 1, and `draws` (..., count) are uniform random numbers in [0, 1).
    """
    n_frames = np.asarray(n_frames, np.int64)[..., None]
    segments = np.arange(count)
    frames = np.floor((segments + draws) * n_frames / count).astype(np.int64)
    # Rounding may carry a draw just below 1 into the next segment.
    last: Indices = ((segments + 1) * n_frames - 1) // count
    return np.minimum(frames, last)


def random_in_whole_segments(n_frames: Indices, count: int, draws: npt.NDArray[np.float64]) -> Indices:
    """Choose a random frame of each of `count` segments of n_frames // count frames: the rest is never chosen.

    So does the benchmark's released code. Instances of fewer than `count` frames are sampled by `random_in_segments`,
    whose arguments these are.
    """
    n_frames = np.asarray(n_frames, np.int64)
    whole = n_frames // count * count
    return random_in_segments(np.where(whole, whole, n_frames), count, draws)


def dense_window(n_frames: Indices, count: int, stride: int, draws: npt.NDArray[np.float64]) -> Indices:
    """Choose `count` frames, `stride` apart: (..., count) from n_frames (...).

    Uniform random numbers `draws` (...) in [0, 1) place the window; 0.5 centres it. An instance shorter than the window
    is repeated from its first frame.
    """
    n_frames = np.asarray(n_frames, np.int64)
    free = np.maximum(n_frames - ((count - 1) * stride + 1), 0)
    start = np.floor(draws * (free + 1)).astype(np.int64)
    frames: Indices = (start[..., None] + np.arange(count) * stride) % n_frames[..., None]
    return frames


@dataclass(frozen=True)
class View:
    """Rule by which a clip's frames are chosen.

    Attributes:
        sampling: `segments` (TSN), `whole-segments` (those of the benchmark's released code) or `dense`.
        random: Whether frames are random (training), rather than centred (evaluation).
        stride: Distance of neighbouring frames of a `dense` window.
        seen_frames: Number K of frames to sample from, those that a memory would keep: the down-sampled clip of
            temporal consistency. None: all frames.
        seen: The K frames: `centres` of K segments, as a memory keeps them, or the `first`, as the benchmark's
            released code takes them for temporal consistency.
        own_draws: Whether the view's frames, crop and flip are drawn apart from those of the other views.
    """

    name: str = "clip"
    n_frames: int = 8
    sampling: Literal["segments", "whole-segments", "dense"] = "segments"
    random: bool = True
    stride: int = 2
    seen_frames: int | None = None
    seen: Literal["centres", "first"] = "centres"
    own_draws: bool = False

    def __post_init__(self) -> None:
        if self.sampling not in ("segments", "whole-segments", "dense"):
            raise SettingsError(f"sampling {self.sampling!r} is not known; allowed: segments, whole-segments, dense")
        if self.seen not in ("centres", "first"):
            raise SettingsError(f"seen frames {self.seen!r} are not known; allowed: centres, first")
        for name, value in (("frames", self.n_frames), ("stride", self.stride), ("seen frames", self.seen_frames)):
            if value is not None and value < 1:
                raise SettingsError(f"{name} {value} is out of range; allowed: 1 or more")

    def frames(self, seed: int, epoch: Integers, items: Indices, n_frames: Indices) -> Indices:
        """Choose the frame numbers of clips: (B, T) for items (B,) with n_frames (B,), in one epoch or epochs (B,)."""
        choose_from = np.asarray(n_frames, np.int64)
        if self.seen_frames is not None:
            seen = self._seen(choose_from, self.seen_frames)
            positions = self._positions(seed, epoch, items, np.full_like(choose_from, self.seen_frames))
            return np.take_along_axis(seen, positions, axis=-1)
        return self._positions(seed, epoch, items, choose_from)

    def _seen(self, n_frames: Indices, count: int) -> Indices:
        if self.seen == "first":
            return np.minimum(np.arange(count), n_frames[..., None] - 1)
        return segment_centres(n_frames, count)

    def _positions(self, seed: int, epoch: Integers, items: Indices, n_frames: Indices) -> Indices:
        items = np.asarray(items, np.int64)
        if self.sampling == "dense":
            middle = np.full(items.shape, 0.5)
            draws = uniform(seed, epoch, Purpose.FRAMES, items) if self.random else middle
            return dense_window(n_frames, self.n_frames, self.stride, draws)
        if not self.random:
            return segment_centres(n_frames, self.n_frames)
        epochs = np.asarray(epoch)[..., None]
        draws = uniform(seed, epochs, Purpose.FRAMES, items[:, None], np.arange(self.n_frames))
        choose = random_in_whole_segments if self.sampling == "whole-segments" else random_in_segments
        return choose(n_frames, self.n_frames, draws)


def epoch_order(n_items: int, seed: int, epoch: int, shuffle: bool = True) -> Indices:
    """Order the items of an epoch: a permutation of range(n_items)."""
    items = np.arange(n_items)
    if not shuffle:
        return items
    return np.argsort(bits(seed, epoch, Purpose.ORDER, items), kind="stable")


def grouped_order(shards: Indices, seed: int, epoch: int, group: int) -> Indices:
    """Order the items of an epoch by groups of shards: a permutation of range(n_items).

    The shards are shuffled, and `group` of them at a time make a group. All items of a group come before those of the
    next, in the order that `epoch_order` gives them. So a reader needs few shards at a time. A single group gives the
    order of `epoch_order`.

    Args:
        shards: (n_items,) shard number of each item; below 0 where an item lies in no shard, such as an exemplar. Those
            are spread evenly over the groups.
    """
    order = epoch_order(len(shards), seed, epoch)
    numbers, shard_of, counts = np.unique(shards, return_inverse=True, return_counts=True)
    stored = numbers >= 0
    place = np.full(len(numbers), -1)
    place[stored] = np.argsort(np.argsort(bits(seed, epoch, Purpose.SHARD_ORDER, numbers[stored]), kind="stable"))
    group_of = (place // group)[shard_of]
    if not stored.all() and stored.any():
        sizes = np.bincount((place // group)[stored], counts[stored])
        loose = np.flatnonzero(shards < 0)
        draws = uniform(seed, epoch, Purpose.SHARD_ORDER, -1, loose)
        group_of[loose] = np.searchsorted(np.cumsum(sizes) / sizes.sum(), draws, side="right")
    return order[np.argsort(group_of[order], kind="stable")]


def first_uses(shards: Indices) -> tuple[Indices, Indices]:
    """List each shard of items (n,) in their order, with the place of its first item: (n_shards,) both."""
    numbers, places = np.unique(shards, return_index=True)
    stored = np.flatnonzero(numbers >= 0)
    stored = stored[np.argsort(places[stored])]
    return numbers[stored], places[stored]


def rank_share(order: Indices, rank: int, world_size: int, batch_size: int, drop_last: bool) -> list[Indices]:
    """List the batches of one rank in an epoch. Every rank has the same number of batches.

    The items are dealt to the ranks in turn, so that all ranks together see the first `world_size * batch_size` items
    first. Where the ranks' shares differ by one item, ranks without it end with a smaller batch, possibly an empty one,
    so that no item is repeated or left out. `drop_last` drops the items that don't fill a batch on every rank.
    """
    share = order[rank::world_size]
    longest = -(-len(order) // world_size)
    n_batches = len(order) // (world_size * batch_size) if drop_last else -(-longest // batch_size)
    return [share[i * batch_size : (i + 1) * batch_size] for i in range(n_batches)]
