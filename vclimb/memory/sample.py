"""The cost of exemplars, measured on a sample of instances: for plans, before a memory is made."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vclimb.memory.choice.frames import FrameChoice
from vclimb.memory.store.stored_class import encode_chunk
from vclimb.pipeline.arrays import Indices, Pixels
from vclimb.pipeline.clips.provider import InstanceProvider, source_frames
from vclimb.pipeline.codecs.exemplar import ExemplarCodec
from vclimb.pipeline.dataset.dataset import StoredDataset, StoredInstance

# Bytes besides the frames: of an empty memory, of the metadata of a class, and of an exemplar's row in the table.
ROOT_BYTES, CLASS_BYTES, EXEMPLAR_BYTES = 450, 2500, 40


def spread_sample(instances: Sequence[StoredInstance], n_videos: int) -> list[StoredInstance]:
    """Choose up to `n_videos` instances that are spread evenly over a list."""
    return [instances[place] for place in np.unique(np.linspace(0, len(instances) - 1, n_videos).astype(int))]


def bytes_per_frame(
    dataset: StoredDataset, instances: Sequence[StoredInstance], codec: ExemplarCodec, choice: FrameChoice
) -> float:
    """Measure the mean bytes on disk of a kept frame of some instances.

    Raises:
        FrameDamagedError: a frame of the data set doesn't decode.
        SettingsError: the codec can't take the data set's frames.
    """
    provider = InstanceProvider(dataset, list(instances))
    n_bytes = n_frames = 0
    for item in range(len(instances)):

        def pixels(numbers: Indices, item: int = item) -> Pixels:
            return source_frames(provider, item, numbers).pixels

        numbers = choice.choose(int(provider.items.n_frames[item]), str(provider.items.keys[item]), pixels)
        encoded = codec.encode(source_frames(provider, item, numbers))
        n_bytes += len(encode_chunk(b"".join(encoded.clip.units)))
        n_frames += len(numbers)
    return n_bytes / n_frames
