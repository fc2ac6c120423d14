"""The clips of one split of a data set as a stream, with the usual augmentation for training or evaluation."""

from __future__ import annotations

import torch

from vclimb.pipeline.clips.augment import Augmentation
from vclimb.pipeline.clips.provider import InstanceProvider
from vclimb.pipeline.clips.sampling import View
from vclimb.pipeline.dataset.cache_settings import CacheSettings
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.stream.batches import StreamSettings
from vclimb.pipeline.stream.choose import open_stream
from vclimb.pipeline.stream.clip_stream import ClipStream


def stream_split(
    dataset: StoredDataset,
    split: str | None,
    *,
    batch_size: int,
    size: int,
    clip_frames: int,
    seed: int,
    epoch: int,
    training: bool,
    device: torch.device | str | None,
    decoder: str,
    workers: int | None,
) -> ClipStream:
    """Open a stream whose workers end with each epoch; see `vclimb.Dataset.stream` for the arguments."""
    instances = dataset.instances if split is None else dataset.instances.in_split(split)
    if not instances:
        splits = sorted(map(repr, dataset.instances.splits()))
        raise SettingsError(f"{dataset.name} has no split {split!r}; allowed: {', '.join(splits)}, or None for all")
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    dataset = dataset.cached(CacheSettings.default(), dataset.shard_group)
    settings = StreamSettings(
        batch_size=batch_size,
        views=(View(n_frames=clip_frames, random=training),),
        augmentation=Augmentation(size) if training else Augmentation.evaluation(size),
        seed=seed,
        shuffle=training,
        shard_group=dataset.shard_group,
        close_after_epoch=True,
    )
    provider = InstanceProvider(dataset, instances)
    stream, _ = open_stream(provider, provider.codec, settings, torch.device(device), decoder, workers)
    stream.load_state_dict({"epoch": epoch, "position": 0})
    return stream
