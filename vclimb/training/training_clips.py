"""The stream of training clips, in batches that all processes share."""

from __future__ import annotations

from vclimb.pipeline.arrays import Flags
from vclimb.pipeline.clips.augment import Augmentation
from vclimb.pipeline.clips.mixing import Mixing, replayed_of
from vclimb.pipeline.clips.sampling import View
from vclimb.pipeline.stream.batches import StreamSettings
from vclimb.training.run_context import RunContext

CLIP = "clip"


def training_view(run: RunContext) -> View:
    """Make the view of a training clip: a random frame of each segment."""
    exact = run.config.resolved_differences.segments == "exact"
    return View(CLIP, run.config.model.clip_frames, "segments" if exact else "whole-segments")


def training_stream(run: RunContext, views: tuple[View, ...], seed: int) -> StreamSettings:
    """Make the settings of an augmented stream; damaged clips are replaced."""
    config = run.config
    return StreamSettings(
        batch_size=max(1, config.training.batch_size // run.processes.world_size),
        views=views,
        augmentation=Augmentation(config.model.size, colours=config.training.augmentation),
        seed=seed,
        shard_group=config.shard_group,
        drop_last=config.resolved_differences.last_batch == "dropped",
        rank=run.processes.rank,
        world_size=run.processes.world_size,
        on_bad_frame="skip",
    )


def make_mixing(run: RunContext, is_replay: Flags) -> Mixing | None:
    """Make the parts of a task's batches from `memory.share`; None: an epoch passes once over all items.

    Args:
        is_replay: (n,) whether an item that is trained on is an exemplar; new ones come first.
    """
    if is_replay.all() or not is_replay.any() or (share := run.config.memory.share) is None:
        return None
    batch_size = run.config.training.batch_size
    return Mixing(int((~is_replay).sum()), batch_size, replayed_of(share, batch_size))
