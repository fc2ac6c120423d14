"""Batches of clips: the settings and plans that fix their content, for all decoders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.clips.augment import Augmentation, Boxes
from vclimb.pipeline.clips.dice import Purpose, bits
from vclimb.pipeline.clips.mixing import Mixing
from vclimb.pipeline.clips.provider import Items
from vclimb.pipeline.clips.sampling import View
from vclimb.pipeline.errors import SettingsError


@dataclass(frozen=True)
class StreamSettings:
    """Settings of a stream.

    Attributes:
        batch_size: Number of clips in a batch, on each rank.
        views: Views of every clip. Those without draws of their own share its crop and flip, and their common frames
            are read once.
        shuffle: Whether each epoch has a new order, rather than the provider's.
        shard_group: Number of shards whose items are shuffled together, group by group; 0: all items are shuffled
            together.
        mixing: How the clips of each batch are shared by new and replayed items; None: an epoch passes once over all.
        drop_last: Whether to drop the items that don't fill a batch on every rank.
        rank: Rank of this process, from 0.
        world_size: Number of processes that share an epoch.
        on_bad_frame: `raise`, or `skip` to replace a clip that doesn't decode by another.
        across_epochs: Whether to decode the first batches of the next epoch ahead while an epoch ends, so that
            training doesn't wait there. The batches that are ahead after the last epoch were decoded in vain.
        close_after_epoch: Whether the workers end whenever an iterator does, rather than with `close` alone.
    """

    batch_size: int = 32
    views: tuple[View, ...] = (View(),)
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0
    shuffle: bool = True
    shard_group: int = 0
    mixing: Mixing | None = None
    drop_last: bool = False
    rank: int = 0
    world_size: int = 1
    on_bad_frame: str = "raise"
    across_epochs: bool = False
    close_after_epoch: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise SettingsError(f"batch size {self.batch_size} is out of range; allowed: 1 or more")
        if self.shard_group < 0:
            raise SettingsError(f"a group of {self.shard_group} shards is out of range; allowed: 0 or more")
        if not 0 <= self.rank < self.world_size:
            raise SettingsError(f"rank {self.rank} is out of range; allowed: 0 to {self.world_size - 1}")
        if self.mixing is not None and self.mixing.batch_size != self.batch_size * self.world_size:
            raise SettingsError(
                f"{self.mixing.batch_size} clips of a batch are shared by new and replayed items, and "
                f"{self.world_size} processes take {self.batch_size} each; they must be the same number"
            )
        if self.on_bad_frame not in ("raise", "skip"):
            raise SettingsError(f"on_bad_frame {self.on_bad_frame!r} is not known; allowed: raise, skip")
        if self.across_epochs and self.close_after_epoch:
            raise SettingsError("across_epochs and close_after_epoch exclude each other; set one of them")
        if not self.views or len({view.name for view in self.views}) != len(self.views):
            raise SettingsError("a stream needs at least one view, and their names must differ")


@dataclass(frozen=True)
class BatchPlan:
    """Items, frames, crops and flips of a batch of B clips, known before anything is read.

    Each clip has G crops: one that views share, and one for each view with draws of its own.

    Attributes:
        items: (B,) numbers of the provider's items.
        rounds: (B,) epochs that the draws of the clips are those of: the batch's own, but where items are replayed more
            or less often than once an epoch, the number of times that an item was shown before.
        frames: View name -> (B, T) frame numbers within the item.
        crops: Names of the views of each crop, G tuples.
        boxes: (B, G, 4) left, top, width and height of the crops in pixels.
        flips: (B, G) whether each crop is mirrored.
    """

    epoch: int
    position: int
    items: Indices
    rounds: Indices
    frames: dict[str, Indices]
    crops: tuple[tuple[str, ...], ...]
    boxes: Boxes
    flips: npt.NDArray[np.bool_]

    def part(self, start: int, stop: int) -> BatchPlan:
        return replace(
            self,
            items=self.items[start:stop],
            rounds=self.rounds[start:stop],
            frames={name: numbers[start:stop] for name, numbers in self.frames.items()},
            boxes=self.boxes[start:stop],
            flips=self.flips[start:stop],
        )

    @staticmethod
    def joined(plans: Sequence[BatchPlan]) -> BatchPlan:
        return replace(
            plans[0],
            items=np.concatenate([plan.items for plan in plans]),
            rounds=np.concatenate([plan.rounds for plan in plans]),
            frames={name: np.concatenate([plan.frames[name] for plan in plans]) for name in plans[0].frames},
            boxes=np.concatenate([plan.boxes for plan in plans]),
            flips=np.concatenate([plan.flips for plan in plans]),
        )

    def distinct_frames(self, slot: int) -> Indices:
        """Frame numbers that a clip's views need, in rising order, each once."""
        # Not by NumPy, which takes several times as long for the few frames of a clip.
        numbers = {number for frames in self.frames.values() for number in frames[slot].tolist()}
        return np.array(sorted(numbers), np.int64)


def plan_items(
    items: Items, settings: StreamSettings, epoch: int, position: int, chosen: Indices, rounds: Indices | None = None
) -> BatchPlan:
    """Plan a batch of chosen items (B,): a pure function of the arguments.

    Args:
        rounds: (B,) epochs that the clips' draws are those of; None: `epoch`.
    """
    rounds = np.full(len(chosen), epoch) if rounds is None else rounds
    crop, widths, heights = settings.augmentation, items.widths[chosen], items.heights[chosen]
    seeds = [
        int(bits(settings.seed, Purpose.OWN_DRAWS, number)) if view.own_draws else settings.seed
        for number, view in enumerate(settings.views)
    ]
    crops: dict[int, list[str]] = {}
    for seed, view in zip(seeds, settings.views, strict=True):
        crops.setdefault(seed, []).append(view.name)
    n_frames = items.n_frames[chosen]
    return BatchPlan(
        epoch=epoch,
        position=position,
        items=chosen,
        rounds=rounds,
        frames={
            v.name: v.frames(seed, rounds, chosen, n_frames) for seed, v in zip(seeds, settings.views, strict=True)
        },
        crops=tuple(map(tuple, crops.values())),
        boxes=np.stack([crop.boxes(seed, rounds, chosen, widths, heights) for seed in crops], 1),
        flips=np.stack([crop.flips(seed, rounds, chosen) for seed in crops], 1),
    )
